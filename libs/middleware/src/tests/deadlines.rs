//! Deadlines: read strictly, capped, and kept before the answer, within a stream and while the request arrives.

use std::time::Duration;

use axum::body::Body;
use futures_util::{StreamExt as _, stream};
use rowhouse_context::ServiceName;
use rowhouse_proto::crm::v1::GetContactRequest;
use tokio::time::Instant;
use tonic::Code;

use crate::tests::wire::{Call, Client};
use crate::tests::world::{EXPORT, GET, World, service_token};

fn get(world: &World, id: &str) -> Call {
    let message = GetContactRequest { id: id.to_owned() };
    Call::new(GET).bearer(&world.member()).message(&message)
}

#[tokio::test]
async fn a_time_out_that_cannot_be_read_is_refused() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    for text in ["", "1", "S", "1s", "1 S", "-1S", "1.5S", "123456789S", "soon", "\u{e4}"] {
        let answer = client.call(&get(&world, "any").with("grpc-timeout", text)).await;
        answer.assert(text, Code::InvalidArgument, "METADATA_INVALID");
    }
    let twice = get(&world, "any").with("grpc-timeout", "1S").with("grpc-timeout", "1S");
    let answer = client.call(&twice).await;
    answer.assert("twice", Code::InvalidArgument, "METADATA_INVALID");
}

#[tokio::test]
async fn no_time_at_all_expires_at_once_and_an_absurd_time_is_capped() {
    let mut world = World::new();
    world.limits.deadline_max = Duration::from_millis(50);
    let client = Client::of(world.public()).await;
    for text in ["0n", "0H", "00000000S"] {
        let answer = client.call(&get(&world, "any").with("grpc-timeout", text)).await;
        answer.assert(text, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    }
    assert_eq!(world.asked(), []);
    let begun = Instant::now();
    for call in [
        get(&world, "wait").with("grpc-timeout", "99999999H"),
        get(&world, "wait"),
    ] {
        let answer = client.call(&call).await;
        answer.assert("capped", Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    }
    // Bounded by the tests' patience only; without the cap it would be years.
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn what_the_client_asks_for_holds_where_it_is_shorter() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    for text in ["1n", "1u", "20m"] {
        let answer = client.call(&get(&world, "wait").with("grpc-timeout", text)).await;
        answer.assert(text, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    }
    let answer = client.call(&get(&world, "any").with("grpc-timeout", "20S")).await;
    answer.assert("long enough", Code::Ok, "");
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline_with_a_status() {
    let world = World::new();
    let client = Client::of(world.internal()).await;
    let call = Call::new(EXPORT)
        .with(
            "x-service-authorization",
            service_token(ServiceName::Worker, ServiceName::Crm),
        )
        .bearer(&world.delegate(ServiceName::Worker, false))
        .with("x-request-id", "endless")
        .with("grpc-timeout", "200m");
    let answer = client.call(&call).await;
    answer.assert("stream", Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    assert!(!answer.body.is_empty(), "the first page came before");
}

/// A client that sends half a message and then nothing.
#[tokio::test]
async fn a_request_that_does_not_arrive_ends_at_the_deadline_and_so_does_its_handler() {
    let mut world = World::new();
    world.limits.deadline_max = Duration::from_millis(50);
    let client = Client::of(world.public()).await;
    let half = stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[0, 0, 0, 0, 9, 1]))]);
    let body = Body::from_stream(half.chain(stream::pending()));
    let answer = client.send(get(&world, "any").request(body)).await.unwrap();
    answer.assert("half a message", Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    world.tasks.close();
    world.tasks.wait().await;
}
