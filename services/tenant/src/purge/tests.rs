//! Purges with fakes, a real database and a real Redis.
//!
//! [`killed`]: T24 of purges.

mod killed;

use std::time::Duration;

use rowhouse_cache::Key;
use rowhouse_context::ServiceName;
use rowhouse_types::{Placement, TenantId};
use tokio::time::Instant;

use super::Removal;
use crate::directory;
use crate::error::Error;
use crate::operation::Kind;
use crate::operation::tests::{Bench, LONG, cache, ctx, new_tenant, turn};
use crate::tenant::{Change, DisplayName, Reason, State, Tenant};

const TTL: Duration = Duration::from_secs(60);

fn removal(holder: &str, kind: &str, count: i64) -> Removal {
    Removal {
        holder: holder.to_owned(),
        kind: kind.to_owned(),
        count,
    }
}

/// What is removed of each of these tests' tenants.
fn everything() -> Vec<Removal> {
    vec![
        removal("crm", "homes", 1),
        removal("auth", "memberships", 3),
        removal("cache", "keys", 1),
    ]
}

async fn deleted(bench: &Bench, slug: &str) -> Tenant {
    deleted_in(bench, slug, Placement::Schema).await
}

async fn deleted_in(bench: &Bench, slug: &str, placement: Placement) -> Tenant {
    let mut new = new_tenant(slug);
    new.server.placement = placement;
    let id = bench.tenants.create(&ctx(LONG), new).await.unwrap().id;
    cache().set(&Key::tenant(id, "home", "crm"), &1, TTL).await;
    turn(&bench.tenants, id, Kind::Delete).await.unwrap()
}

async fn let_the_grace_be_over(bench: &Bench, id: TenantId) {
    sqlx::query(
        "UPDATE tenant.tenants SET deleted_at = now() - interval '2 days', purge_at = now() WHERE tenant_id = $1",
    )
    .bind(id.uuid())
    .execute(&bench.superuser)
    .await
    .unwrap();
}

#[tokio::test]
async fn a_purged_tenant_leaves_its_record_and_frees_its_slug_and_its_place() {
    let bench = Bench::start("purged").await;
    let tenant = deleted(&bench, "gone").await;
    let places = "SELECT tenants::bigint FROM tenant.servers WHERE name = 'data1'";
    assert_eq!(bench.count(places).await, 1);
    let purged = turn(&bench.tenants, tenant.id, Kind::Purge).await.unwrap();
    assert_eq!(purged.state, State::Purged);
    assert_eq!(
        turn(&bench.tenants, tenant.id, Kind::Purge).await.unwrap(),
        purged,
        "again"
    );

    let record = bench.tenants.get_purge(tenant.id).await.unwrap();
    assert_eq!((record.removed.clone(), record.reason.as_str()), (everything(), "test"));
    assert!(record.finished_at.is_some_and(|finished| finished >= record.began_at));
    assert_eq!(cache().get::<i32>(&Key::tenant(tenant.id, "home", "crm")).await, None);
    assert_eq!(bench.count("SELECT count(*) FROM tenant.homes").await, 0);
    assert!(bench.fakes.effects().homes.is_empty());
    assert_eq!(bench.count(places).await, 0);
    let told = "SELECT count(*) FROM tenant.outbox WHERE kind = 'tenant.purged.v1'";
    assert_eq!(bench.count(told).await, 1);

    for service in [ServiceName::Crm, ServiceName::Worker] {
        let found = directory::store::find(&bench.pool, tenant.id, service).await;
        assert!(matches!(found, Err(Error::TenantUnknown { .. })), "{found:?}");
    }
    for kind in [Kind::Undelete, Kind::Resume, Kind::Delete] {
        let refused = turn(&bench.tenants, tenant.id, kind).await;
        assert!(matches!(refused, Err(Error::StateForbids { .. })), "{kind:?}");
    }
    // Nor does it hold its plan, or take another.
    let plan = "SELECT count(*) FROM tenant.tenants WHERE plan IS NULL AND limit_overrides = '{}'";
    assert_eq!(bench.count(plan).await, 1);
    let change = Change {
        id: tenant.id,
        display_name: DisplayName::parse_required("Renamed").unwrap(),
        etag: None,
    };
    let refused = bench.tenants.update(&ctx(LONG), change).await;
    assert!(matches!(refused, Err(Error::StateForbids { .. })), "{refused:?}");
    let heir = bench.tenants.create(&ctx(LONG), new_tenant("gone")).await.unwrap();
    assert_ne!(heir.id, tenant.id);
    let taken = bench.tenants.create(&ctx(LONG), new_tenant("gone")).await;
    assert!(matches!(taken, Err(Error::SlugTaken { .. })), "the control");
}

/// Others have none, which `everything` shows.
#[tokio::test]
async fn the_record_says_what_became_of_the_login_of_a_database() {
    let bench = Bench::start("purge_login").await;
    for (slug, stays, kind) in [("gone", false, "logins"), ("left", true, "logins_left")] {
        bench.fakes.effects().logins_stay = stays;
        let tenant = deleted_in(&bench, slug, Placement::Database).await;
        turn(&bench.tenants, tenant.id, Kind::Purge).await.unwrap();
        let record = bench.tenants.get_purge(tenant.id).await.unwrap();
        let login = vec![removal("crm", kind, 1)];
        assert_eq!(record.removed, [login, everything()].concat(), "{slug}");
    }
}

#[tokio::test]
async fn a_keeper_that_removes_nothing_just_now_is_asked_again_after_a_pause() {
    let bench = Bench::start("purge_held").await;
    let tenant = deleted(&bench, "gone").await;
    bench.fakes.effects().records_held = 5;
    let asked = Instant::now();
    turn(&bench.tenants, tenant.id, Kind::Purge).await.unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(500), "{:?}", asked.elapsed());
    // Where something was removed, the next call follows at once.
    assert_eq!(bench.fakes.effects().calls["erase"], 7);
    assert_eq!(bench.tenants.get_purge(tenant.id).await.unwrap().removed, everything());
}

#[tokio::test]
async fn only_a_deleted_tenant_is_purged_and_only_by_its_slug() {
    let bench = Bench::start("purge_refused").await;
    let open = bench.tenants.create(&ctx(LONG), new_tenant("open")).await.unwrap();
    let refused = turn(&bench.tenants, open.id, Kind::Purge).await;
    assert!(matches!(refused, Err(Error::StateForbids { .. })));
    let tenant = deleted(&bench, "gone").await;
    let reason = Reason::parse_required("a slip").unwrap();
    let refused = bench.tenants.purge(&ctx(LONG), tenant.id, &reason, "open").await;
    assert!(matches!(refused, Err(Error::SlugMismatch)));
    assert_eq!(bench.tenants.get(tenant.id).await.unwrap(), tenant);
    let unknown = bench.tenants.get_purge(tenant.id).await;
    assert!(matches!(unknown, Err(Error::PurgeUnknown { .. })));
    assert_eq!(bench.fakes.effects().homes.len(), 2);
}

#[tokio::test]
async fn a_tenant_whose_grace_is_over_is_purged_and_no_other() {
    let bench = Bench::start("purge_due").await;
    let (due, waits) = (deleted(&bench, "due").await, deleted(&bench, "waits").await);
    let (back, anew) = (deleted(&bench, "back").await, deleted(&bench, "anew").await);
    for tenant in [&due, &back, &anew] {
        let_the_grace_be_over(&bench, tenant.id).await;
    }
    // Undeleted although its grace was over: nobody had begun to purge it. Deleted again, it has a grace of its own.
    for tenant in [&back, &anew] {
        turn(&bench.tenants, tenant.id, Kind::Undelete).await.unwrap();
    }
    turn(&bench.tenants, anew.id, Kind::Delete).await.unwrap();
    // Two processes look at once.
    let (one, two) = tokio::join!(bench.tenants.purge_due(8), bench.tenants.purge_due(8));
    assert_eq!(one.unwrap() + two.unwrap(), 1);
    assert_eq!(bench.settled("due").await.state, State::Purged);
    let record = bench.tenants.get_purge(due.id).await.unwrap();
    assert_eq!(
        (record.removed, record.reason.as_str()),
        (everything(), "the grace period is over")
    );
    assert_eq!(record.actor, "service:tenant");
    let why = Some("the grace period is over".to_owned());
    let purged = ["accepted", "done"].map(|outcome| {
        (
            "tenant.purge".to_owned(),
            outcome.to_owned(),
            record.actor.clone(),
            why.clone(),
        )
    });
    for log in [Some(due.id), None] {
        assert!(bench.audited(log, due.id).await.ends_with(&purged), "{log:?}");
    }
    assert_eq!(bench.tenants.get(waits.id).await.unwrap(), waits);
    assert_eq!(bench.tenants.get(back.id).await.unwrap().state, State::Active);
    assert_eq!(bench.tenants.get(anew.id).await.unwrap().state, State::Deleted);
    assert_eq!(bench.tenants.purge_due(8).await.unwrap(), 0);
}
