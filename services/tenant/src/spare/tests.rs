//! Spares on a real database, with a participant that fails and hangs.

mod commits;

use std::collections::BTreeSet;

use futures_util::future::join_all;
use metrics_exporter_prometheus::PrometheusBuilder;
use rowhouse_devkit::log::Log;
use rowhouse_status::{Failure, Reason as Why};
use rowhouse_types::{IdempotencyKey, Placement, TenantId};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Level;
use uuid::Uuid;

use super::filler::Filler;
use super::{Refill, Stock, Wanted, store};
use crate::error::Result;
use crate::operation::tests::{Bench, LONG, Mishap, ctx, new_tenant};
use crate::tenant::{NewTenant, State, Tenant};

const ALL: &str = "SELECT count(*) FROM tenant.spares";
const READY: &str = "SELECT count(*) FROM tenant.spares WHERE state = 'ready'";
const READY_DATABASES: &str = "SELECT count(*) FROM tenant.spares WHERE state = 'ready' AND placement = 'database'";
const BUILDING: &str = "SELECT count(*) FROM tenant.spares WHERE state = 'building'";

fn stock(wanted: i64) -> Stock {
    Stock {
        server: "data1".parse().unwrap(),
        placement: Placement::Schema,
        wanted,
    }
}

/// A server's spares, all of them ready.
async fn filled(name: &str, wanted: u16) -> Bench {
    let bench = Bench::start(name).await;
    bench.filler(wanted).round_once().await;
    assert_eq!(bench.count(READY).await, i64::from(wanted));
    bench
}

/// Both kinds of spares.
fn wanted() -> Wanted {
    Wanted {
        schemas: 1,
        databases: 2,
    }
}

async fn spares(bench: &Bench) -> BTreeSet<TenantId> {
    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT tenant_id FROM tenant.spares")
        .fetch_all(&bench.superuser)
        .await
        .unwrap();
    ids.into_iter().map(TenantId::from_uuid).collect()
}

/// All at once, each on a task of its own.
async fn create_all(bench: &Bench, new: impl IntoIterator<Item = NewTenant>) -> Vec<Result<Tenant>> {
    let caller = ctx(LONG);
    let calls = new.into_iter().map(|new| {
        let (tenants, caller) = (bench.tenants.clone(), caller.clone());
        tokio::spawn(async move { tenants.create(&caller, new).await })
    });
    let calls: Vec<_> = calls.collect();
    join_all(calls)
        .await
        .into_iter()
        .map(std::result::Result::unwrap)
        .collect()
}

#[tokio::test]
async fn a_sign_up_takes_a_spare_with_its_id_and_its_home() {
    let bench = filled("spare_taken", 2).await;
    let spares = spares(&bench).await;
    let tenant = bench.tenants.create(&ctx(LONG), new_tenant("acme")).await.unwrap();
    assert_eq!(tenant.state, State::Active);
    assert!(spares.contains(&tenant.id));
    assert_eq!(bench.tenants.get(tenant.id).await.unwrap(), tenant);
    assert_eq!(bench.count(ALL).await, 1);
    {
        let effects = bench.fakes.effects();
        assert_eq!((effects.built, effects.claimed), (2, 1), "nothing is built for it");
    }
    let targets: Vec<String> = sqlx::query_scalar("SELECT target FROM tenant.audit")
        .fetch_all(&bench.superuser)
        .await
        .unwrap();
    let id = tenant.id.to_string();
    assert_eq!(
        targets,
        [id.clone(), id.clone(), id.clone(), id],
        "accepted and done, in its log and the platform's"
    );
}

#[tokio::test]
async fn sign_ups_at_once_share_no_spare_and_go_on_when_none_is_left() {
    let bench = filled("spares_run_out", 5).await;
    let spares = spares(&bench).await;
    let new = (0..30).map(|index| new_tenant(&format!("rush-{index}")));
    let created = create_all(&bench, new).await;
    let ids: BTreeSet<TenantId> = created.into_iter().map(|tenant| tenant.unwrap().id).collect();
    assert_eq!(ids.len(), 30);
    assert!(spares.is_subset(&ids), "every spare is somebody's");
    assert_eq!(bench.count(ALL).await, 0);
    let effects = bench.fakes.effects();
    assert_eq!((effects.built, effects.claimed), (30, 5), "one home each");
    assert!(ids.iter().all(|id| effects.homes.contains_key(&id.to_string())));
}

#[tokio::test]
async fn of_sign_ups_with_one_slug_one_wins_and_the_losers_leave_their_spares() {
    let bench = filled("spares_one_slug", 4).await;
    let created = create_all(&bench, (0..8).map(|_| new_tenant("wanted"))).await;
    let (won, lost): (Vec<_>, Vec<_>) = created.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for loser in lost {
        assert_eq!(Failure::from(loser.unwrap_err()).reason(), Why::ResourceAlreadyExists);
    }
    assert_eq!(bench.count(READY).await, 3);
    // What they left is whole.
    let new = (0..3).map(|index| new_tenant(&format!("after-{index}")));
    assert!(create_all(&bench, new).await.iter().all(Result::is_ok));
    assert_eq!(bench.fakes.effects().claimed, 4);
}

#[tokio::test]
async fn a_repeated_request_takes_one_spare_and_remembers_its_id() {
    let bench = filled("spares_repeated", 3).await;
    let mut new = new_tenant("again");
    new.request = Some(IdempotencyKey::generate());
    let created = create_all(&bench, (0..6).map(|_| new.clone())).await;
    let ids: BTreeSet<TenantId> = created.into_iter().map(|tenant| tenant.unwrap().id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(bench.count(READY).await, 2);
    let remembered: Uuid = sqlx::query_scalar("SELECT resource_id FROM tenant.requests")
        .fetch_one(&bench.superuser)
        .await
        .unwrap();
    assert!(ids.contains(&TenantId::from_uuid(remembered)));
}

#[tokio::test]
async fn only_a_spare_that_is_ready_in_the_right_place_is_taken() {
    let bench = filled("spares_elsewhere", 2).await;
    let mut shared = new_tenant("shared");
    shared.server.placement = Placement::Shared;
    bench.tenants.create(&ctx(LONG), shared).await.unwrap();
    assert_eq!(bench.count(READY).await, 2);
    for (slug, change) in [
        ("elsewhere", "UPDATE tenant.spares SET server = 'data2'"),
        (
            "unready",
            "UPDATE tenant.spares SET server = 'data1', state = 'building'",
        ),
    ] {
        sqlx::query(change).execute(&bench.superuser).await.unwrap();
        bench.tenants.create(&ctx(LONG), new_tenant(slug)).await.unwrap();
        assert_eq!(bench.count(ALL).await, 2, "{slug}");
    }
    assert_eq!(bench.fakes.effects().claimed, 0);
}

#[tokio::test]
async fn databases_are_built_ahead_in_a_number_of_their_own() {
    let bench = Bench::start("spare_databases").await;
    for _ in 0..2 {
        bench.filler_of(wanted()).round_once().await;
        assert_eq!((bench.count(READY).await, bench.count(READY_DATABASES).await), (3, 2));
    }
    assert_eq!(bench.fakes.effects().built, 3);
}

#[tokio::test]
async fn who_signs_up_for_a_database_takes_one_that_was_built_ahead() {
    let bench = Bench::start("spare_database_taken").await;
    bench.filler_of(wanted()).round_once().await;
    let mut new = new_tenant("large");
    new.server.placement = Placement::Database;
    let spares = spares(&bench).await;
    let tenant = bench.tenants.create(&ctx(LONG), new).await.unwrap();
    assert!(tenant.state == State::Active && spares.contains(&tenant.id));
    assert_eq!((bench.count(READY).await, bench.count(READY_DATABASES).await), (2, 1));
    let effects = bench.fakes.effects();
    assert_eq!((effects.built, effects.claimed), (3, 1), "nothing is built for it");
}

#[tokio::test]
async fn a_drained_server_keeps_its_spares_and_gets_no_more_until_it_is_active_again() {
    let bench = Bench::start("spares_drained").await;
    let filler = bench.filler_of(wanted());
    filler.round_once().await;
    for (change, kept) in [
        ("UPDATE tenant.servers SET state = 'draining'", 1),
        (
            "UPDATE tenant.servers SET state = 'active', placements = '{schema,shared}'",
            1,
        ),
        ("UPDATE tenant.servers SET placements = '{schema,shared,database}'", 2),
    ] {
        sqlx::query(change).execute(&bench.superuser).await.unwrap();
        // One is gone, however that came.
        sqlx::query(
            "DELETE FROM tenant.spares WHERE tenant_id IN
                 (SELECT tenant_id FROM tenant.spares WHERE placement = 'database' ORDER BY tenant_id OFFSET 1)",
        )
        .execute(&bench.superuser)
        .await
        .unwrap();
        filler.round_once().await;
        assert_eq!(bench.count(READY_DATABASES).await, kept, "{change}");
    }
}

#[tokio::test]
async fn processes_that_fill_at_once_stay_below_the_cap() {
    let bench = Bench::start("spares_cap").await;
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let mut first = bench.pool.begin().await.unwrap();
    store::lock(&mut first, &stock(5)).await.unwrap();
    store::add_missing(&mut first, &stock(5)).await.unwrap();
    let pool = bench.pool.clone();
    let second = tokio::spawn(async move { store::top_up(&pool, &stock(5)).await });
    while bench.count(waiting).await == 0 {
        tokio::task::yield_now().await;
    }
    first.commit().await.unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(bench.count(ALL).await, 5);

    // The control: without the lock each adds what both of them miss.
    sqlx::query("DELETE FROM tenant.spares")
        .execute(&bench.superuser)
        .await
        .unwrap();
    let (mut one, mut other) = (bench.pool.begin().await.unwrap(), bench.pool.begin().await.unwrap());
    store::add_missing(&mut one, &stock(5)).await.unwrap();
    store::add_missing(&mut other, &stock(5)).await.unwrap();
    one.commit().await.unwrap();
    other.commit().await.unwrap();
    assert_eq!(bench.count(ALL).await, 10);
}

#[tokio::test]
async fn two_processes_refill_what_is_taken_and_build_each_spare_once() {
    let bench = Bench::start("spares_refilled").await;
    let processes = [bench.process().await, bench.process().await];
    for process in &processes {
        process.fill(&bench.fakes, 4);
    }
    for round in 0..3 {
        while bench.count(READY).await < 4 {
            assert!(bench.count(ALL).await <= 4);
            tokio::task::yield_now().await;
        }
        let calls = processes.iter().enumerate().flat_map(|(number, process)| {
            (0..2).map(move |index| process.create(&format!("round-{round}-{number}-{index}")))
        });
        for call in join_all(calls).await {
            assert_eq!(call.unwrap().unwrap().state, State::Active);
        }
    }
    for process in processes {
        process.kill();
    }
    let homes = bench.fakes.effects().homes.len();
    assert_eq!(usize::try_from(bench.fakes.effects().built).unwrap(), homes);
    assert_eq!(bench.fakes.effects().claimed, 12);
}

#[tokio::test]
async fn a_participant_that_is_away_is_asked_a_bounded_number_of_times_until_it_is_back() {
    let bench = Bench::start("spares_away").await;
    let calls = || bench.fakes.effects().calls.get("spare").copied().unwrap_or_default();
    let filler = bench.filler(2);
    bench.fakes.plan("spare", Mishap::Fails);
    filler.round_once().await;
    assert_eq!((bench.count(BUILDING).await, calls()), (2, 2));
    let explained = "SELECT count(*) FROM tenant.spares
                     WHERE attempts = 1 AND last_error LIKE '%DEPENDENCY_UNAVAILABLE%' AND lease_id IS NULL";
    assert_eq!(bench.count(explained).await, 2);
    filler.round_once().await;
    assert_eq!(calls(), 2, "both are put off");
    let tenant = bench.tenants.create(&ctx(LONG), new_tenant("meanwhile")).await.unwrap();
    assert_eq!(tenant.state, State::Active, "signing up goes on");

    bench.fakes.heal();
    bench.let_time_pass().await;
    filler.round_once().await;
    assert_eq!((bench.count(READY).await, calls()), (2, 4));
}

#[tokio::test]
async fn ready_spares_are_brought_to_the_newest_version_before_somebody_takes_them() {
    let bench = filled("spares_behind", 3).await;
    let calls = || bench.fakes.effects().calls["spare"];
    let versions = || -> Vec<i32> {
        let effects = bench.fakes.effects();
        effects.homes.values().map(|home| home.version).collect()
    };
    let filler = bench.filler(3);
    // The participant is rolled out with another migration.
    bench.fakes.effects().newest = 2;
    filler.look_once().await;
    assert_eq!(
        (versions(), calls()),
        (vec![1, 1, 1], 3),
        "they were looked at when they were built"
    );
    // The control: who only fills, looks at none that is ready.
    bench.let_time_pass().await;
    filler.round_once().await;
    assert_eq!((versions(), calls()), (vec![1, 1, 1], 3));

    filler.look_once().await;
    assert_eq!((versions(), calls()), (vec![2, 2, 2], 6));
    filler.look_once().await;
    assert_eq!(calls(), 6, "each once in a while");
    assert_eq!((bench.count(READY).await, bench.fakes.effects().built), (3, 3));

    // One that is away is asked once a round, and what it has built stays on offer.
    bench.let_time_pass().await;
    bench.fakes.plan("spare", Mishap::Fails);
    filler.look_once().await;
    assert_eq!((calls(), bench.count(READY).await), (7, 3));
    bench.fakes.heal();
    filler.look_once().await;
    assert_eq!(calls(), 9, "the other two");
    let tenant = bench.tenants.create(&ctx(LONG), new_tenant("acme")).await.unwrap();
    let claimed = bench.fakes.effects().homes[&tenant.id.to_string()].version;
    assert_eq!((tenant.state, claimed), (State::Active, 2));
}

/// What runs in every process, and not only what tests call.
#[tokio::test]
async fn a_process_that_fills_has_ready_spares_looked_at_as_well() {
    let bench = filled("spares_looked_at", 2).await;
    bench.fakes.effects().newest = 2;
    bench.let_time_pass().await;
    let process = bench.process().await;
    process.fill(&bench.fakes, 2);
    let is_behind = || bench.fakes.effects().homes.values().any(|home| home.version < 2);
    let looked_at = async {
        while is_behind() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, looked_at).await.expect("they are looked at");
    process.kill();
}

#[tokio::test]
async fn a_filler_that_stops_gives_its_leases_back() {
    let bench = Bench::start("spares_stopped").await;
    bench.fakes.plan("spare", Mishap::HangsBefore);
    let process = bench.process().await;
    let stop = process.fill(&bench.fakes, 1);
    bench.fakes.hanging().await;
    let held = "SELECT count(*) FROM tenant.spares WHERE lease_id IS NOT NULL";
    assert_eq!(bench.count(held).await, 1);
    stop.cancel();
    while bench.count(held).await > 0 {
        tokio::task::yield_now().await;
    }
    process.kill();
}

#[tokio::test]
async fn a_stock_that_is_kept_no_more_is_shown_as_empty() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _local = metrics::set_default_local_recorder(&recorder);
    let bench = Bench::start("spares_shown").await;
    let (filler, stock, stop) = (bench.filler(1), stock(1), CancellationToken::new());
    let shown = |state: &str, number: i64| {
        let line = format!("tenant_spares{{server=\"data1\",placement=\"schema\",state=\"{state}\"}} {number}\n");
        recorder.handle().render().contains(&line)
    };
    let until_ready = async {
        while !shown("ready", 1) {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    tokio::join!(filler.keep_full(&stock, &stop), until_ready);
    assert!(shown("ready", 0) && shown("building", 0));
    assert_eq!(bench.count(READY).await, 1, "it is there all the same");
}

/// A process that stops need not wait until nobody signs up any more.
#[tokio::test]
async fn who_waits_for_a_quiet_moment_waits_no_longer_than_until_the_process_stops() {
    let bench = filled("spares_quiet", 1).await;
    let (refill, stop, passed) = (Refill::new(), CancellationToken::new(), CancellationToken::new());
    let filler = Filler::new(bench.pool.clone(), bench.peers.clone(), refill.clone(), wanted());
    let mut taken = refill.listen();
    let sign_ups = async {
        while !passed.is_cancelled() {
            refill.notify();
            tokio::task::yield_now().await;
        }
    };
    let let_pass = async {
        stop.cancel();
        let let_pass = timeout(LONG, filler.let_pass(&stock(1), &mut taken, &stop)).await;
        passed.cancel();
        let_pass.expect("it has stopped").unwrap();
    };
    tokio::join!(let_pass, sign_ups);
}

#[tokio::test]
async fn where_no_spare_is_due_to_be_looked_at_none_are_counted() {
    let bench = filled("spares_not_due", 1).await;
    let (filler, stock, stop) = (bench.filler(1), stock(1), CancellationToken::new());
    let log = Log::listen("sqlx::query", Level::TRACE);
    let mut sent = Vec::new();
    let until_looked = async {
        while !sent.iter().any(|summary: &String| summary.starts_with("SELECT EXISTS")) {
            let entries = log.take();
            sent.extend(
                entries
                    .iter()
                    .filter_map(|entry| entry.field("summary"))
                    .map(str::to_owned),
            );
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let looked = async { tokio::join!(filler.keep_current(&stock, &stop), until_looked) };
    timeout(LONG, looked).await.expect("it looks");
    let entries = log.take();
    sent.extend(
        entries
            .iter()
            .filter_map(|entry| entry.field("summary"))
            .map(str::to_owned),
    );
    assert!(
        !sent.iter().any(|summary| summary.starts_with("SELECT count(*)")),
        "{sent:?}"
    );
}

#[tokio::test]
async fn who_lost_the_lease_of_a_spare_changes_nothing() {
    let bench = Bench::start("spares_lease").await;
    let pool = &bench.pool;
    store::top_up(pool, &stock(1)).await.unwrap();
    let zombie = store::take(pool, &stock(1)).await.unwrap().expect("it is due");
    assert!(store::take(pool, &stock(1)).await.unwrap().is_none(), "one at a time");
    bench.let_time_pass().await;
    let heir = store::take(pool, &stock(1)).await.unwrap().expect("the lease is over");
    assert!(!store::mark_ready(pool, &zombie).await.unwrap());
    store::postpone(pool, &zombie, "too late", LONG).await.unwrap();
    store::release(pool, &zombie).await.unwrap();
    assert!(
        store::take(pool, &stock(1)).await.unwrap().is_none(),
        "the heir still has it"
    );
    assert!(store::mark_ready(pool, &heir).await.unwrap());
    assert_eq!(bench.count(READY).await, 1);
}

#[tokio::test]
async fn lists_are_sorted_by_creation_although_a_spares_id_is_older() {
    let bench = filled("spares_listed", 1).await;
    let spare = *spares(&bench).await.first().unwrap();
    sqlx::query("UPDATE tenant.spares SET state = 'building'")
        .execute(&bench.superuser)
        .await
        .unwrap();
    let first = bench.tenants.create(&ctx(LONG), new_tenant("first")).await.unwrap();
    sqlx::query("UPDATE tenant.spares SET state = 'ready'")
        .execute(&bench.superuser)
        .await
        .unwrap();
    let second = bench.tenants.create(&ctx(LONG), new_tenant("second")).await.unwrap();
    assert!(second.id == spare && second.id < first.id);
    let caller = ctx(LONG);
    let page = bench.tenants.list(&caller, false, 1, "").await.unwrap();
    assert_eq!(page.items, [second]);
    let page = bench
        .tenants
        .list(&caller, false, 1, &page.next_page_token)
        .await
        .unwrap();
    assert_eq!((page.items, page.next_page_token.as_str()), (vec![first], ""));
}
