//! What the audit log is told of calls, and of nothing else.

use std::sync::{Arc, Mutex};

use rowhouse_client::Standing;
use rowhouse_context::ServiceName;
use rowhouse_types::TenantId;
use tonic::Code;

use crate::security::{Access, Refusal, RefusalLog};
use crate::stack::Listener;
use crate::tests::control::{self, Without};
use crate::tests::wire::{Call, Client};
use crate::tests::world::{CREATE_TENANT, DELETE, EXPORT, GET, WHO_AM_I, World, rights, service_token};

const MISSING: &str = "PERMISSION_MISSING";
const REVOKED: &str = "SESSION_REVOKED";

/// Keeps what it is told.
#[derive(Default)]
struct Told {
    refusals: Mutex<Vec<Refusal>>,
    accesses: Mutex<Vec<Access>>,
}

/// A refusal: the RPC, whose log, why, and what the RPC needs.
type Seen = (&'static str, Option<TenantId>, &'static str, Option<String>);

impl RefusalLog for Told {
    fn refused(&self, refusal: Refusal) {
        self.refusals.lock().unwrap().push(refusal);
    }

    fn let_in(&self, access: Access) {
        self.accesses.lock().unwrap().push(access);
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

    /// What operators who were let in have called since the last look, where, and why.
    fn accesses(&self, world: &World) -> Vec<(&'static str, Option<TenantId>, String)> {
        let accesses: Vec<Access> = self.accesses.lock().unwrap().drain(..).collect();
        let seen = accesses.into_iter().map(|access| {
            let ctx = &access.ctx;
            assert_eq!(ctx.principal().actor(), world.user.to_string());
            let why = ctx.reason().unwrap_or_default().to_owned();
            (access.rpc, ctx.tenant_opt(), why)
        });
        seen.collect()
    }
}

/// An operator's call in a tenant.
fn inside(world: &World, path: &str) -> Call {
    let call = Call::new(path).bearer(&world.operator());
    let call = call.with("x-tenant-id", world.other.to_string());
    call.with("x-reason", "ticket 1")
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
    let inside = inside(&world, GET);
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

/// Reads and writes alike, and for what reason.
#[tokio::test]
async fn the_audit_log_is_told_that_an_operator_was_let_into_a_tenant() {
    let (world, told) = Told::in_world();
    let client = Client::of(world.public()).await;
    for path in [GET, DELETE] {
        client.call(&inside(&world, path)).await.assert(path, Code::Ok, "");
    }
    let seen = |path| (rpc(path), Some(world.other), "ticket 1".to_owned());
    assert_eq!(told.accesses(&world), [seen(GET), seen(DELETE)]);
}

#[tokio::test]
async fn nobody_else_and_nobody_who_was_refused_is_told_of_as_let_in() {
    let (world, told) = Told::in_world();
    let client = Client::of(world.public()).await;
    let internal = Client::of(world.internal()).await;
    // Members, operators on the platform and about themselves, and a service for an operator.
    let service = service_token(ServiceName::Worker, ServiceName::Crm);
    let delegate = Call::new(EXPORT).bearer(&world.delegate(ServiceName::Worker, true));
    for (client, call) in [
        (&client, Call::new(GET).bearer(&world.member())),
        (&client, Call::new(CREATE_TENANT).bearer(&world.operator())),
        (&client, Call::new(WHO_AM_I).bearer(&world.operator())),
        (&internal, delegate.with("x-service-authorization", service)),
    ] {
        client.call(&call).await.assert(&call.path, Code::Ok, "");
    }
    // No reason, and no right.
    let nameless = Call::new(GET).bearer(&world.operator());
    client
        .call(&nameless.with("x-tenant-id", world.other.to_string()))
        .await;
    for standing in [Standing::Revoked, Standing::TenantSuspended, Standing::Good] {
        world.set_rights(Ok(rights(standing, &[])));
        client.call(&inside(&world, GET)).await;
    }
    assert_eq!(told.accesses(&world), []);
}

/// The control: without the layer an operator looks around, and nobody is told.
#[tokio::test]
async fn without_the_layer_an_operator_is_let_in_and_nobody_is_told() {
    let (world, told) = Told::in_world();
    for (without, expected) in [(Without::Quota, 1), (Without::Access, 0)] {
        let client = Client::of(control::stack(&world, Listener::Public, without)).await;
        let answer = client.call(&inside(&world, GET)).await;
        answer.assert(&format!("{without:?}"), Code::Ok, "");
        assert_eq!(told.accesses(&world).len(), expected, "{without:?}");
    }
}
