//! The purge on a real database: nothing of the tenant stays, nothing of anybody else goes.

mod parts;

use rowhouse_auth_kit::Role;
use rowhouse_types::{OperationId, TenantId};

use super::{Purged, purge, purge_some};
use crate::error::Error;
use crate::member::{self, Invite};
use crate::role::TenantRole;
use crate::session::refresh::refresh;
use crate::tenant::actions::{create_first_administrator, set_access};
use crate::tenant::{Access, AccessChange};
use crate::tests::bench::{Bench, House, PASSWORD, anonymous, founding, service_ctx};

/// Purges `rows_max` rows a call until nothing is left; answers the last call's answer and how many calls there were.
async fn purge_all(bench: &Bench, tenant: TenantId, rows_max: i64) -> (Purged, u32) {
    let operation = OperationId::generate();
    let mut calls = 0;
    loop {
        calls += 1;
        let purged = purge_some(&service_ctx(), &bench.state, tenant, operation, rows_max).await;
        let purged = purged.unwrap();
        if purged.done {
            return (purged, calls);
        }
    }
}

fn count(purged: &Purged, kind: &str) -> i64 {
    let found = purged.removed.iter().find(|(known, _)| known == kind);
    found.map_or(0, |(_, count)| *count)
}

/// A tenant with three members, one of whom belongs to `other` too and one of whom is an operator; and an open invitation.
async fn populated(bench: &Bench, other: &House) -> House {
    let house = bench.house("gone").await;
    bench.member(&house, &other.email, Role::User).await;
    let password = bench.operator("root@rowhouse.example").await;
    let ctx = bench.ctx_of(house.admin, house.tenant).await;
    let invite = |email: &str| Invite {
        email: email.parse().unwrap(),
        role: TenantRole::BuiltIn(Role::User),
        request: None,
    };
    let sent = member::actions::invite(&ctx, &bench.state, &invite("root@rowhouse.example")).await;
    bench.accept(sent.unwrap().id, &password).await.unwrap();
    let open = member::actions::invite(&ctx, &bench.state, &invite("open@gone.example")).await;
    open.unwrap();
    bench.login(&house.email, PASSWORD, None).await.unwrap();
    bench.login(&other.email, PASSWORD, Some(house.tenant)).await.unwrap();
    house
}

#[tokio::test]
async fn nothing_of_the_tenant_stays_and_nothing_of_others_goes() {
    let bench = Bench::start("purge").await;
    let other = bench.house("stays").await;
    let house = populated(&bench, &other).await;
    bench.login(&other.email, PASSWORD, Some(other.tenant)).await.unwrap();
    bench.set_access(house.tenant, Access::Suspended).await;
    let theirs = |table: &str| {
        format!(
            "SELECT count(*) FROM auth.{table} WHERE tenant_id = '{}'",
            other.tenant.uuid()
        )
    };
    let tables = ["memberships", "sessions", "invitations", "outbox", "requests"];
    let mut before = Vec::new();
    for table in tables {
        before.push(bench.count(&theirs(table)).await);
    }

    // Few rows a call, so that it is cut at every place.
    let (purged, calls) = purge_all(&bench, house.tenant, 2).await;
    assert!(calls > 4, "{calls} calls");
    assert_eq!(
        (count(&purged, "memberships"), count(&purged, "accounts")),
        (3, 1),
        "{purged:?}"
    );
    assert!(
        count(&purged, "sessions") >= 2 && count(&purged, "invitations") >= 3,
        "{purged:?}"
    );

    let residue = bench
        .dump_without(&["audit", "purges", "right_changes", "seals", "unsealed"])
        .await;
    assert!(!residue.contains(&house.tenant.uuid().to_string()), "{residue}");
    assert!(!residue.contains("gone.example"), "{residue}");
    for (table, before) in tables.into_iter().zip(before) {
        assert_eq!(bench.count(&theirs(table)).await, before, "{table}");
    }
    bench.login(&other.email, PASSWORD, None).await.unwrap();
    let refused = bench.login(&house.email, PASSWORD, None).await;
    assert!(matches!(refused, Err(Error::LoginFailed)));
    let audited = "SELECT count(*) FROM auth.audit WHERE action = 'tenant.purge'";
    assert_eq!(bench.count(audited).await, 1);

    // Again: the same answer, and no second entry.
    let again = purge(&service_ctx(), &bench.state, house.tenant, OperationId::generate()).await;
    assert_eq!(again.unwrap(), purged);
    assert_eq!(bench.count(audited).await, 1);
}

#[tokio::test]
async fn the_refresh_tokens_of_sessions_are_counted_as_all_other_rows() {
    let bench = Bench::start("purge_tokens").await;
    let house = bench.house("acme").await;
    let mut pair = bench.login(&house.email, PASSWORD, None).await.unwrap();
    for _ in 0..4 {
        pair = refresh(&anonymous(), &bench.state, &pair.refresh_token).await.unwrap();
    }
    bench.set_access(house.tenant, Access::Suspended).await;
    let operation = OperationId::generate();
    let tokens = async || bench.count("SELECT count(*) FROM auth.refresh_tokens").await;
    let mut before = tokens().await;
    assert_eq!(before, 5);
    loop {
        let purged = purge_some(&service_ctx(), &bench.state, house.tenant, operation, 2).await;
        let purged = purged.unwrap();
        let left = tokens().await;
        assert!(before - left <= 2, "{before} before, {left} after");
        before = left;
        if purged.done {
            assert_eq!((count(&purged, "refresh_tokens"), count(&purged, "sessions")), (5, 1));
            break;
        }
    }
}

#[tokio::test]
async fn a_tenant_that_is_open_is_not_purged() {
    let bench = Bench::start("purge_open").await;
    let house = bench.house("open").await;
    let refused = purge(&service_ctx(), &bench.state, house.tenant, OperationId::generate()).await;
    assert!(matches!(refused, Err(Error::TenantOpen)), "{refused:?}");
    bench.login(&house.email, PASSWORD, None).await.unwrap();
    assert_eq!(bench.count("SELECT count(*) FROM auth.purges").await, 0);
}

#[tokio::test]
async fn what_comes_late_does_not_bring_a_purged_tenant_back() {
    let bench = Bench::start("purge_late").await;
    let house = bench.house("late").await;
    let other = bench.house("other").await;
    bench.set_access(house.tenant, Access::Suspended).await;
    purge_all(&bench, house.tenant, 1_000).await;
    let change = AccessChange {
        tenant: house.tenant,
        access: Access::Allowed,
        operation: OperationId::generate(),
    };
    assert!(set_access(&service_ctx(), &bench.state, &change).await.is_err());
    let founding = founding(house.tenant, "eve@late.example");
    assert!(
        create_first_administrator(&service_ctx(), &bench.state, &founding)
            .await
            .is_err()
    );
    assert_eq!(bench.count("SELECT count(*) FROM auth.tenants").await, 1);
    // The control: another tenant's are taken.
    let change = AccessChange {
        tenant: other.tenant,
        ..change
    };
    set_access(&service_ctx(), &bench.state, &change).await.unwrap();
}

#[tokio::test]
async fn a_purge_waits_for_who_joins_meanwhile_and_removes_them_too() {
    let bench = Bench::start("purge_race").await;
    let house = bench.house("race").await;
    bench.set_access(house.tenant, Access::Suspended).await;
    // Somebody whose session was added and is not committed yet.
    let mut late = bench.state.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO auth.sessions (id, identity_id, tenant_id, expires_at) VALUES (gen_random_uuid(), $1, $2, now())",
    )
    .bind(house.admin.uuid())
    .bind(house.tenant.uuid())
    .execute(&mut *late)
    .await
    .unwrap();
    let (state, tenant) = (bench.state.clone(), house.tenant);
    let purging = tokio::spawn(async move { purge(&service_ctx(), &state, tenant, OperationId::generate()).await });
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND query LIKE '%purge_tenant%' AND datname = current_database()";
    while bench.count(waiting).await == 0 {
        tokio::task::yield_now().await;
    }
    late.commit().await.unwrap();
    purging.await.unwrap().unwrap();
    assert_eq!(bench.count("SELECT count(*) FROM auth.sessions").await, 0);
    let (purged, _) = purge_all(&bench, house.tenant, 1_000).await;
    assert!(purged.done, "{purged:?}");
    assert_eq!(bench.count("SELECT count(*) FROM auth.identities").await, 0);
}
