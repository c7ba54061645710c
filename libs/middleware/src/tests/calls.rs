//! The way of a call through the stack: its id, its task, panics, what is counted.

use std::sync::atomic::Ordering;

use axum::body::Body;
use metrics_exporter_prometheus::PrometheusBuilder;
use prost::Message as _;
use rowhouse_context::ServiceName;
use rowhouse_proto::crm::v1::{Contact, GetContactRequest};
use tonic::Code;

use crate::stack::Listener;
use crate::tests::control::{self, Without};
use crate::tests::wire::{Call, Client};
use crate::tests::world::{EXPORT, GET, World, service_token};

fn get(world: &World, id: &str) -> Call {
    let message = GetContactRequest { id: id.to_owned() };
    Call::new(GET).bearer(&world.member()).message(&message)
}

fn export(world: &World, request_id: &str) -> Call {
    Call::new(EXPORT)
        .with(
            "x-service-authorization",
            service_token(ServiceName::Worker, ServiceName::Crm),
        )
        .bearer(&world.delegate(ServiceName::Worker, false))
        .with("x-request-id", request_id)
}

#[tokio::test]
async fn a_request_id_is_taken_or_made_and_always_told() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let answer = client
        .call(&get(&world, "any").with("x-request-id", "client-1.a:b_c"))
        .await;
    assert_eq!(answer.header("x-request-id"), "client-1.a:b_c");
    let seen = Contact::decode(answer.body.slice(5..)).unwrap();
    assert_eq!(seen.id, "client-1.a:b_c");
    let one = client.call(&get(&world, "any")).await;
    let other = client.call(&get(&world, "any")).await;
    assert_ne!(one.header("x-request-id"), "");
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
}

#[tokio::test]
async fn a_damaged_request_id_is_refused_and_not_told_back() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let long = "a".repeat(65);
    for id in ["", "a b", "a\tb", "\u{e4}", "a,b", &long] {
        let answer = client.call(&get(&world, "any").with("x-request-id", id)).await;
        answer.assert(id, Code::InvalidArgument, "METADATA_INVALID");
        assert_ne!(answer.header("x-request-id"), id);
    }
    let twice = get(&world, "any").with("x-request-id", "a").with("x-request-id", "a");
    let answer = client.call(&twice).await;
    answer.assert("twice", Code::InvalidArgument, "METADATA_INVALID");
}

#[tokio::test]
async fn a_damaged_trace_is_ignored() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    for parent in [
        "",
        "00-zz-b7ad6b7169203331-01",
        "\u{e4}",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        let answer = client.call(&get(&world, "any").with("traceparent", parent)).await;
        answer.assert(parent, Code::Ok, "");
    }
}

#[tokio::test]
async fn a_panic_of_a_handler_is_internal_and_says_nothing() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let answer = client.call(&get(&world, "panic")).await;
    answer.assert("panic", Code::Internal, "INTERNAL");
    assert!(!format!("{answer:?}").contains("a secret"), "{answer:?}");
    client.call(&get(&world, "any")).await.assert("after it", Code::Ok, "");
}

#[tokio::test]
async fn a_panic_of_a_stream_ends_it_with_a_status() {
    let world = World::new();
    let client = Client::of(world.internal()).await;
    let answer = client.call(&export(&world, "panics")).await;
    answer.assert("panic in a stream", Code::Internal, "INTERNAL");
}

#[tokio::test]
async fn a_panic_of_a_layer_is_internal_and_without_the_layer_that_catches_it_the_stream_breaks() {
    let world = World::new();
    world.rights.panics.store(true, Ordering::SeqCst);
    let client = Client::of(world.public()).await;
    let answer = client.call(&get(&world, "any")).await;
    answer.assert("panic of rights", Code::Internal, "INTERNAL");
    let client = Client::of(control::stack(&world, Listener::Public, Without::CatchPanic)).await;
    assert!(client.try_call(&get(&world, "any")).await.is_none());
}

#[tokio::test]
async fn a_handler_finishes_in_the_span_of_its_call_when_its_client_has_gone() {
    let _local = tracing::subscriber::set_default(tracing_subscriber::registry());
    let world = World::new();
    let client = Client::of(world.public()).await;
    let call = get(&world, "wait");
    tokio::select! {
        _ = client.send(call.request(Body::from(call.body.clone()))) => panic!("the handler waits"),
        () = world.handler.begun.notified() => {}
    }
    // A second call on the same connection is answered after the first was reset: until then nobody knows that its client has
    // gone.
    client.call(&get(&world, "any")).await.assert("next", Code::Ok, "");
    world.handler.go_on.notify_one();
    world.tasks.close();
    world.tasks.wait().await;
    assert!(world.handler.finished.load(Ordering::SeqCst));
    assert_eq!(*world.handler.span.lock().unwrap(), Some("rpc"));
}

/// The control: without a task of its own, the handler's future is dropped where it stands.
#[tokio::test]
async fn without_its_own_task_a_handler_does_not_finish() {
    let world = World::new();
    let client = Client::of(control::stack(&world, Listener::Public, Without::OwnTask)).await;
    let call = get(&world, "wait");
    tokio::select! {
        _ = client.send(call.request(Body::from(call.body.clone()))) => panic!("the handler waits"),
        () = world.handler.begun.notified() => {}
    }
    // A second call on the same connection is answered after the first was reset.
    client.call(&get(&world, "any")).await.assert("next", Code::Ok, "");
    world.handler.go_on.notify_one();
    client.call(&get(&world, "any")).await.assert("next", Code::Ok, "");
    assert!(!world.handler.finished.load(Ordering::SeqCst));
}

#[tokio::test]
async fn calls_are_counted_by_rpc_and_code_and_what_is_unknown_makes_no_label() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _local = metrics::set_default_local_recorder(&recorder);
    let world = World::new();
    let public = Client::of(world.public()).await;
    let internal = Client::of(world.internal()).await;
    public.call(&get(&world, "any")).await;
    public.call(&get(&world, "panic")).await;
    public.call(&Call::new("/made.up/Path1")).await;
    public.call(&Call::new("/made.up/Path2")).await;
    internal.call(&export(&world, "fails")).await;
    let text = recorder.handle().render();
    let contact = "rowhouse.crm.v1.ContactService/GetContact";
    for line in [
        format!("rowhouse_rpc_calls_total{{rpc=\"{contact}\",code=\"OK\"}} 1"),
        format!("rowhouse_rpc_calls_total{{rpc=\"{contact}\",code=\"INTERNAL\"}} 1"),
        "rowhouse_rpc_calls_total{rpc=\"unknown\",code=\"UNIMPLEMENTED\"} 2".to_owned(),
        "rowhouse_rpc_calls_total{rpc=\"rowhouse.crm.v1.ExportService/StreamContacts\",code=\"UNAUTHENTICATED\"} 1"
            .to_owned(),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
    assert!(!text.contains("made.up"), "{text}");
}
