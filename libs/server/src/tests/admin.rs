//! Probes: liveness of the process, readiness of its dependencies, health by name.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tonic::Streaming;
use tonic_health::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::tests::suite::{Running, SERVICE, connect, server};

const DRAIN: Duration = Duration::from_secs(10);

async fn watch(running: &Running, name: &str) -> Streaming<HealthCheckResponse> {
    let request = HealthCheckRequest {
        service: name.to_owned(),
    };
    let mut client = HealthClient::new(running.channel().await);
    client.watch(request).await.unwrap().into_inner()
}

/// Waits until the health is as expected.
async fn becomes(health: &mut Streaming<HealthCheckResponse>, status: ServingStatus) {
    while let Some(told) = health.message().await.unwrap() {
        if told.status == status as i32 {
            return;
        }
    }
    panic!("the watch ended");
}

#[tokio::test]
async fn readiness_follows_the_checks_and_liveness_does_not() {
    let good = Arc::new(AtomicBool::new(false));
    let (asked, handler) = (Arc::clone(&good), Arc::default());
    let server = server(DRAIN, &handler).ready("database", move || {
        let good = asked.load(Ordering::SeqCst);
        async move {
            if good {
                Ok(())
            } else {
                Err("refused by 10.0.0.7".to_owned())
            }
        }
    });
    let running = Running::of(server, handler).await;
    let (mut named, mut whole) = (watch(&running, SERVICE).await, watch(&running, "").await);

    becomes(&mut named, ServingStatus::NotServing).await;
    becomes(&mut whole, ServingStatus::Serving).await;
    let (code, body) = running.get("/readyz").await;
    assert_eq!(code, 503);
    assert!(!body.contains("10.0.0.7"), "{body}");
    assert_eq!(running.get("/livez").await.0, 200);

    good.store(true, Ordering::SeqCst);
    becomes(&mut named, ServingStatus::Serving).await;
    assert_eq!(running.get("/readyz").await, (200, "ready\n".to_owned()));

    good.store(false, Ordering::SeqCst);
    becomes(&mut named, ServingStatus::NotServing).await;
    assert_eq!(running.get("/readyz").await, (503, "not ready: database\n".to_owned()));
    assert_eq!(running.get("/livez").await.0, 200);
}

#[tokio::test]
async fn both_listeners_tell_health_and_the_admin_port_shows_metrics() {
    let running = Running::start(DRAIN).await;
    for address in [running.public, running.internal] {
        let mut client = HealthClient::new(connect(address).await.unwrap());
        let answer = client.check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(answer.get_ref().status, ServingStatus::Serving as i32);
        let unknown = HealthCheckRequest {
            service: "rowhouse.crm.v1.ContactService".to_owned(),
        };
        let refused = client.check(unknown).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::NotFound);
    }
    assert_eq!(running.get("/metrics").await.0, 200);
    assert_eq!(running.get("/").await.0, 404);
}

#[tokio::test]
async fn a_process_that_stops_is_not_ready_and_still_lives() {
    let running = Running::start(DRAIN).await;
    let mut named = watch(&running, SERVICE).await;
    becomes(&mut named, ServingStatus::Serving).await;
    let mut whole = watch(&running, "").await;
    running.stop.cancel();
    becomes(&mut whole, ServingStatus::NotServing).await;
    assert_eq!(running.get("/readyz").await.0, 503);
    assert_eq!(running.get("/livez").await.0, 200);
}
