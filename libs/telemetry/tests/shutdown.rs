//! A collector that takes connections and never answers does not hold up the exit.

use std::time::{Duration, Instant};

use rowhouse_config::section::Telemetry;
use tokio::net::TcpListener;
use tracing::info_span;

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_collector_holds_up_the_exit_for_a_few_seconds_at_most() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let config = Telemetry {
        filter: "info".to_owned(),
        json: false,
        otlp_endpoint: Some(format!("http://{addr}")),
    };
    let guard = rowhouse_telemetry::init("crm", &config).unwrap();
    info_span!(target: "rowhouse_crm", "lost").in_scope(|| ());
    let begun = Instant::now();
    guard.shutdown().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    drop(listener);
}
