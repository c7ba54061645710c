//! Who calls: every way to send no, a damaged or the wrong credential.

use std::sync::atomic::Ordering;

use rowhouse_auth_kit::AccessClaims;
use rowhouse_context::ServiceName;
use tonic::Code;

use crate::stack::Listener;
use crate::tests::control::{self, Without};
use crate::tests::wire::{Call, Client};
use crate::tests::world::{
    CREATE_TENANT, EXPORT, GET, GET_JWKS, HEALTH, LOGIN, RESOLVE, WHO_AM_I, World, now_s, service_token,
};

#[tokio::test]
async fn damaged_credentials_are_refused_each_with_its_reason() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let token = world.member();
    let once = |value: &str| Call::new(GET).with("authorization", value);
    let good = format!("Bearer {token}");
    let expired = AccessClaims {
        iat: now_s() - 120,
        nbf: now_s() - 120,
        exp: now_s() - 60,
        ..world.claims(Some(world.tenant))
    };
    let foreign = AccessClaims {
        iss: "somebody".to_owned(),
        ..world.claims(Some(world.tenant))
    };
    let forged = format!("{}x", &token[..token.len() - 1]);
    let malformed = "CREDENTIALS_MALFORMED";
    let cases = [
        ("none", Call::new(GET), "CREDENTIALS_MISSING"),
        ("empty", once(""), malformed),
        ("twice", once(&good).with("authorization", &good), malformed),
        ("good and bad", once(&good).with("authorization", "Bearer x"), malformed),
        ("binary", Call::new(GET).with("authorization-bin", "AAAA"), malformed),
        ("Basic", once("Basic dTpw"), malformed),
        ("lower case", once(&format!("bearer {token}")), malformed),
        ("upper case", once(&format!("BEARER {token}")), malformed),
        ("no scheme", once(&token), malformed),
        ("no token", once("Bearer"), malformed),
        ("blank token", once("Bearer  "), malformed),
        ("two spaces", once(&format!("Bearer  {token}")), malformed),
        ("two tokens", once(&format!("Bearer {token} {token}")), malformed),
        ("a comma", once(&format!("{good},Bearer x")), malformed),
        ("not a token", once("Bearer x.y"), malformed),
        ("9 KiB", once(&format!("Bearer {}", "a".repeat(9 * 1024))), malformed),
        ("forged", once(&format!("Bearer {forged}")), "TOKEN_INVALID"),
        (
            "foreign",
            Call::new(GET).bearer(&world.signed(&foreign)),
            "TOKEN_INVALID",
        ),
        (
            "expired",
            Call::new(GET).bearer(&world.signed(&expired)),
            "TOKEN_EXPIRED",
        ),
    ];
    for (case, call, reason) in cases {
        client.call(&call).await.assert(case, Code::Unauthenticated, reason);
    }
    assert_eq!(world.asked(), []);
    client.call(&once(&good)).await.assert("good", Code::Ok, "");
}

#[tokio::test]
async fn a_token_of_an_unknown_key_is_tried_again_with_fresh_keys() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let call = Call::new(GET).bearer(&world.of_late_key());
    client.call(&call).await.assert("late key", Code::Ok, "");
    client.call(&call).await.assert("known by now", Code::Ok, "");
    assert_eq!(world.keys().refreshed.load(Ordering::SeqCst), 1);
}

/// A client throws its session away when it is told that the token does not hold; without keys nobody knows.
#[tokio::test]
async fn without_any_keys_the_service_is_unavailable() {
    let world = World::new();
    world.forget_keys();
    let client = Client::of(world.public()).await;
    let answer = client.call(&Call::new(GET).bearer(&world.member())).await;
    answer.assert("no keys", Code::Unavailable, "DEPENDENCY_UNAVAILABLE");
}

#[tokio::test]
async fn public_rpcs_and_health_need_no_token_and_read_none() {
    let world = World::new();
    let public = Client::of(world.public()).await;
    let internal = Client::of(world.internal()).await;
    for (client, path) in [
        (&public, LOGIN),
        (&public, HEALTH),
        (&internal, HEALTH),
        (&internal, GET_JWKS),
    ] {
        for call in [Call::new(path), Call::new(path).with("authorization", "Basic dTpw")] {
            let answer = client.call(&call).await;
            answer.assert(path, Code::Ok, "");
            assert_eq!(answer.header("x-seen-actor"), "anonymous");
        }
    }
    assert_eq!(world.asked(), []);
}

#[tokio::test]
async fn each_rpc_is_for_its_own_kind_of_caller() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let cases = [
        ("member, platform", CREATE_TENANT, world.member()),
        (
            "delegate, platform",
            CREATE_TENANT,
            world.delegate(ServiceName::Worker, true),
        ),
        ("delegate, tenant", GET, world.delegate(ServiceName::Worker, false)),
        (
            "delegate, oneself",
            WHO_AM_I,
            world.delegate(ServiceName::Worker, false),
        ),
    ];
    for (case, path, token) in cases {
        let answer = client.call(&Call::new(path).bearer(&token)).await;
        answer.assert(case, Code::PermissionDenied, "AUDIENCE_MISMATCH");
    }
    assert_eq!(world.asked(), []);
}

#[tokio::test]
async fn the_identity_of_a_service_is_refused_on_the_public_listener() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let good = service_token(ServiceName::Worker, ServiceName::Crm);
    for (name, value) in [
        ("x-service-authorization", good.as_str()),
        ("x-service-authorization", ""),
        ("x-service-authorization-bin", "AAAA"),
    ] {
        let call = Call::new(GET).bearer(&world.member()).with(name, value);
        let answer = client.call(&call).await;
        answer.assert(name, Code::InvalidArgument, "METADATA_INVALID");
    }
}

#[tokio::test]
async fn forged_internal_metadata_means_nothing() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let forged = [
        "x-user-id",
        "x-principal",
        "x-role",
        "x-permissions",
        "x-forwarded-for",
        "x-rowhouse-service",
    ];
    let call = forged
        .iter()
        .fold(Call::new(GET), |call, name| call.with(name, "super_admin"));
    let answer = client.call(&call).await;
    answer.assert("forged", Code::Unauthenticated, "CREDENTIALS_MISSING");
    let answer = client.call(&call.bearer(&world.member())).await;
    answer.assert("forged beside a token", Code::Ok, "");
}

#[tokio::test]
async fn internal_rpcs_refuse_callers_without_the_identity_of_a_service() {
    let world = World::new();
    let client = Client::of(world.internal()).await;
    let token = service_token(ServiceName::Worker, ServiceName::Crm);
    let name = "x-service-authorization";
    let cases = [
        ("none", Call::new(RESOLVE)),
        ("a user's", Call::new(RESOLVE).bearer(&world.operator())),
        (
            "a user's as a service's",
            Call::new(RESOLVE).with(name, world.operator()),
        ),
        ("empty", Call::new(RESOLVE).with(name, "")),
        ("twice", Call::new(RESOLVE).with(name, &token).with(name, &token)),
        (
            "with a scheme",
            Call::new(RESOLVE).with(name, format!("Bearer {token}")),
        ),
        ("binary", Call::new(RESOLVE).with("x-service-authorization-bin", "AAAA")),
        (
            "for another",
            Call::new(RESOLVE).with(name, service_token(ServiceName::Worker, ServiceName::Auth)),
        ),
        ("9 KiB", Call::new(RESOLVE).with(name, "a".repeat(9 * 1024))),
    ];
    for (case, call) in cases {
        let answer = client.call(&call).await;
        answer.assert(case, Code::Unauthenticated, "SERVICE_IDENTITY_INVALID");
    }
    let answer = client.call(&Call::new(RESOLVE).with(name, token)).await;
    answer.assert("good", Code::Ok, "");
    assert_eq!(answer.header("x-seen-actor"), "service:worker");
}

#[tokio::test]
async fn internal_rpcs_refuse_services_that_their_policy_does_not_name() {
    let world = World::new();
    let client = Client::of(world.internal()).await;
    // Resolve is for auth, crm and worker; StreamContacts is for worker.
    for (path, caller) in [(RESOLVE, ServiceName::Tenant), (EXPORT, ServiceName::Auth)] {
        let call = Call::new(path).with("x-service-authorization", service_token(caller, ServiceName::Crm));
        let answer = client.call(&call.bearer(&world.delegate(caller, false))).await;
        answer.assert(path, Code::PermissionDenied, "AUDIENCE_MISMATCH");
    }
}

#[tokio::test]
async fn an_internal_rpc_with_a_permission_needs_the_token_issued_to_its_caller() {
    let world = World::new();
    let client = Client::of(world.internal()).await;
    let token = service_token(ServiceName::Worker, ServiceName::Crm);
    let call = Call::new(EXPORT).with("x-service-authorization", token);
    let answer = client.call(&call).await;
    answer.assert("no user", Code::Unauthenticated, "CREDENTIALS_MISSING");
    for (case, user) in [
        ("a member's", world.member()),
        ("an operator's", world.operator()),
        ("issued to another service", world.delegate(ServiceName::Auth, false)),
    ] {
        let answer = client.call(&call.clone().bearer(&user)).await;
        answer.assert(case, Code::PermissionDenied, "AUDIENCE_MISMATCH");
    }
    let good = call.bearer(&world.delegate(ServiceName::Worker, false));
    client.call(&good).await.assert("good", Code::Ok, "");
}

#[tokio::test]
async fn without_a_layer_before_it_a_call_is_refused_and_not_let_through() {
    let world = World::new();
    for without in [Without::Policy, Without::Authentication] {
        let client = Client::of(control::stack(&world, Listener::Public, without)).await;
        let answer = client.call(&Call::new(GET).bearer(&world.member())).await;
        answer.assert(&format!("{without:?}"), Code::Internal, "INTERNAL");
    }
}
