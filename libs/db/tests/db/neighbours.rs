//! T30: one tenant's transactions sleep and wait for locks, from two processes; the neighbours share both
//! of its lanes. Its plan says nothing, or grants it more than both lanes have.

use std::time::Duration;

use rowhouse_db::{Error, Lanes, Mode, TenantDb};
use rowhouse_devkit::torture::Torture;
use rowhouse_types::TenantId;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bench::{LONG, ctx, schema, until};
use crate::lanes::{Replicas, list};
use crate::notes::{INSERT, LIST, SLEEP};

/// Every tenant's lanes are these two.
const LANES: u16 = 2;
/// Server connections of each lane.
const SERVER_CONNECTIONS: u32 = 3;
const SLOTS: u16 = 2;
/// More than both lanes have: the most that a plan may say.
const GREEDY: Option<u16> = Some(64);
/// Calls of the bad tenant at once, in each process: half sleep, half wait for a lock.
const BAD_CALLS: usize = 8;
const NEIGHBOURS: usize = 5;
const ROUNDS: usize = 10;

/// Too short for anything that waits.
const SHORT: Duration = Duration::from_millis(300);

/// Connections on which the tenant sleeps, or waits for its notes. Neighbours wait for locks too, now and then: whoever makes a
/// table longer keeps the next one waiting for a moment.
async fn held(superuser: &tokio_postgres::Client, tenant: TenantId) -> i64 {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity AS backend
         WHERE usename = 'rowhouse_app' AND datname = current_database() AND state = 'active'
             AND (wait_event = 'PgSleep' OR EXISTS (
                 SELECT FROM pg_locks WHERE pg_locks.pid = backend.pid AND NOT granted
                     AND relation = '{}.notes'::regclass))",
        schema(tenant)
    );
    superuser.query_one(&sql, &[]).await.unwrap().get(0)
}

/// Sleeps, or waits for the lock on its notes, as often as it is let; never ends by itself.
async fn misbehave(db: TenantDb, tenant: TenantId, sleeps: bool) {
    loop {
        // Refusals are what it deserves.
        let _: Result<(), Error> = async {
            let mut tx = db.begin_single(&ctx(tenant, LONG), Mode::Read).await?;
            if sleeps {
                tx.fetch_all(&SLEEP, &[&600.0]).await.map(drop)
            } else {
                tx.fetch_all(&LIST, &[]).await.map(drop)
            }
        }
        .await;
    }
}

/// The bad tenant at work in both processes; it stops when the set is dropped.
fn start_misbehaving(replicas: &Replicas, bad: TenantId) -> JoinSet<()> {
    let mut calls = JoinSet::new();
    for db in [&replicas.one, &replicas.two] {
        for number in 0..BAD_CALLS {
            calls.spawn(misbehave(db.clone(), bad, number % 2 == 0));
        }
    }
    calls
}

/// A superuser's transaction that holds the lock on the tenant's notes.
async fn lock_notes<'a>(holder: &'a mut tokio_postgres::Client, tenant: TenantId) -> tokio_postgres::Transaction<'a> {
    let transaction = holder.transaction().await.unwrap();
    let sql = format!("LOCK TABLE {}.notes IN ACCESS EXCLUSIVE MODE", schema(tenant));
    transaction.batch_execute(&sql).await.unwrap();
    transaction
}

async fn work(db: TenantDb, tenant: TenantId) -> Result<(), Error> {
    for _ in 0..ROUNDS {
        let id = Uuid::now_v7();
        let mut tx = db.begin_single(&ctx(tenant, LONG), Mode::Write).await?;
        tx.fetch_one(&INSERT, &[&id, &id.to_string()]).await?;
        list(&db, tenant, LONG).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_of_a_tenant_that_sleeps_in_both_its_lanes_do_not_fail() {
    let mut torture = Torture::begin("T30", "lanes");
    while torture.round().is_some() {
        for transactions_max in [None, GREEDY] {
            round(&mut torture, transactions_max).await;
        }
    }
}

/// `transactions_max`: what the bad tenant's plan says.
async fn round(torture: &mut Torture, transactions_max: Option<u16>) {
    let replicas = Replicas::start("neighbours", LANES, SERVER_CONNECTIONS, SLOTS).await;
    let (mut holder, superuser) = (replicas.bench.superuser().await, replicas.bench.superuser().await);
    let bad = replicas.bench.tenant().await;
    replicas.grant(bad, transactions_max).await;
    let mut neighbours = Vec::new();
    for _ in 0..NEIGHBOURS {
        neighbours.push(replicas.bench.tenant().await);
    }
    let locked = lock_notes(&mut holder, bad).await;
    let calls = start_misbehaving(&replicas, bad);
    until(|| async { held(&superuser, bad).await == i64::from(SLOTS) }).await;

    let mut working = JoinSet::new();
    for db in [&replicas.one, &replicas.two] {
        for tenant in &neighbours {
            working.spawn(work(db.clone(), *tenant));
        }
    }
    let mut most_held = 0;
    while !working.is_empty() {
        most_held = most_held.max(held(&superuser, bad).await);
        while let Some(worked) = working.try_join_next() {
            assert_eq!(worked.unwrap(), Ok(()));
        }
    }
    assert_eq!(most_held, i64::from(SLOTS), "over both processes");
    for tenant in &neighbours {
        assert_eq!(list(&replicas.one, *tenant, LONG).await, Ok(2 * ROUNDS));
        torture.trials(4 * ROUNDS);
    }
    drop((calls, locked));
}

/// The control: with as many slots as it likes, the same tenant has every connection of both lanes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_bound_the_neighbours_would_fail() {
    let replicas = Replicas::start("no_bound", LANES, SERVER_CONNECTIONS, 100).await;
    has_every_connection(&replicas, None).await;
}

/// The control of a plan's bound: processes that are told of wider lanes than there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_lanes_bound_on_its_plan_the_neighbours_would_fail() {
    let lanes = Lanes {
        count: LANES,
        connections_per_lane_max: 100,
        server_connections_per_lane: 100,
        slots_per_tenant: SLOTS,
        are_aliases: true,
    };
    let replicas = Replicas::start_with("no_plan_bound", SERVER_CONNECTIONS, lanes).await;
    has_every_connection(&replicas, GREEDY).await;
}

async fn has_every_connection(replicas: &Replicas, transactions_max: Option<u16>) {
    let (mut holder, superuser) = (replicas.bench.superuser().await, replicas.bench.superuser().await);
    let (bad, neighbour) = (replicas.bench.tenant().await, replicas.bench.tenant().await);
    replicas.grant(bad, transactions_max).await;
    let locked = lock_notes(&mut holder, bad).await;
    let calls = start_misbehaving(replicas, bad);
    let all = i64::from(SERVER_CONNECTIONS) * i64::from(LANES);
    until(|| async { held(&superuser, bad).await == all }).await;
    for db in [&replicas.one, &replicas.two] {
        let listed = list(db, neighbour, SHORT).await;
        assert_eq!(listed, Err(Error::DeadlineExceeded));
    }
    drop((calls, locked));
}
