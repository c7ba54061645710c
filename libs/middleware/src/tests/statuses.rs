//! Statuses that others made leave complete: a reason, the request id, and nothing that nobody should read.

use rowhouse_context::ServiceName;
use rowhouse_proto::crm::v1::GetContactRequest;
use tonic::Code;

use crate::stack::Listener;
use crate::tests::control::{self, Without};
use crate::tests::wire::{Answer, Call, Client, frame};
use crate::tests::world::{EXPORT, GET, World, service_token};

fn get(world: &World) -> Call {
    Call::new(GET).bearer(&world.member())
}

/// A message that nests `depth` groups of an unknown field; prost reads at most 100.
fn nested(depth: usize) -> Vec<u8> {
    [vec![0x1b; depth], vec![0x1c; depth]].concat()
}

#[tokio::test]
async fn damaged_messages_are_the_callers_fault() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let compressed = [1, 0, 0, 0, 1, 0];
    let cases: [(&str, Vec<u8>, Code, &str); 8] = [
        ("no body", vec![], Code::InvalidArgument, "MESSAGE_MALFORMED"),
        ("half a frame", vec![0, 0], Code::InvalidArgument, "MESSAGE_MALFORMED"),
        (
            "half a message",
            vec![0, 0, 0, 0, 9, 1],
            Code::InvalidArgument,
            "MESSAGE_MALFORMED",
        ),
        (
            "bad UTF-8",
            frame(&[0x0a, 1, 0xff]).to_vec(),
            Code::InvalidArgument,
            "MESSAGE_MALFORMED",
        ),
        (
            "bad wire type",
            frame(&[0x0f]).to_vec(),
            Code::InvalidArgument,
            "MESSAGE_MALFORMED",
        ),
        (
            "deep nesting",
            frame(&nested(200)).to_vec(),
            Code::InvalidArgument,
            "MESSAGE_MALFORMED",
        ),
        (
            "compressed",
            compressed.to_vec(),
            Code::InvalidArgument,
            "MESSAGE_MALFORMED",
        ),
        (
            "4 GiB announced",
            vec![0, 255, 255, 255, 255],
            Code::ResourceExhausted,
            "MESSAGE_TOO_LARGE",
        ),
    ];
    for (case, body, code, reason) in cases {
        let answer = client.call(&get(&world).body(body)).await;
        answer.assert(case, code, reason);
    }
    // Compression that is not taken is UNIMPLEMENTED, as the gRPC specification asks; nothing is inflated.
    let bomb = get(&world).with("grpc-encoding", "gzip").body(compressed.to_vec());
    let answer = client.call(&bomb).await;
    answer.assert("gzip", Code::Unimplemented, "ENCODING_UNSUPPORTED");
    client.call(&get(&world)).await.assert("an empty message", Code::Ok, "");
}

#[tokio::test]
async fn a_bare_status_of_a_handler_gets_its_details() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let by_id = |id: &str| get(&world).message(&GetContactRequest { id: id.to_owned() });
    let answer = client.call(&by_id("foreign")).await;
    answer.assert("foreign", Code::Internal, "INTERNAL");
    assert!(!format!("{answer:?}").contains("t_17"), "{answer:?}");
    assert!(!answer.message.is_empty());
    let answer = client.call(&by_id("incomplete")).await;
    assert_ne!(answer.reason, "", "{answer:?}");
}

async fn export(world: &World, client: &Client, request_id: &str) -> Answer {
    let call = Call::new(EXPORT)
        .with(
            "x-service-authorization",
            service_token(ServiceName::Worker, ServiceName::Crm),
        )
        .bearer(&world.delegate(ServiceName::Worker, false))
        .with("x-request-id", request_id);
    client.call(&call).await
}

#[tokio::test]
async fn statuses_in_the_trailers_of_a_stream_are_completed() {
    let world = World::new();
    let client = Client::of(world.internal()).await;
    let answer = export(&world, &client, "fails").await;
    answer.assert("own status", Code::Unauthenticated, "SESSION_REVOKED");
    assert!(!answer.body.is_empty());
    let answer = export(&world, &client, "fails-bare").await;
    answer.assert("foreign status", Code::Internal, "INTERNAL");
    assert!(!format!("{answer:?}").contains("t_17"), "{answer:?}");
    export(&world, &client, "ends").await.assert("end", Code::Ok, "");
}

/// The control: without the layer, tonic's own statuses leave bare.
#[tokio::test]
async fn without_completion_statuses_leave_bare() {
    let world = World::new();
    let client = Client::of(control::stack(&world, Listener::Public, Without::Completion)).await;
    let answer = client.call(&get(&world).body(vec![])).await;
    assert_eq!((answer.reason.as_str(), answer.request_info.as_deref()), ("", None));
}

/// And without the request id there is none to tell.
#[tokio::test]
async fn without_the_request_id_layer_no_id_is_told() {
    let world = World::new();
    let client = Client::of(control::stack(&world, Listener::Public, Without::RequestId)).await;
    let answer = client.call(&get(&world)).await;
    assert_eq!(answer.header("x-request-id"), "");
}
