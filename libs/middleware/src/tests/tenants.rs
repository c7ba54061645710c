//! Which tenant a call is for: the table of `layer/tenant.rs`, row by row, and every way to get it wrong.

use prost::Message as _;
use rowhouse_client::RightsQuery;
use rowhouse_context::ServiceName;
use rowhouse_proto::crm::v1::Contact;
use tonic::Code;

use crate::stack::Listener;
use crate::tests::control::{self, Without};
use crate::tests::wire::{Answer, Call, Client};
use crate::tests::world::{CREATE_TENANT, EXPORT, GET, LOGIN, RESOLVE, WHO_AM_I, World, service_token};

/// The contact in an answer; the handler put what it was handed into it.
fn contact(answer: &Answer) -> Contact {
    Contact::decode(answer.body.slice(5..)).unwrap()
}

/// Metadata, as names and values.
type Sent = Vec<(&'static str, Vec<u8>)>;

/// Ways to send `x-tenant-id` that no RPC takes.
fn damaged(world: &World) -> Vec<(&'static str, Sent)> {
    let id = world.tenant.to_string();
    let other = world.other.to_string();
    let one = |text: &str| vec![("x-tenant-id", text.as_bytes().to_vec())];
    vec![
        ("twice the same", [one(&id), one(&id)].concat()),
        ("own, then another", [one(&id), one(&other)].concat()),
        ("another, then own", [one(&other), one(&id)].concat()),
        ("joined by a comma", one(&format!("{id},{other}"))),
        ("binary", vec![("x-tenant-id-bin", b"AAAA".to_vec())]),
        ("bad base64 in binary", vec![("x-tenant-id-bin", b"%%%".to_vec())]),
        (
            "also binary",
            [one(&id), vec![("x-tenant-id-bin", b"AAAA".to_vec())]].concat(),
        ),
        ("upper case", one(&id.to_uppercase())),
        ("8 KiB", one(&"t".repeat(8 * 1024))),
        ("own id and 8 KiB", one(&format!("{id}{}", "0".repeat(8 * 1024)))),
        ("empty", one("")),
        ("a bare UUID", one(&world.tenant.uuid().to_string())),
        ("another kind", one(&world.user.to_string())),
        ("not ASCII", one("tenant_\u{e4}")),
        ("a wildcard", one("*")),
    ]
}

#[tokio::test]
async fn a_member_may_leave_the_tenant_out_or_name_their_own() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let call = Call::new(GET).bearer(&world.member());
    for call in [call.clone(), call.with("x-tenant-id", world.tenant.to_string())] {
        let answer = client.call(&call).await;
        answer.assert("own tenant", Code::Ok, "");
        assert_eq!(contact(&answer).company, world.tenant.to_string());
        assert_eq!(contact(&answer).owner_id, world.user.to_string());
    }
    let expected = RightsQuery {
        user: world.user,
        session: Some(world.session),
        tenant: Some(world.tenant),
        platform: false,
        key: Some("first".parse().unwrap()),
        by: None,
    };
    assert_eq!(world.asked(), [expected, expected]);
}

#[tokio::test]
async fn another_tenant_is_refused_before_any_look_up() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let call = Call::new(GET).bearer(&world.member());
    let call = call.with("x-tenant-id", world.other.to_string());
    let answer = client.call(&call).await;
    answer.assert("another tenant", Code::PermissionDenied, "TENANT_MISMATCH");
    assert_eq!(world.asked(), []);
}

/// The control: without the layer, a mismatch is accepted.
#[tokio::test]
async fn without_the_tenant_layer_a_mismatch_is_accepted() {
    let world = World::new();
    let client = Client::of(control::stack(&world, Listener::Public, Without::Tenant)).await;
    let call = Call::new(GET).bearer(&world.member());
    let answer = client.call(&call.with("x-tenant-id", world.other.to_string())).await;
    answer.assert("believed", Code::Ok, "");
    assert_eq!(contact(&answer).company, world.other.to_string());
}

#[tokio::test]
async fn damaged_tenant_metadata_is_refused_before_any_look_up_on_both_listeners() {
    let world = World::new();
    let public = Client::of(world.public()).await;
    let internal = Client::of(world.internal()).await;
    let service = service_token(ServiceName::Worker, ServiceName::Crm);
    let operator = Call::new(GET).bearer(&world.operator()).with("x-reason", "ticket 1");
    let delegate = Call::new(EXPORT).bearer(&world.delegate(ServiceName::Worker, false));
    let calls = [
        ("member", &public, Call::new(GET).bearer(&world.member())),
        ("operator", &public, operator),
        ("oneself", &public, Call::new(WHO_AM_I).bearer(&world.member())),
        ("delegate", &internal, delegate.with("x-service-authorization", service)),
    ];
    for (who, client, call) in calls {
        for (how, headers) in damaged(&world) {
            let call = headers
                .iter()
                .fold(call.clone(), |call, (name, value)| call.with(name, value));
            let answer = client.call(&call).await;
            answer.assert(
                &format!("{who}: {how}"),
                Code::InvalidArgument,
                "TENANT_METADATA_INVALID",
            );
        }
    }
    assert_eq!(world.asked(), []);
}

#[tokio::test]
async fn who_is_not_known_learns_nothing_about_the_tenant() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    for (how, headers) in damaged(&world) {
        let call = headers
            .iter()
            .fold(Call::new(GET), |call, (name, value)| call.with(name, value));
        let answer = client.call(&call).await;
        answer.assert(how, Code::Unauthenticated, "CREDENTIALS_MISSING");
    }
}

#[tokio::test]
async fn an_operator_names_the_tenant_and_says_why() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let call = Call::new(GET).bearer(&world.operator());
    let named = call.clone().with("x-tenant-id", world.other.to_string());
    let long = "x".repeat(501);
    let cases = [
        ("no tenant", call.clone(), "TENANT_REQUIRED"),
        (
            "no tenant, a reason",
            call.with("x-reason", "ticket 1"),
            "TENANT_REQUIRED",
        ),
        ("no reason", named.clone(), "REASON_REQUIRED"),
        ("empty reason", named.clone().with("x-reason", ""), "REASON_REQUIRED"),
        ("blank reason", named.clone().with("x-reason", "  "), "REASON_REQUIRED"),
        (
            "nothing that is seen",
            named.clone().with("x-reason", "\u{200d} \u{3164}"),
            "REASON_REQUIRED",
        ),
        (
            "only a binary reason",
            named.clone().with("x-reason-bin", "AAAA"),
            "REASON_REQUIRED",
        ),
        (
            "two reasons",
            named.clone().with("x-reason", "a").with("x-reason", "b"),
            "METADATA_INVALID",
        ),
        ("long reason", named.clone().with("x-reason", &long), "METADATA_INVALID"),
        ("a tab", named.clone().with("x-reason", "a\tb"), "METADATA_INVALID"),
        (
            "next line (C1)",
            named.clone().with("x-reason", "a\u{85}b"),
            "METADATA_INVALID",
        ),
        (
            "not UTF-8",
            named.clone().with("x-reason", b"a\xffb"),
            "METADATA_INVALID",
        ),
    ];
    for (case, call, reason) in cases {
        client.call(&call).await.assert(case, Code::InvalidArgument, reason);
    }
    assert_eq!(world.asked(), []);
    // The last has a joiner, which Persian is not written without.
    for why in [
        "ticket 1",
        "\u{dc}berpr\u{fc}fung",
        &long[..500],
        "\u{645}\u{6cc}\u{200c}\u{631}\u{648}\u{645}",
    ] {
        let answer = client.call(&named.clone().with("x-reason", why)).await;
        answer.assert(why, Code::Ok, "");
        assert_eq!(contact(&answer).company, world.other.to_string());
        assert_eq!(contact(&answer).job_title, why);
    }
    let asked = world.asked();
    assert!(
        asked
            .iter()
            .all(|query| query.platform && query.tenant == Some(world.other))
    );
}

#[tokio::test]
async fn a_reason_with_characters_that_are_not_seen_is_refused() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let call = Call::new(GET).bearer(&world.operator());
    let named = call.with("x-tenant-id", world.other.to_string());
    let (firsts, lasts) = ("\u{200b}\u{200e}\u{2028}\u{2060}", "\u{200f}\u{202e}\u{2069}\u{feff}");
    for unseen in firsts.chars().chain(lasts.chars()) {
        let case = format!("{unseen:?}");
        let answer = client
            .call(&named.clone().with("x-reason", format!("a{unseen}b")))
            .await;
        answer.assert(&case, Code::InvalidArgument, "METADATA_INVALID");
    }
}

#[tokio::test]
async fn for_the_platform_an_operator_may_say_why() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let call = Call::new(CREATE_TENANT).bearer(&world.operator());
    for (case, call, seen) in [
        ("no reason", call.clone(), ""),
        ("blank reason", call.clone().with("x-reason", "  "), ""),
        ("a reason", call.clone().with("x-reason", " ticket 1 "), "ticket 1"),
    ] {
        let answer = client.call(&call).await;
        answer.assert(case, Code::Ok, "");
        assert_eq!(answer.header("x-seen-reason"), seen, "{case}");
    }
    let twice = call.with("x-reason", "a").with("x-reason", "b");
    let answer = client.call(&twice).await;
    answer.assert("two reasons", Code::InvalidArgument, "METADATA_INVALID");
}

#[tokio::test]
async fn rpcs_that_are_not_for_a_tenant_refuse_one() {
    let world = World::new();
    let public = Client::of(world.public()).await;
    let internal = Client::of(world.internal()).await;
    let service = service_token(ServiceName::Worker, ServiceName::Crm);
    let id = world.tenant.to_string();
    let calls = [
        ("public", &public, Call::new(LOGIN)),
        ("platform", &public, Call::new(CREATE_TENANT).bearer(&world.operator())),
        (
            "oneself, operator",
            &public,
            Call::new(WHO_AM_I).bearer(&world.operator()),
        ),
        (
            "service",
            &internal,
            Call::new(RESOLVE).with("x-service-authorization", service),
        ),
    ];
    for (case, client, call) in calls {
        client.call(&call).await.assert(case, Code::Ok, "");
        for (name, value) in [
            ("x-tenant-id", id.as_str()),
            ("x-tenant-id", ""),
            ("x-tenant-id-bin", "AAAA"),
        ] {
            let answer = client.call(&call.clone().with(name, value)).await;
            answer.assert(
                &format!("{case}: {name}: {value}"),
                Code::InvalidArgument,
                "TENANT_UNEXPECTED",
            );
        }
    }
}

#[tokio::test]
async fn about_oneself_a_member_may_name_their_own_tenant_only() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let call = Call::new(WHO_AM_I).bearer(&world.member());
    let own = call.clone().with("x-tenant-id", world.tenant.to_string());
    let answer = client.call(&own).await;
    answer.assert("own", Code::Ok, "");
    assert_eq!(answer.header("x-seen-tenant"), world.tenant.to_string());
    let answer = client.call(&call.with("x-tenant-id", world.other.to_string())).await;
    answer.assert("another", Code::PermissionDenied, "TENANT_MISMATCH");
}

#[tokio::test]
async fn a_service_for_a_user_stays_in_the_tenant_of_the_token() {
    let world = World::new();
    let client = Client::of(world.internal()).await;
    let service = service_token(ServiceName::Worker, ServiceName::Crm);
    let call = Call::new(EXPORT)
        .with("x-service-authorization", service)
        .bearer(&world.delegate(ServiceName::Worker, true));
    client.call(&call).await.assert("absent", Code::Ok, "");
    let own = call.clone().with("x-tenant-id", world.tenant.to_string());
    client.call(&own).await.assert("own", Code::Ok, "");
    let answer = client.call(&call.with("x-tenant-id", world.other.to_string())).await;
    answer.assert("another", Code::PermissionDenied, "TENANT_MISMATCH");
    let expected = RightsQuery {
        user: world.user,
        session: None,
        tenant: Some(world.tenant),
        platform: true,
        key: Some("first".parse().unwrap()),
        by: None,
    };
    assert_eq!(world.asked(), [expected, expected]);
}
