//! Pools of tenants' own databases: bounded in number, closed when idle.

use std::time::Duration;

use rowhouse_db::{Lanes, OwnDatabases, TenantDb, TenantDbConfig};

use super::*;
use crate::bench::config;
use crate::lanes::{self, SHORT, open};
use crate::notes::LIST;

/// Straight to PostgreSQL, where a connection that is closed is gone.
async fn connect(bench: &Bench, own_databases: OwnDatabases) -> TenantDb {
    let config = TenantDbConfig {
        own_databases,
        ..config(bench.databases.data_url(Login::App), Lanes::OFF)
    };
    TenantDb::connect(config, bench.directory.clone()).await.unwrap()
}

async fn list(db: &TenantDb, tenant: TenantId) {
    let mut tx = db.begin_single(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    assert_eq!(tx.fetch_all(&LIST, &[]).await.unwrap(), []);
}

async fn connections(superuser: &Client, tenant: TenantId) -> i64 {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = datname",
        schema(tenant)
    );
    count(superuser, &sql).await
}

/// One connection to all such databases of the server. After it has ended it counts for `pooler_idle`.
fn one_place(pooler_idle: Duration) -> OwnDatabases {
    OwnDatabases {
        server_connections_max: 1,
        idle_max: LONG * 3,
        pooler_idle,
        ..OwnDatabases::default()
    }
}

/// Asks for the one connection where whoever had it gives it up or has lost it. Who asks is refused where that one counts still.
async fn takes_over(db: &TenantDb, tenant: TenantId, pooler_idle: Duration) {
    let expected = if pooler_idle.is_zero() { Ok(0) } else { Err(Error::Busy) };
    assert_eq!(lanes::list(db, tenant, LONG).await, expected);
}

#[tokio::test]
async fn a_pool_that_nobody_uses_is_closed_and_opened_again() {
    let bench = Bench::start("own_idle", 1).await;
    let (tenant, superuser) = (bench.tenant_in(DATABASE).await, bench.superuser().await);
    let bounds = OwnDatabases {
        idle_max: Duration::from_millis(20),
        ..OwnDatabases::default()
    };
    let db = connect(&bench, bounds).await;
    for _ in 0..2 {
        list(&db, tenant).await;
        until(|| async { db.own_databases_open() == 0 && connections(&superuser, tenant).await == 0 }).await;
    }
    // One that is in use stays, however long.
    let mut tx = db.begin(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    tx.fetch_all(&LIST, &[]).await.unwrap();
    list(&db, bench.tenant_in(DATABASE).await).await;
    until(|| async { db.own_databases_open() == 1 }).await;
    assert_eq!(connections(&superuser, tenant).await, 1);
    tx.commit().await.unwrap();
    until(|| async { db.own_databases_open() == 0 }).await;
    db.shutdown().await;
}

#[tokio::test]
async fn the_pool_that_was_used_longest_ago_makes_room() {
    let bench = Bench::start("own_many", 1).await;
    let superuser = bench.superuser().await;
    let bounds = OwnDatabases {
        open_max: 2,
        connections_max: 1,
        idle_max: LONG * 3,
        ..OwnDatabases::default()
    };
    let db = connect(&bench, bounds).await;
    let mut tenants = Vec::new();
    for _ in 0..3 {
        tenants.push(bench.tenant_in(DATABASE).await);
    }
    for at in [0, 1, 0, 2] {
        list(&db, tenants[at]).await;
        assert!(db.own_databases_open() <= 2);
    }
    until(|| async { connections(&superuser, tenants[1]).await == 0 }).await;
    for at in [0, 2] {
        assert_eq!(connections(&superuser, tenants[at]).await, 1);
    }
    // A transaction is not torn apart when its pool makes room.
    let mut tx = db.begin(&ctx(tenants[0], LONG), Mode::Write).await.unwrap();
    tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"kept"]).await.unwrap();
    let mut other = db.begin(&ctx(tenants[1], LONG), Mode::Read).await.unwrap();
    other.fetch_all(&LIST, &[]).await.unwrap();
    list(&db, tenants[2]).await;
    tx.commit().await.unwrap();
    other.commit().await.unwrap();
    db.shutdown().await;
    for tenant in &tenants {
        until(|| async { connections(&superuser, *tenant).await == 0 }).await;
    }
    assert_eq!(bench.list(tenants[0]).await.unwrap().len(), 1);
}

/// Whoever comes meanwhile waits for the permit, in order, and asks neither the pool nor the server. With one connection that
/// shows: without the permit the connection is what is waited for, and the refusal is not the plan's.
#[tokio::test]
async fn a_transaction_keeps_its_tenants_permit_to_its_end() {
    let bench = Bench::start("own_permit", 1).await;
    let home = bench.prepare_in(TenantId::generate(), DATABASE).await;
    let (tenant, most) = (home.tenant, 1);
    bench.directory.put(Home {
        transactions_max: Some(most),
        ..home
    });
    let bounds = OwnDatabases {
        connections_max: 1,
        ..OwnDatabases::default()
    };
    let db = connect(&bench, bounds).await;
    let held = open(&db, tenant).await;
    let waiting = lanes::list(&db, tenant, SHORT).await;
    assert_eq!(waiting, Err(Error::TransactionsExceeded { tenant, most }));
    held.commit().await.unwrap();
    list(&db, tenant).await;
}

/// Without a pool that makes room the second tenant would be refused, as the control shows: there the pooler keeps the connection
/// behind it, so that it counts still.
#[tokio::test]
async fn where_all_places_are_taken_a_pool_that_nobody_uses_makes_room() {
    let bench = Bench::start("own_places", 1).await;
    let superuser = bench.superuser().await;
    let (first, second) = (bench.tenant_in(DATABASE).await, bench.tenant_in(DATABASE).await);
    for pooler_idle in [Duration::ZERO, LONG * 3] {
        let db = connect(&bench, one_place(pooler_idle)).await;
        list(&db, first).await;
        takes_over(&db, second, pooler_idle).await;
        until(|| async { connections(&superuser, first).await == 0 }).await;
        db.shutdown().await;
    }
}

/// The control is a tenant that has no connection: for that one the neighbour gives up his.
#[tokio::test]
async fn only_who_has_no_connection_takes_one_from_a_pool_that_has_any() {
    let bench = Bench::start("own_saturated", 1).await;
    let superuser = bench.superuser().await;
    let mut tenants = Vec::new();
    for _ in 0..4 {
        tenants.push(bench.tenant_in(DATABASE).await);
    }
    let [busy, neighbour, third, fourth] = tenants[..] else {
        panic!("four tenants")
    };
    let bounds = OwnDatabases {
        connections_max: 1,
        server_connections_max: 2,
        idle_max: LONG * 3,
        pooler_idle: Duration::ZERO,
        ..OwnDatabases::default()
    };
    let db = connect(&bench, bounds).await;
    let held = open(&db, busy).await;
    list(&db, neighbour).await;
    // It has all that it may have, and could not use another's.
    lanes::list(&db, busy, SHORT).await.unwrap_err();
    assert_eq!(db.own_databases_open(), 2);
    assert_eq!(connections(&superuser, neighbour).await, 1);
    list(&db, third).await;
    until(|| async { connections(&superuser, neighbour).await == 0 }).await;

    // While nobody is idle, one is refused, whose pool stays, older than the next and without a connection to give up.
    let in_use = open(&db, third).await;
    assert_eq!(lanes::list(&db, neighbour, LONG).await, Err(Error::Busy));
    in_use.commit().await.unwrap();
    list(&db, third).await;
    assert_eq!(lanes::list(&db, fourth, LONG).await, Ok(0));
    until(|| async { connections(&superuser, third).await == 0 }).await;
    held.commit().await.unwrap();
    db.shutdown().await;
}

/// What ends a connection that nobody uses may be the network, and then a pooler keeps its own. The control has none in between.
#[tokio::test]
async fn a_connection_that_was_ended_while_it_was_idle_counts_as_long_as_a_pooler_would_keep_its_own() {
    let bench = Bench::start("own_ended", 1).await;
    let (tenant, superuser) = (bench.tenant_in(DATABASE).await, bench.superuser().await);
    for pooler_idle in [Duration::ZERO, LONG * 3] {
        let db = connect(&bench, one_place(pooler_idle)).await;
        list(&db, tenant).await;
        let end = format!(
            "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE usename = '{}'",
            schema(tenant)
        );
        superuser.query_one(&end, &[]).await.unwrap();
        until(|| async { connections(&superuser, tenant).await == 0 }).await;
        takes_over(&db, tenant, pooler_idle).await;
        db.shutdown().await;
        until(|| async { connections(&superuser, tenant).await == 0 }).await;
    }
}

/// Beside a transaction that goes on, and another that comes now and then.
#[tokio::test]
async fn a_pool_that_is_in_use_gives_back_the_connections_that_it_does_not_need() {
    let bench = Bench::start("own_shrinks", 1).await;
    let (tenant, superuser) = (bench.tenant_in(DATABASE).await, bench.superuser().await);
    let bounds = OwnDatabases {
        idle_max: Duration::from_millis(200),
        ..OwnDatabases::default()
    };
    let db = connect(&bench, bounds).await;
    let held = open(&db, tenant).await;
    let more = (open(&db, tenant).await, open(&db, tenant).await);
    assert_eq!(connections(&superuser, tenant).await, 3);
    more.0.commit().await.unwrap();
    more.1.commit().await.unwrap();
    until(|| async {
        list(&db, tenant).await;
        connections(&superuser, tenant).await <= 2
    })
    .await;
    held.commit().await.unwrap();
    db.shutdown().await;
}
