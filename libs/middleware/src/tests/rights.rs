//! Whether the caller may: standing, permission, and what happens where nobody can say.

use prost::Message as _;
use rowhouse_client::{RightsError, Standing};
use rowhouse_proto::crm::v1::Contact;
use rowhouse_types::UserId;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::stack::Listener;
use crate::tests::control::{self, Without};
use crate::tests::wire::{Call, Client};
use crate::tests::world::{CREATE_TENANT, DELETE, GET, WHO_AM_I, World, rights};

#[tokio::test]
async fn a_missing_permission_is_named() {
    let world = World::new();
    world.set_rights(Ok(rights(Standing::Good, &["contacts:read"])));
    let client = Client::of(world.public()).await;
    let call = |path| Call::new(path).bearer(&world.member());
    client.call(&call(GET)).await.assert("held", Code::Ok, "");
    let answer = client.call(&call(DELETE)).await;
    answer.assert("missing", Code::PermissionDenied, "PERMISSION_MISSING");
    let details = answer.status.get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["permission"], "contacts:delete");
}

#[tokio::test]
async fn who_has_no_rights_at_all_may_do_nothing_but_ask_who_they_are() {
    let world = World::new();
    world.set_rights(Ok(rights(Standing::Good, &[])));
    let client = Client::of(world.public()).await;
    for (path, token) in [(GET, world.member()), (CREATE_TENANT, world.operator())] {
        let answer = client.call(&Call::new(path).bearer(&token)).await;
        answer.assert(path, Code::PermissionDenied, "PERMISSION_MISSING");
    }
    let answer = client.call(&Call::new(WHO_AM_I).bearer(&world.member())).await;
    answer.assert("oneself", Code::Ok, "");
}

#[tokio::test]
async fn handlers_are_told_whose_records_the_caller_reaches() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let mate = UserId::generate();
    let call = Call::new(GET).bearer(&world.member());
    let own = format!("{} ", world.user);
    let mut both = [world.user, mate];
    both.sort_unstable();
    let both = format!("{} {} ", both[0], both[1]);
    for (grant, reached) in [
        ("contacts:read", "all"),
        ("contacts:read@own", &own),
        ("contacts:*@team", &both),
    ] {
        let mut held = rights(Standing::Good, &[grant]);
        held.team = [mate].into_iter().collect();
        world.set_rights(Ok(held));
        let answer = client.call(&call).await;
        answer.assert(grant, Code::Ok, "");
        let contact = Contact::decode(answer.body.slice(5..)).unwrap();
        assert_eq!(contact.email, reached, "{grant}");
    }
}

/// What has no owner is not given in part.
#[tokio::test]
async fn a_grant_with_a_scope_opens_nothing_that_has_no_owners() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let call = Call::new("/rowhouse.auth.v1.MemberService/ListMembers").bearer(&world.member());
    for (grant, code, reason) in [
        ("members:read@own", Code::PermissionDenied, "PERMISSION_MISSING"),
        ("*:*@team", Code::PermissionDenied, "PERMISSION_MISSING"),
        ("members:read", Code::Ok, ""),
    ] {
        world.set_rights(Ok(rights(Standing::Good, &[grant])));
        client.call(&call).await.assert(grant, code, reason);
    }
}

#[tokio::test]
async fn standing_comes_before_permissions() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let cases = [
        (Standing::Revoked, Code::Unauthenticated, "SESSION_REVOKED"),
        (Standing::TenantSuspended, Code::FailedPrecondition, "TENANT_SUSPENDED"),
        (Standing::TenantUnknown, Code::FailedPrecondition, "TENANT_NOT_READY"),
    ];
    for (standing, code, reason) in cases {
        for grants in [&["*:*"][..], &[]] {
            world.set_rights(Ok(rights(standing, grants)));
            for path in [GET, WHO_AM_I] {
                let answer = client.call(&Call::new(path).bearer(&world.member())).await;
                answer.assert(&format!("{standing:?} {path}"), code, reason);
            }
        }
    }
}

/// Fail closed: T31.
#[tokio::test]
async fn rights_that_cannot_be_read_are_none() {
    let world = World::new();
    let client = Client::of(world.public()).await;
    let call = Call::new(GET).bearer(&world.member());
    world.set_rights(Err(RightsError::Unavailable(
        "connection refused by 10.0.0.7".to_owned(),
    )));
    let answer = client.call(&call).await;
    answer.assert("away", Code::Unavailable, "DEPENDENCY_UNAVAILABLE");
    assert!(answer.status.get_error_details().retry_info().is_some());
    assert!(!format!("{answer:?}").contains("10.0.0.7"), "{answer:?}");
    world.set_rights(Err(RightsError::DeadlineExceeded));
    let answer = client.call(&call).await;
    answer.assert("late", Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

/// The control: without the layer, nobody's rights matter.
#[tokio::test]
async fn without_authorisation_a_missing_permission_is_let_through() {
    let world = World::new();
    world.set_rights(Ok(rights(Standing::Revoked, &[])));
    let client = Client::of(control::stack(&world, Listener::Public, Without::Authorisation)).await;
    let answer = client.call(&Call::new(DELETE).bearer(&world.member())).await;
    answer.assert("let through", Code::Ok, "");
}
