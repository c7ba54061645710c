//! Every RPC of the contract, by its policy: a new RPC is tested the moment it exists.

use rowhouse_context::ServiceName;
use rowhouse_proto::policy::{Audience, POLICIES, Policy};
use tonic::Code;

use crate::tests::wire::{Call, Client};
use crate::tests::world::{GET_JWKS, World, service_token};

/// What a caller without any credential hears on the public listener.
fn unknown_on_public(policy: &Policy) -> (Code, &'static str) {
    match policy.audience {
        Audience::Public => (Code::Ok, ""),
        Audience::Internal => (Code::Unimplemented, "METHOD_UNKNOWN"),
        Audience::Tenant | Audience::Platform | Audience::OneSelf => (Code::Unauthenticated, "CREDENTIALS_MISSING"),
    }
}

/// And on the internal one.
fn unknown_on_internal(policy: &Policy) -> (Code, &'static str) {
    match policy.audience {
        Audience::Internal => (Code::Unauthenticated, "SERVICE_IDENTITY_INVALID"),
        _ if policy.path == GET_JWKS => (Code::Ok, ""),
        _ => (Code::Unimplemented, "METHOD_UNKNOWN"),
    }
}

#[tokio::test]
async fn without_credentials_only_public_rpcs_are_served() {
    let world = World::new();
    let public = Client::of(world.public()).await;
    let internal = Client::of(world.internal()).await;
    for policy in POLICIES {
        let (code, reason) = unknown_on_public(policy);
        public
            .call(&Call::new(policy.path))
            .await
            .assert(policy.path, code, reason);
        let (code, reason) = unknown_on_internal(policy);
        internal
            .call(&Call::new(policy.path))
            .await
            .assert(policy.path, code, reason);
    }
    assert_eq!(world.asked(), []);
}

#[tokio::test]
async fn a_member_reaches_no_rpc_of_the_platform_or_of_services() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    for policy in POLICIES {
        let expected = match policy.audience {
            Audience::Platform => (Code::PermissionDenied, "AUDIENCE_MISMATCH"),
            Audience::Internal => (Code::Unimplemented, "METHOD_UNKNOWN"),
            _ => continue,
        };
        let answer = client.call(&Call::new(policy.path).bearer(&world.member())).await;
        answer.assert(policy.path, expected.0, expected.1);
    }
}

#[tokio::test]
async fn every_internal_rpc_is_for_the_services_it_names_and_no_other() {
    let world = World::new();
    let client = Client::of(world.internal()).await;
    let internal = POLICIES.iter().filter(|policy| policy.audience == Audience::Internal);
    for policy in internal {
        for name in ServiceName::ALL {
            let call = Call::new(policy.path)
                .with("x-service-authorization", service_token(name, ServiceName::Crm))
                .bearer(&world.delegate(name, false));
            let answer = client.call(&call).await;
            let refused = answer.reason == "AUDIENCE_MISMATCH";
            let named = policy.callers.contains(&name.as_str());
            assert_eq!(refused, !named, "{} by {name}: {answer:?}", policy.path);
        }
    }
}

#[tokio::test]
async fn what_is_not_an_rpc_is_not_served() {
    let world = World::new();
    let public = Client::of(world.public()).await;
    let internal = Client::of(world.internal()).await;
    for path in [
        "/",
        "/rowhouse.crm.v1.ContactService",
        "/rowhouse.crm.v1.ContactService/",
        "/rowhouse.crm.v1.ContactService/getcontact",
        "/rowhouse.crm.v1.ContactService/GetContact/",
        "//rowhouse.crm.v1.ContactService/GetContact",
        "/rowhouse.crm.v1.ContactService/GetContact2",
        "/rowhouse.crm.v1.ContactService/%47etContact",
        "/grpc.health.v1.Health/Checks",
        "/grpc.reflection.v1.ServerReflection/Other",
        "/admin",
    ] {
        for client in [&public, &internal] {
            let call = Call::new(path).bearer(&world.operator());
            client
                .call(&call)
                .await
                .assert(path, Code::Unimplemented, "METHOD_UNKNOWN");
        }
    }
    let reflection = Call::new("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
    public.call(&reflection).await.assert("reflection", Code::Ok, "");
    let answer = internal.call(&reflection).await;
    answer.assert("reflection", Code::Unimplemented, "METHOD_UNKNOWN");
}
