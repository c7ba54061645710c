//! Which data servers answer, and what a process makes of it.

use std::collections::BTreeMap;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use rowhouse_config::Secret;
use rowhouse_db::{Error, Lanes, Mode, TenantDb, TenantDbConfig};
use rowhouse_devkit::log::Log;
use rowhouse_devkit::servers::Login;
use tokio::net::TcpListener;
use tracing::Level;

use crate::bench::{Bench, LONG, config, ctx};
use crate::notes::LIST;

/// Nobody listens on port 1.
const NOWHERE: &str = "postgres://rowhouse_app:none@127.0.0.1:1/postgres";

/// A process with these data servers.
async fn process(bench: &Bench, urls: &[(&str, &str)]) -> TenantDb {
    let urls = urls
        .iter()
        .map(|(name, url)| ((*name).to_owned(), Secret::new((*url).to_owned())));
    let config = TenantDbConfig {
        urls: urls.collect(),
        ..config(String::new(), Lanes::OFF)
    };
    TenantDb::connect(config, bench.directory.clone()).await.unwrap()
}

/// Which servers were said to answer, by name.
fn answering(recorder: &PrometheusRecorder) -> BTreeMap<String, bool> {
    let text = recorder.handle().render();
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("rowhouse_db_server_answers{server=\""));
    let pairs = lines.filter_map(|line| line.split_once("\"} "));
    pairs
        .map(|(server, value)| (server.to_owned(), value.parse::<f64>().unwrap() > 0.5))
        .collect()
}

#[tokio::test]
async fn one_data_server_that_answers_is_enough_and_those_that_do_not_are_named() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _local = metrics::set_default_local_recorder(&recorder);
    let bench = Bench::start("ping_one", 1).await;
    // Whoever connects is kept waiting for an answer.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("postgres://rowhouse_app:none@{}/postgres", silent.local_addr().unwrap());
    let here = bench.databases.data_url(Login::App);
    let db = process(&bench, &[("data0", NOWHERE), ("data1", &here), ("data2", &silent)]).await;
    // A look has 1.5 s, in which a machine with much to do may not connect.
    let tenant = bench.tenant().await;
    let mut tx = db.begin_single(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    tx.fetch_all(&LIST, &[]).await.unwrap();
    drop(tx);

    let log = Log::listen("rowhouse_db", Level::INFO);
    assert_eq!(db.ping().await, Ok(()));
    let entries = log.entries();
    let mut named: Vec<_> = entries.iter().filter_map(|entry| entry.field("server")).collect();
    named.sort_unstable();
    assert_eq!(named, ["data0", "data2"]);
    let expected = [("data0", false), ("data1", true), ("data2", false)];
    let expected = expected.map(|(server, answers)| (server.to_owned(), answers));
    assert_eq!(answering(&recorder), BTreeMap::from(expected));
    assert_eq!(db.ping().await, Ok(()));
    assert_eq!(log.entries().len(), 2, "once, and not at every look");
}

#[tokio::test]
async fn a_process_whose_data_servers_are_all_away_hears_why() {
    let bench = Bench::start("ping_none", 1).await;
    let db = process(&bench, &[("data0", NOWHERE), ("data1", NOWHERE)]).await;
    let pinged = db.ping().await;
    assert!(matches!(pinged, Err(Error::Unavailable(_))), "{pinged:?}");
}
