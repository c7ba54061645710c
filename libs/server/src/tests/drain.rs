//! The end: running calls finish, within a bound.

use std::sync::Arc;
use std::time::Duration;

use rowhouse_config::section::Listen;
use rowhouse_middleware::{Limits, stack};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Code;
use tonic::transport::Endpoint;

use crate::listener::Listener;
use crate::tests::suite::{Handler, Running, connect, listen, login, security, server_at, services};

#[tokio::test]
async fn a_running_call_is_finished_and_no_new_one_is_taken() {
    let running = Running::start(Duration::from_secs(5)).await;
    let channel = running.channel().await;
    let call = tokio::spawn(login(channel));
    running.handler.begun.notified().await;
    running.stop.cancel();
    // The listener closes after the notice; until then connections are taken.
    while connect(running.public).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!running.ended.is_finished());
    running.handler.go_on.notify_one();
    call.await.unwrap().unwrap();
    running.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_call_that_does_not_finish_is_cut_at_the_bound() {
    let running = Running::start(Duration::from_millis(200)).await;
    let call = tokio::spawn(login(running.channel().await));
    running.handler.begun.notified().await;
    running.stop.cancel();
    running.ended.await.unwrap().unwrap();
    let refused = call.await.unwrap().unwrap_err();
    assert_ne!(refused.code(), Code::Ok);
}

/// A client that opens no window for the answer: the call's deadline cannot end what cannot be sent. Without the cut nothing would
/// end the connection.
#[tokio::test]
async fn a_connection_that_does_not_end_when_told_is_cut() {
    let handler: Arc<Handler> = Arc::default();
    let call_max = Duration::from_millis(100);
    let limits = Limits {
        concurrency_max: 1,
        deadline_max: call_max,
        trusted_hops: 0,
    };
    let stack = stack::public(services(&handler).routes, security(), limits, TaskTracker::new());
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", socket.local_addr().unwrap())).unwrap();
    let closing = CancellationToken::new();
    let listener = Listener::new("public", stack, None, call_max);
    let serving = tokio::spawn(listener.serve(socket, closing.clone()));
    let channel = endpoint.initial_stream_window_size(0).connect().await.unwrap();
    let call = tokio::spawn(login(channel));
    handler.begun.notified().await;
    handler.go_on.notify_one();
    closing.cancel();
    serving.await.unwrap();
    call.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn without_calls_it_ends_after_the_notice() {
    let running = Running::start(Duration::from_millis(500)).await;
    let _idle = running.channel().await;
    running.stop.cancel();
    running.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_address_in_use_is_told() {
    let running = Running::start(Duration::from_secs(1)).await;
    let taken = Listen {
        public: running.public,
        ..listen(Duration::from_secs(1))
    };
    let server = server_at(&taken, &Arc::default());
    let fault = server.run(running.stop.clone()).await.unwrap_err();
    assert!(fault.to_string().contains(&running.public.to_string()), "{fault}");
}
