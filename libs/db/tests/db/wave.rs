//! T25 in short form: a fleet of both placements is migrated by three at once, back ends and whole migrators are killed all
//! the time, and traffic goes on in the old set of columns and the new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rowhouse_db::{
    BatchOrder, Deferred, Error, Home, Migration, Mode, Provisioner, Statement, TenantDb, TenantMigrations, Type,
    Variants,
};
use rowhouse_types::{Placement, TenantId};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bench::{Bench, LONG, ctx, provisioner, schema, server};
use crate::fleet::older_homes;
use crate::notes::{FIRST, Note};

const SCHEMA_HOMES: usize = 56;
const SHARED_HOMES: usize = 8;
/// Each shared home is in the one house that they share.
const HOUSES: usize = SCHEMA_HOMES + 1;
const CALLERS: usize = 6;
const MIGRATORS: usize = 3;
/// Houses that are done between one kill and the next.
const HOUSES_PER_KILL: i64 = 5;

/// Says in a table of its own that it was run, in the transaction in which it is.
const MARKED: TenantMigrations = TenantMigrations::new(&[
    FIRST,
    Migration {
        version: 2,
        name: "colour",
        sql: "ALTER TABLE notes ADD COLUMN colour text NOT NULL DEFAULT 'none';
              INSERT INTO rowhouse.marks (house) SELECT current_schema();",
        deferred: &[Deferred::Index {
            name: "notes_colour_idx",
            table: "notes",
            definition: "(tenant_id, colour)",
            unique: false,
        }],
    },
]);

const INSERT: Variants<Note> = Variants {
    since: 2,
    newer: Statement::new(
        "note.insert_coloured",
        "INSERT INTO notes (tenant_id, id, body, colour) VALUES ($1, $2, $3, 'red') RETURNING tenant_id, id, colour AS body",
        &[Type::UUID, Type::TEXT],
    ),
    older: Statement::new(
        "note.insert_plain",
        "INSERT INTO notes (tenant_id, id, body) VALUES ($1, $2, $3) RETURNING tenant_id, id, body",
        &[Type::UUID, Type::TEXT],
    ),
};

#[derive(Default)]
struct Seen {
    older: AtomicUsize,
    newer: AtomicUsize,
    failed: AtomicUsize,
    stop: AtomicBool,
}

/// One call in the set of columns that the home has, as the directory says.
async fn call(db: &TenantDb, tenant: TenantId) -> Result<bool, Error> {
    let mut tx = db.begin_single(&ctx(tenant, LONG), Mode::Write).await?;
    let statement = tx.variant(&INSERT);
    let note = tx
        .fetch_one(statement, &[&Uuid::now_v7(), &Uuid::new_v4().to_string()])
        .await?;
    Ok(note.body == "red")
}

async fn traffic(db: TenantDb, tenants: Arc<[TenantId]>, first: usize, seen: Arc<Seen>) {
    let mut at = first;
    while !seen.stop.load(Ordering::Relaxed) {
        at += 1;
        let counter = match call(&db, tenants[at % tenants.len()]).await {
            Ok(true) => &seen.newer,
            Ok(false) => &seen.older,
            Err(error) => {
                println!("{error:?}");
                &seen.failed
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Works until nothing is left; a connection that is cut is no reason to stop.
async fn migrate(migrator: Provisioner) {
    loop {
        let order = BatchOrder {
            houses_max: 3,
            ..BatchOrder::all(2)
        };
        match migrator.migrate_batch(&server(), &order).await {
            Ok(batch) if batch.census.behind == 0 => return,
            Ok(_) | Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Kills a back end of the owner, and one migrator as a whole, whenever some more houses are done.
async fn kill_until_done(bench: &Bench, migrators: &mut JoinSet<()>, seen: &Seen) -> (u64, usize) {
    let superuser = bench.superuser().await;
    let (mut killed, mut aborted, mut next) = (0, 0, HOUSES_PER_KILL);
    let mut victim = migrators.spawn(migrate(provisioner(&bench.databases, MARKED).await));
    loop {
        let sql = "SELECT count(*) FILTER (WHERE version = 2), count(*) FILTER (WHERE deferred_version < 2)
                   FROM rowhouse.houses";
        let row = superuser.query_one(sql, &[]).await.unwrap();
        let (done, left): (i64, i64) = (row.get(0), row.get(1));
        if left == 0 {
            return (killed, aborted);
        }
        if done >= next {
            next += HOUSES_PER_KILL;
            let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                        WHERE usename = 'rowhouse_owner' AND datname = current_database() AND state <> 'idle'
                        ORDER BY random() LIMIT 1";
            killed += superuser.execute(kill, &[]).await.unwrap();
            victim.abort();
            aborted += 1;
            victim = migrators.spawn(migrate(provisioner(&bench.databases, MARKED).await));
            // The directory is told in bulk, and late.
            tell_directory(bench, &superuser).await;
        }
        assert_eq!(seen.failed.load(Ordering::Relaxed), 0);
    }
}

async fn tell_directory(bench: &Bench, superuser: &tokio_postgres::Client) {
    let sql = "SELECT tenant_id, placement, generation FROM rowhouse.homes JOIN rowhouse.houses USING (house_id)
               WHERE version = 2";
    for row in superuser.query(sql, &[]).await.unwrap() {
        let tenant = TenantId::from_uuid(row.get(0));
        bench.directory.put(Home {
            tenant,
            server: server(),
            placement: row.get::<_, String>(1).parse().unwrap(),
            generation: row.get(2),
            version: 2,
            state: rowhouse_types::HomeState::Active,
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_is_migrated_under_traffic_whatever_is_killed() {
    let bench = Bench::start("wave", 4).await;
    let superuser = bench.superuser().await;
    superuser
        .batch_execute(
            "CREATE TABLE rowhouse.marks (house text NOT NULL); GRANT INSERT ON rowhouse.marks TO rowhouse_owner",
        )
        .await
        .unwrap();
    let mut tenants = older_homes(&bench, Placement::Schema, SCHEMA_HOMES).await;
    tenants.extend(older_homes(&bench, Placement::Shared, SHARED_HOMES).await);
    let tenants: Arc<[TenantId]> = tenants.into();
    let seen = Arc::new(Seen::default());
    let mut callers = JoinSet::new();
    for first in 0..CALLERS {
        callers.spawn(traffic(bench.db.clone(), tenants.clone(), first * 11, seen.clone()));
    }
    let mut migrators = JoinSet::new();
    for _ in 1..MIGRATORS {
        migrators.spawn(migrate(provisioner(&bench.databases, MARKED).await));
    }
    let (killed, aborted) = kill_until_done(&bench, &mut migrators, &seen).await;
    while let Some(ended) = migrators.join_next().await {
        assert!(ended.is_ok() || ended.is_err_and(|error| error.is_cancelled()));
    }
    tell_directory(&bench, &superuser).await;
    let newer = seen.newer.load(Ordering::Relaxed);
    crate::bench::until(|| async { seen.newer.load(Ordering::Relaxed) > newer + CALLERS }).await;
    seen.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    println!(
        "older {} newer {} failed {} killed {killed} aborted {aborted}",
        count(&seen.older),
        count(&seen.newer),
        count(&seen.failed)
    );
    assert_eq!(count(&seen.failed), 0);
    assert!(count(&seen.older) > 0 && count(&seen.newer) > 0 && aborted > 5);
    migrated_once(&bench, &superuser).await;
}

/// The ledger, the catalogue and the migration's own marks agree.
async fn migrated_once(bench: &Bench, superuser: &tokio_postgres::Client) {
    let sql = "SELECT count(*), count(DISTINCT house), (SELECT count(*) FROM rowhouse.houses WHERE version = 2 AND deferred_version = 2)
               FROM rowhouse.marks";
    let row = superuser.query_one(sql, &[]).await.unwrap();
    let houses = i64::try_from(HOUSES).unwrap();
    let counted: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!(counted, [houses; 3], "each house is migrated once");
    superuser
        .batch_execute("GRANT SELECT ON rowhouse.marks TO rowhouse_owner")
        .await
        .unwrap();
    let migrator = provisioner(&bench.databases, MARKED).await;
    let page = migrator.check_drift(&server(), None, 500).await.unwrap();
    assert_eq!((page.checked, page.drifts.len()), (HOUSES, 0), "{:?}", page.drifts);
    assert!(migrator.describe_fleet(&server()).await.unwrap().1.is_empty());
}

/// The control of the house's lock: two that read what is behind and do not hold it run the same migration twice.
#[tokio::test]
async fn without_the_lock_two_migrators_collide() {
    let bench = Bench::start("wave_lock", 1).await;
    let tenant = older_homes(&bench, Placement::Schema, 1).await[0];
    let (one, other) = (bench.superuser().await, bench.superuser().await);
    let behind = "SELECT count(*) FROM rowhouse.houses WHERE version < 2";
    for client in [&one, &other] {
        assert_eq!(client.query_one(behind, &[]).await.unwrap().get::<_, i64>(0), 1);
    }
    let migrate = format!(
        "ALTER TABLE {}.notes ADD COLUMN colour text NOT NULL DEFAULT 'none'",
        schema(tenant)
    );
    one.batch_execute(&migrate).await.unwrap();
    let twice = other.batch_execute(&migrate).await.unwrap_err();
    assert_eq!(twice.code().unwrap().code(), "42701", "the column is there already");
}

/// The control of the variants: the newer set of columns in a home that does not have it yet.
#[tokio::test]
async fn without_the_homes_version_a_call_fails() {
    let bench = Bench::start("wave_variant", 1).await;
    let tenant = older_homes(&bench, Placement::Schema, 1).await[0];
    assert!(!call(&bench.db, tenant).await.unwrap(), "the older variant");
    let binds: [&dyn rowhouse_db::Bind; 2] = [&Uuid::now_v7(), &"a body"];
    let mut tx = bench.db.begin_single(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    let blind = tx.fetch_one(&INSERT.newer, &binds).await;
    assert!(matches!(blind, Err(Error::Fault(_))), "{blind:?}");

    // A directory that runs ahead: `enter` refuses, before the statement could fail.
    let known = bench.provisioner.describe(tenant, &server()).await.unwrap();
    bench.directory.put(Home { version: 2, ..known });
    let ahead = call(&bench.db, tenant).await;
    assert!(matches!(ahead, Err(Error::Stale)), "{ahead:?}");
}
