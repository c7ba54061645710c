//! What the audit log is told of calls, and of nothing else.

use std::sync::{Arc, Mutex};

use rowhouse_client::Standing;
use rowhouse_types::TenantId;
use tonic::Code;

use crate::security::{Refusal, RefusalLog};
use crate::stack::Listener;
use crate::tests::control::{self, Without};
use crate::tests::wire::{Call, Client};
use crate::tests::world::{CREATE_TENANT, DELETE, GET, WHO_AM_I, World, rights};

const MISSING: &str = "PERMISSION_MISSING";
const REVOKED: &str = "SESSION_REVOKED";

/// Keeps what it is told.
#[derive(Default)]
struct Told {
    refusals: Mutex<Vec<Refusal>>,
}

/// A refusal: the RPC, whose log, why, and what the RPC needs.
type Seen = (&'static str, Option<TenantId>, &'static str, Option<String>);

impl RefusalLog for Told {
    fn refused(&self, refusal: Refusal) {
        self.refusals.lock().unwrap().push(refusal);
    }
}

impl Told {
    fn in_world() -> (World, Arc<Self>) {
        let (mut world, told) = (World::new(), Arc::new(Self::default()));
        world.refusals = Some(told.clone());
        (world, told)
    }

    /// The refusals since the last look, all of them the caller's.
    fn refusals(&self, world: &World) -> Vec<Seen> {
        let refusals: Vec<Refusal> = self.refusals.lock().unwrap().drain(..).collect();
        let seen = refusals.into_iter().map(|refusal| {
            assert_eq!(refusal.ctx.principal().user(), Some(world.user));
            (
                refusal.rpc,
                refusal.ctx.tenant_opt(),
                refusal.reason,
                refusal.permission,
            )
        });
        seen.collect()
    }
}

/// An RPC as the log names it.
fn rpc(path: &'static str) -> &'static str {
    &path[1..]
}

fn read() -> Option<String> {
    Some("contacts:read".to_owned())
}

#[tokio::test]
async fn the_audit_log_is_told_who_was_refused_what_and_of_nothing_else() {
    let (world, told) = Told::in_world();
    world.set_rights(Ok(rights(Standing::Good, &["contacts:read"])));
    let client = Client::of(world.public()).await;
    let calls = [
        (GET, world.member(), Code::Ok),
        (GET, "damaged".to_owned(), Code::Unauthenticated),
        (DELETE, world.member(), Code::PermissionDenied),
        (CREATE_TENANT, world.operator(), Code::PermissionDenied),
        (CREATE_TENANT, world.member(), Code::PermissionDenied),
    ];
    for (path, token, code) in calls {
        let answer = client.call(&Call::new(path).bearer(&token)).await;
        assert_eq!(answer.status.code(), code, "{path}");
    }
    let other = world.other.to_string();
    let elsewhere = Call::new(GET).bearer(&world.member()).with("x-tenant-id", &other);
    client
        .call(&elsewhere)
        .await
        .assert("another tenant", Code::PermissionDenied, "TENANT_MISMATCH");
    let create = || Some("tenants:create".to_owned());
    assert_eq!(
        told.refusals(&world),
        [
            (
                rpc(DELETE),
                Some(world.tenant),
                MISSING,
                Some("contacts:delete".to_owned())
            ),
            (rpc(CREATE_TENANT), None, MISSING, create()),
            (rpc(CREATE_TENANT), None, "AUDIENCE_MISMATCH", create()),
            (rpc(GET), None, "TENANT_MISMATCH", read()),
        ]
    );
}

/// Whoever uses what has ended may be a thief.
#[tokio::test]
async fn the_audit_log_is_told_who_uses_what_has_ended() {
    let (world, told) = Told::in_world();
    let client = Client::of(world.public()).await;
    let not_shown = "SECOND_FACTOR_NOT_SHOWN";
    for (standing, code, reason) in [
        (Standing::Revoked, Code::Unauthenticated, REVOKED),
        (Standing::SecondFactorNotShown, Code::FailedPrecondition, not_shown),
    ] {
        world.set_rights(Ok(rights(standing, &["*:*"])));
        let answer = client.call(&Call::new(GET).bearer(&world.member())).await;
        answer.assert(reason, code, reason);
        assert_eq!(
            told.refusals(&world),
            [(rpc(GET), Some(world.tenant), reason, read())],
            "the token names the tenant"
        );
    }
    // About oneself too, where no permission is needed.
    world.set_rights(Ok(rights(Standing::Revoked, &[])));
    client.call(&Call::new(WHO_AM_I).bearer(&world.member())).await;
    assert_eq!(
        told.refusals(&world),
        [(rpc(WHO_AM_I), Some(world.tenant), REVOKED, None)]
    );
}

/// Whoever holds what was an operator's may name any tenant, and writes into the log of none.
#[tokio::test]
async fn no_tenant_is_told_of_an_operator_s_token_that_has_ended() {
    let (world, told) = Told::in_world();
    let client = Client::of(world.public()).await;
    let inside = Call::new(GET).bearer(&world.operator());
    let inside = inside.with("x-tenant-id", world.other.to_string());
    let inside = inside.with("x-reason", "ticket 1");
    for standing in [Standing::Revoked, Standing::SecondFactorNotShown] {
        world.set_rights(Ok(rights(standing, &["*:*"])));
        client.call(&inside).await;
        let refusals = told.refusals(&world);
        let logs: Vec<Option<TenantId>> = refusals.into_iter().map(|(_, log, ..)| log).collect();
        assert_eq!(logs, [None], "{standing:?}");
    }
    // The control: one who is an operator still, and lacks a right, is the tenant's to see.
    world.set_rights(Ok(rights(Standing::Good, &[])));
    client.call(&inside).await;
    assert_eq!(told.refusals(&world), [(rpc(GET), Some(world.other), MISSING, read())]);
}

/// Who has not shown a token that holds is nobody, whatever it says; and what is not about the caller is no refusal.
#[tokio::test]
async fn the_audit_log_is_not_told_of_what_nobody_has_signed() {
    let (world, told) = Told::in_world();
    world.set_rights(Ok(rights(Standing::Revoked, &[])));
    let client = Client::of(world.public()).await;
    // The claims of one and the signature of the other.
    let (signed, other) = (world.member(), world.operator());
    let (claims, _) = signed.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    let forged = client
        .call(&Call::new(GET).bearer(&format!("{claims}.{signature}")))
        .await;
    forged.assert("forged", Code::Unauthenticated, "TOKEN_INVALID");
    client
        .call(&Call::new(GET))
        .await
        .assert("nobody", Code::Unauthenticated, "CREDENTIALS_MISSING");
    assert_eq!(told.refusals(&world), []);
    // A key that others may have has signed for nobody.
    for (standing, code, reason) in [
        (Standing::KeyRevoked, Code::Unauthenticated, "TOKEN_INVALID"),
        (Standing::TenantSuspended, Code::FailedPrecondition, "TENANT_SUSPENDED"),
        (Standing::TenantUnknown, Code::FailedPrecondition, "TENANT_NOT_READY"),
    ] {
        world.set_rights(Ok(rights(standing, &[])));
        client
            .call(&Call::new(GET).bearer(&signed))
            .await
            .assert(reason, code, reason);
        assert_eq!(told.refusals(&world), [], "{reason}");
    }
    // The control: the same token, good and over, is told of.
    world.set_rights(Ok(rights(Standing::Revoked, &[])));
    client.call(&Call::new(GET).bearer(&signed)).await;
    assert_eq!(told.refusals(&world).len(), 1);
}

/// The control: without the layer nobody is told who uses what has ended.
#[tokio::test]
async fn without_the_layer_what_has_ended_is_used_and_nobody_is_told() {
    let (world, told) = Told::in_world();
    world.set_rights(Ok(rights(Standing::Revoked, &[])));
    for (without, expected) in [(Without::Quota, 1), (Without::Refusal, 0)] {
        let client = Client::of(control::stack(&world, Listener::Public, without)).await;
        let answer = client.call(&Call::new(GET).bearer(&world.member())).await;
        answer.assert(&format!("{without:?}"), Code::Unauthenticated, REVOKED);
        assert_eq!(told.refusals(&world).len(), expected, "{without:?}");
    }
}
