//! Lanes with two choices, permits and slots, through PgBouncer's aliases and direct.

use std::collections::BTreeSet;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use rowhouse_db::{Error, Home, Lanes, Mode, TenantDb};
use rowhouse_devkit::cluster;
use rowhouse_devkit::pooler::Pooler;
use rowhouse_devkit::servers::{LanePools, Login};
use rowhouse_types::{Placement, TenantId};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::bench::{Bench, LONG, config, ctx, mutate_function, server, until};
use crate::drops::AtMost;
use crate::fence::waiting;
use crate::metrics::values;
use crate::notes::{BACKEND, LIST};

/// Too short for anything that waits; enough for one answer on a busy machine, over a connection that is there.
pub(crate) const SHORT: Duration = Duration::from_millis(700);

/// The guard of `rowhouse.enter_lane`.
const SLOT: &str = "IF pg_catalog.pg_try_advisory_xact_lock(
            pg_catalog.hashtextextended(tenant::text, 4700 OPERATOR(pg_catalog.+) slot)
        ) THEN";

/// Two processes on one database, each with its own pools and permits.
pub(crate) struct Replicas {
    pub(crate) one: TenantDb,
    pub(crate) two: TenantDb,
    pub(crate) bench: Bench,
    pooler: Pooler,
}

// === impl Replicas ===

impl Replicas {
    /// `server_connections`: of each lane, at PgBouncer.
    pub(crate) async fn start(name: &str, count: u16, server_connections: u32, slots: u16) -> Self {
        let lanes = Lanes {
            count,
            connections_per_lane_max: 4,
            server_connections_per_lane: server_connections,
            slots_per_tenant: slots,
            are_aliases: true,
        };
        Self::start_with(name, server_connections, lanes).await
    }

    /// `lanes`: what the processes are told.
    pub(crate) async fn start_with(name: &str, server_connections: u32, lanes: Lanes) -> Self {
        let bench = Bench::start(name, 1).await;
        let pools = LanePools {
            count: lanes.count,
            pool_size: server_connections,
        };
        let pooler = Pooler::start(&bench.databases, pools, server_connections.max(4))
            .await
            .unwrap();
        let connect = || TenantDb::connect(config(pooler.url().to_owned(), lanes), bench.directory.clone());
        Self {
            one: connect().await.unwrap(),
            two: connect().await.unwrap(),
            bench,
            pooler,
        }
    }

    /// Gives the tenant's plan a number of transactions.
    pub(crate) async fn grant(&self, tenant: TenantId, transactions_max: Option<u16>) {
        let home = self.bench.provisioner.describe(tenant, &server()).await.unwrap();
        self.bench.directory.put(Home {
            transactions_max,
            ..home
        });
    }

    /// A client of `rowhouse_app` over one of the aliases.
    pub(crate) async fn app(&self, lane: &str) -> Client {
        cluster::connect(&format!("{}_{lane}", self.pooler.url()))
            .await
            .unwrap()
    }

    /// The aliases over which something is under way.
    async fn busy(&self) -> BTreeSet<String> {
        let console = cluster::connect(&self.pooler.console_url()).await.unwrap();
        let shown = console.simple_query("SHOW POOLS").await.unwrap();
        let rows = shown.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) if row.get("sv_active") != Some("0") => row.get("database"),
            _ => None,
        });
        let database = self.bench.databases.data_name();
        rows.filter_map(|alias| alias.strip_prefix(database))
            .map(str::to_owned)
            .collect()
    }
}

pub(crate) async fn list(db: &TenantDb, tenant: TenantId, left: Duration) -> Result<usize, Error> {
    let mut tx = db.begin_single(&ctx(tenant, left), Mode::Read).await?;
    Ok(tx.fetch_all(&LIST, &[]).await?.len())
}

/// A transaction that has entered and stays open.
pub(crate) async fn open(db: &TenantDb, tenant: TenantId) -> rowhouse_db::TenantTx {
    let mut tx = db.begin(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    tx.fetch_all(&LIST, &[]).await.unwrap();
    tx
}

#[tokio::test]
async fn a_tenant_uses_two_lanes_and_the_less_busy_of_them() {
    let replicas = Replicas::start("two_choices", 16, 1, 2).await;
    let tenant = replicas.bench.tenant().await;
    let first = open(&replicas.one, tenant).await;
    let lane = replicas.busy().await;
    assert_eq!(lane.len(), 1, "{lane:?}");
    let second = open(&replicas.one, tenant).await;
    let pair = replicas.busy().await;
    assert!(pair.len() == 2 && pair.is_superset(&lane), "{pair:?}");
    drop(second.commit().await);
    // The first is the busier now, so the second again.
    let second = open(&replicas.one, tenant).await;
    assert_eq!(replicas.busy().await, pair);
    first.commit().await.unwrap();
    second.commit().await.unwrap();
    // And in the other process the same ones.
    let (first, second) = (open(&replicas.two, tenant).await, open(&replicas.two, tenant).await);
    assert_eq!(replicas.busy().await, pair);
    drop((first, second));
}

#[tokio::test]
async fn streams_use_connections_of_their_own() {
    let replicas = Replicas::start("bulk", 2, 1, 1).await;
    let tenant = replicas.bench.tenant().await;
    let held = open(&replicas.one, tenant).await;
    assert_eq!(list(&replicas.one, tenant, SHORT).await, Err(Error::Busy));
    let stream = open(&replicas.one.bulk(), tenant).await;
    assert!(replicas.busy().await.contains("_bulk"));
    held.commit().await.unwrap();
    assert_eq!(list(&replicas.one, tenant, LONG).await, Ok(0), "a stream takes no slot");
    stream.commit().await.unwrap();
}

#[tokio::test]
async fn a_tenant_waits_for_its_permits_within_the_deadline() {
    let replicas = Replicas::start("permits", 2, 4, 2).await;
    let (tenant, neighbour) = (replicas.bench.tenant().await, replicas.bench.tenant().await);
    let (first, second) = (open(&replicas.one, tenant).await, open(&replicas.one, tenant).await);
    assert_eq!(list(&replicas.one, tenant, SHORT).await, Err(Error::Busy));
    assert_eq!(list(&replicas.one, neighbour, LONG).await, Ok(0));
    let (listed, committed) = tokio::join!(list(&replicas.one, tenant, LONG), first.commit());
    assert_eq!((listed, committed), (Ok(0), Ok(())));
    second.commit().await.unwrap();
}

#[tokio::test]
async fn a_tenants_slots_hold_over_all_processes() {
    let replicas = Replicas::start("slots", 2, 4, 2).await;
    let (tenant, neighbour) = (replicas.bench.tenant().await, replicas.bench.tenant().await);
    assert_eq!(
        list(&replicas.two, tenant, LONG).await,
        Ok(0),
        "the lanes are connected"
    );
    let (first, second) = (open(&replicas.one, tenant).await, open(&replicas.one, tenant).await);
    assert_eq!(list(&replicas.two, tenant, SHORT).await, Err(Error::Busy));
    assert_eq!(list(&replicas.two, neighbour, LONG).await, Ok(0));
    // What was refused has not run, and is said again: whole transactions, and those of several statements.
    let (listed, committed) = tokio::join!(list(&replicas.two, tenant, LONG), first.commit());
    assert_eq!((listed, committed), (Ok(0), Ok(())));
    let first = open(&replicas.one, tenant).await;
    let (opened, committed) = tokio::join!(open(&replicas.two, tenant), first.commit());
    assert_eq!(committed, Ok(()));
    assert_eq!(list(&replicas.two, tenant, SHORT).await, Err(Error::Busy));
    second.commit().await.unwrap();
    assert_eq!(list(&replicas.two, tenant, LONG).await, Ok(0));
    opened.commit().await.unwrap();
}

#[tokio::test]
async fn a_plan_may_grant_more_slots_or_fewer() {
    let replicas = Replicas::start("plan_slots", 2, 4, 2).await;
    let (few, many) = (replicas.bench.tenant().await, replicas.bench.tenant().await);
    replicas.grant(few, Some(1)).await;
    replicas.grant(many, Some(3)).await;
    for tenant in [few, many] {
        assert_eq!(
            list(&replicas.two, tenant, LONG).await,
            Ok(0),
            "the lanes are connected"
        );
    }
    // The bound is the plan's, so the refusal says which and how many.
    let exceeded = |tenant, most| Err(Error::TransactionsExceeded { tenant, most });
    let held = open(&replicas.one, few).await;
    assert_eq!(
        list(&replicas.one, few, SHORT).await,
        exceeded(few, 1),
        "in this process"
    );
    assert_eq!(list(&replicas.two, few, SHORT).await, exceeded(few, 1), "over all");
    let three = [
        open(&replicas.one, many).await,
        open(&replicas.one, many).await,
        open(&replicas.two, many).await,
    ];
    assert_eq!(list(&replicas.two, many, SHORT).await, exceeded(many, 3));
    // Made smaller than what is under way: nothing is taken back, and nothing new is let in.
    replicas.grant(many, Some(1)).await;
    for replica in [&replicas.one, &replicas.two] {
        assert_eq!(list(replica, many, SHORT).await, exceeded(many, 1));
    }
    for transaction in three {
        assert_eq!(transaction.commit().await, Ok(()));
    }
    assert_eq!(list(&replicas.two, many, LONG).await, Ok(0));
    drop(held);

    // In a database of its own nothing bounds a tenant but its plan.
    let own = replicas.bench.tenant_in(Placement::Database).await;
    let unbounded = [
        open(&replicas.one, own).await,
        open(&replicas.one, own).await,
        open(&replicas.one, own).await,
    ];
    drop(unbounded);
    replicas.grant(own, Some(1)).await;
    assert_eq!(list(&replicas.two, own, LONG).await, Ok(0));
    let held = open(&replicas.one, own).await;
    assert_eq!(list(&replicas.two, own, SHORT).await, exceeded(own, 1));
    held.commit().await.unwrap();
    assert_eq!(list(&replicas.two, own, LONG).await, Ok(0));
}

#[tokio::test]
async fn a_plan_grants_no_more_slots_than_leave_the_neighbours_a_connection() {
    let replicas = Replicas::start("plan_cap", 2, 3, 1).await;
    for placement in [Placement::Schema, Placement::Shared] {
        let tenant = replicas.bench.tenant_in(placement).await;
        replicas.grant(tenant, Some(64)).await;
        assert_eq!(
            list(&replicas.two, tenant, LONG).await,
            Ok(0),
            "the lanes are connected"
        );
        let held = (open(&replicas.one, tenant).await, open(&replicas.two, tenant).await);
        // It is the lanes that refuse: the plan would have let it in.
        for db in [&replicas.one, &replicas.two] {
            assert_eq!(list(db, tenant, SHORT).await, Err(Error::Busy), "{placement:?}");
        }
        drop(held);
    }
    // In a database of its own there is nobody beside it.
    let own = replicas.bench.tenant_in(Placement::Database).await;
    replicas.grant(own, Some(64)).await;
    let all = (
        open(&replicas.one, own).await,
        open(&replicas.one, own).await,
        open(&replicas.two, own).await,
    );
    drop(all);
}

/// A tenant that always has a transaction under way, in this process.
#[tokio::test]
async fn another_number_of_the_plan_reaches_a_tenant_that_is_never_idle() {
    let replicas = Replicas::start("plan_change", 2, 4, 2).await;
    let (db, tenant) = (&replicas.one, replicas.bench.tenant().await);
    replicas.grant(tenant, Some(1)).await;
    let throughout = open(db, tenant).await;
    let exceeded = |most| Err(Error::TransactionsExceeded { tenant, most });
    assert_eq!(list(db, tenant, SHORT).await, exceeded(1));
    replicas.grant(tenant, Some(3)).await;
    let (second, third) = (open(db, tenant).await, open(db, tenant).await);
    assert_eq!(list(db, tenant, SHORT).await, exceeded(3));
    replicas.grant(tenant, Some(2)).await;
    assert_eq!(list(db, tenant, SHORT).await, exceeded(2), "three are under way");
    third.commit().await.unwrap();
    assert_eq!(list(db, tenant, SHORT).await, exceeded(2), "two are");
    second.commit().await.unwrap();
    assert_eq!(list(db, tenant, LONG).await, Ok(0));
    throughout.commit().await.unwrap();
}

/// The control: an `enter_lane` that gives every slot away again and again.
#[tokio::test]
async fn without_the_slots_each_process_would_take_as_many() {
    let replicas = Replicas::start("no_slots", 2, 4, 2).await;
    mutate_function(&replicas.bench, "rowhouse.enter_lane", SLOT, "IF true THEN").await;
    let tenant = replicas.bench.tenant().await;
    let held = (open(&replicas.one, tenant).await, open(&replicas.one, tenant).await);
    assert_eq!(list(&replicas.two, tenant, LONG).await, Ok(0));
    let third = list(&replicas.one, tenant, SHORT).await;
    assert_eq!(third, Err(Error::Busy), "the permits hold in their own process");
    drop(held);
}

/// A change of state is waited for, which is no refusal; and no more than the slots wait.
#[tokio::test]
async fn who_waits_for_a_freeze_holds_no_more_than_the_slots() {
    let replicas = Replicas::start("slots_freeze", 2, 4, 2).await;
    let (tenant, neighbour) = (replicas.bench.tenant().await, replicas.bench.tenant().await);
    let (mut holder, superuser) = (replicas.bench.superuser().await, replicas.bench.superuser().await);
    let freezing = holder.transaction().await.unwrap();
    freezing
        .execute(
            "SELECT pg_advisory_xact_lock(rowhouse.tenant_lock($1))",
            &[&tenant.uuid()],
        )
        .await
        .unwrap();
    assert_eq!(
        list(&replicas.one, tenant, SHORT).await,
        Err(Error::DeadlineExceeded),
        "it had a slot and waited for the lock"
    );
    let mut calls = tokio::task::JoinSet::new();
    for db in [&replicas.one, &replicas.two] {
        for _ in 0..4 {
            let db = db.clone();
            calls.spawn(async move { list(&db, tenant, LONG).await });
        }
    }
    until(|| async { waiting(&superuser).await == 2 }).await;
    for _ in 0..20 {
        for db in [&replicas.one, &replicas.two] {
            assert_eq!(list(db, neighbour, LONG).await, Ok(0));
            assert!(waiting(&superuser).await <= 2);
        }
    }
    freezing.commit().await.unwrap();
    for listed in calls.join_all().await {
        assert_eq!(listed, Ok(0));
    }
}

/// T02 for what a transaction holds beside its connection: the place in its lane, the permit, the slot.
#[tokio::test]
async fn a_dropped_transaction_gives_everything_back() {
    let replicas = Replicas::start("dropped", 16, 1, 1).await;
    let (bench, tenant) = (&replicas.bench, replicas.bench.tenant().await);
    let superuser = bench.superuser().await;
    let alone = open(&replicas.one, tenant).await;
    let first_choice = replicas.busy().await;
    drop(alone);
    for polls in 1..=12 {
        for single in [true, false] {
            let db = replicas.one.clone();
            let calling = async move {
                if single {
                    return list(&db, tenant, LONG).await.map(drop);
                }
                let mut tx = open(&db, tenant).await;
                tx.fetch_all(&LIST, &[]).await.map(drop)
            };
            AtMost::new(calling, polls).await;
            // The one slot is free for the other process, the one permit for this one.
            assert_eq!(list(&replicas.two, tenant, LONG).await, Ok(0), "after {polls} polls");
            assert_eq!(list(&replicas.one, tenant, LONG).await, Ok(0), "after {polls} polls");
        }
    }
    bench.until_idle(&superuser).await;
    let alone = open(&replicas.one, tenant).await;
    assert_eq!(replicas.busy().await, first_choice, "no lane counts what has gone");
    alone.commit().await.unwrap();
}

#[tokio::test]
async fn straight_to_postgresql_lanes_are_pools_and_slots_hold() {
    let bench = Bench::start("direct", 1).await;
    let lanes = Lanes {
        count: 4,
        connections_per_lane_max: 2,
        server_connections_per_lane: 1,
        slots_per_tenant: 1,
        are_aliases: false,
    };
    let url = bench.databases.data_url(Login::App);
    let connect = || TenantDb::connect(config(url.clone(), lanes), bench.directory.clone());
    let (one, two) = (connect().await.unwrap(), connect().await.unwrap());
    let tenant = bench.tenant().await;
    one.ping().await.unwrap();
    let held = open(&one, tenant).await;
    assert_eq!(list(&two, tenant, SHORT).await, Err(Error::Busy));
    assert_eq!(list(&two.bulk(), tenant, LONG).await, Ok(0));
    held.commit().await.unwrap();
    assert_eq!(list(&two, tenant, LONG).await, Ok(0));
}

/// Only a backstop, and it helps only where closing a connection closes a back end.
#[tokio::test]
async fn a_connection_that_has_served_too_many_homes_is_closed() {
    let lanes = Lanes {
        count: 2,
        connections_per_lane_max: 1,
        server_connections_per_lane: 1,
        slots_per_tenant: 1,
        are_aliases: false,
    };
    is_retired("retired", lanes).await;
}

/// One pool for everybody: the more homes for each connection.
#[tokio::test]
async fn without_lanes_it_is_closed_too() {
    is_retired("retired_off", Lanes::OFF).await;
}

async fn is_retired(name: &str, lanes: Lanes) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _local = metrics::set_default_local_recorder(&recorder);
    let counted = || {
        values(&recorder, "rowhouse_db_retired_connections_total")
            .into_values()
            .sum::<u64>()
    };
    let bench = Bench::start(name, 1).await;
    let direct = config(bench.databases.data_url(Login::App), lanes);
    let db = TenantDb::connect(direct, bench.directory.clone()).await.unwrap();
    let home = bench.prepare(TenantId::generate()).await;
    bench.directory.put(home.clone());
    let back_end = async || {
        let mut tx = db.begin_single(&ctx(home.tenant, LONG), Mode::Read).await.unwrap();
        tx.fetch_one(&BACKEND, &[]).await.unwrap().0
    };
    // Homes that the directory knows and the server does not: they are counted all the same.
    let visit = async |homes: usize| {
        for _ in 0..homes {
            let tenant = TenantId::generate();
            bench.directory.put(Home { tenant, ..home.clone() });
            assert_eq!(list(&db, tenant, LONG).await, Err(Error::TenantNotReady));
        }
    };
    let before = back_end().await;
    visit(300).await;
    assert_eq!(back_end().await, before, "the bound is 336 for a connection");
    assert_eq!(counted(), 0);
    visit(700).await;
    assert_ne!(back_end().await, before);
    assert_eq!(
        counted(),
        2,
        "of 1,001 homes over one connection, or about half over each of two"
    );
}

#[tokio::test]
async fn lanes_without_their_aliases_are_found_before_the_first_call() {
    let bench = Bench::start("no_aliases", 1).await;
    let lanes = Lanes {
        count: 2,
        connections_per_lane_max: 1,
        server_connections_per_lane: 1,
        slots_per_tenant: 1,
        are_aliases: true,
    };
    let pooled = config(bench.databases.data_pooled_url(), lanes);
    let db = TenantDb::connect(pooled, bench.directory.clone()).await.unwrap();
    let pinged = db.ping().await;
    assert!(matches!(pinged, Err(Error::Unavailable(_))), "{pinged:?}");

    let replicas = Replicas::start("aliases", 2, 1, 1).await;
    assert_eq!(replicas.one.ping().await, Ok(()));
}
