//! What grpcurl asks for, in both versions of reflection.

use std::time::Duration;

use futures_util::stream;
use tonic_reflection::pb::{v1, v1alpha};

use crate::tests::suite::{Running, SERVICE, connect};

/// Lists services and finds a symbol, in one version of the protocol.
macro_rules! reflect {
    ($version:ident, $channel:expr) => {{
        use $version::server_reflection_request::MessageRequest;
        use $version::server_reflection_response::MessageResponse;
        let ask = |message| $version::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message),
        };
        let requests = [
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol("google.rpc.ErrorInfo".to_owned())),
            ask(MessageRequest::FileContainingSymbol(format!("{SERVICE}.Login"))),
        ];
        let mut client = $version::server_reflection_client::ServerReflectionClient::new($channel);
        let mut answers = client
            .server_reflection_info(stream::iter(requests))
            .await
            .unwrap()
            .into_inner();
        let mut names = Vec::new();
        let mut files = 0;
        while let Some(answer) = answers.message().await.unwrap() {
            match answer.message_response.unwrap() {
                MessageResponse::ListServicesResponse(list) => {
                    names = list.service.into_iter().map(|service| service.name).collect();
                }
                MessageResponse::FileDescriptorResponse(_) => files += 1,
                other => panic!("{other:?}"),
            }
        }
        names.sort();
        (names, files)
    }};
}

#[tokio::test]
async fn both_versions_list_what_is_served_and_find_the_details_of_statuses() {
    let running = Running::start(Duration::from_secs(1)).await;
    let expected = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        SERVICE,
    ];
    let (names, files) = reflect!(v1, running.channel().await);
    assert_eq!((names, files), (expected.map(str::to_owned).to_vec(), 2));
    let (names, files) = reflect!(v1alpha, running.channel().await);
    assert_eq!((names, files), (expected.map(str::to_owned).to_vec(), 2));
}

#[tokio::test]
async fn the_internal_listener_does_not_reflect() {
    let running = Running::start(Duration::from_secs(1)).await;
    let channel = connect(running.internal).await.unwrap();
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel);
    let refused = client.server_reflection_info(stream::empty()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
}
