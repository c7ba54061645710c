//! T25: a fleet of every placement is migrated by three at once, back ends and whole migrators are killed all the time, and
//! traffic goes on in the old set of columns and the new one. Afterwards every home is audited (T08).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rowhouse_config::Secret;
use rowhouse_db::testing::audit_home;
use rowhouse_db::{
    BatchOrder, Deferred, Error, Home, Migration, Mode, Provisioner, Statement, TenantDb, TenantMigrations, Type,
    Variants,
};
use rowhouse_devkit::servers::Login;
use rowhouse_devkit::torture::Torture;
use rowhouse_types::{Placement, TenantId};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bench::{Bench, LONG, ctx, in_time, provisioner, schema, server};
use crate::fleet::older_homes;
use crate::notes::{FIRST, Note};

/// In the short form and in the long one.
const SCHEMA_HOMES: [usize; 2] = [56, 960];
const SHARED_HOMES: [usize; 2] = [8, 30];
const OWN_DATABASES: [usize; 2] = [4, 10];
const CALLERS: usize = 6;
const MIGRATORS: usize = 3;
/// Houses that are done between one kill and the next: some twelve kills.
const HOUSES_PER_KILL: [usize; 2] = [5, 80];
/// Where a migration says that it was run.
const MARKS: &str =
    "CREATE TABLE rowhouse.marks (house text NOT NULL); GRANT INSERT ON rowhouse.marks TO rowhouse_owner";

/// A column, and a mark in the transaction in which it comes. `IF NOT EXISTS`, which no migration of a service says: without it
/// whoever is the second to run it would fail, and take its mark along.
const COLOUR: &str = "ALTER TABLE notes ADD COLUMN IF NOT EXISTS colour text NOT NULL DEFAULT 'none';
    INSERT INTO rowhouse.marks (house) SELECT current_schema();";

const MARKED: TenantMigrations = TenantMigrations::new(&[
    FIRST,
    Migration {
        version: 2,
        name: "colour",
        sql: COLOUR,
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

/// Kills a back end of the owner, and one migrator as a whole, whenever some more houses are done. Where no back end is at work
/// just then, it is the next one that is.
async fn kill_until_done(
    bench: &Bench,
    migrators: &mut JoinSet<()>,
    seen: &Seen,
    houses_per_kill: i64,
) -> (u64, usize) {
    let superuser = bench.superuser().await;
    let (mut killed, mut due, mut aborted, mut next) = (0, 0, 0, houses_per_kill);
    let mut victim = migrators.spawn(migrate(provisioner(&bench.databases, MARKED).await));
    loop {
        let sql = "SELECT count(*) FILTER (WHERE version = 2), count(*) FILTER (WHERE deferred_version < 2)
                   FROM rowhouse.houses";
        let row = superuser.query_one(sql, &[]).await.unwrap();
        let (done, left): (i64, i64) = (row.get(0), row.get(1));
        if left == 0 {
            return (killed, aborted);
        }
        if killed < due {
            let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                        WHERE usename = 'rowhouse_owner' AND state <> 'idle' AND (datname = current_database()
                            OR datname IN (SELECT database_name FROM rowhouse.databases))
                        ORDER BY random() LIMIT 1";
            killed += superuser.execute(kill, &[]).await.unwrap();
        }
        if done >= next {
            next += houses_per_kill;
            due += 1;
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
    let sql = "SELECT home.tenant_id, house.placement, home.generation
               FROM rowhouse.homes AS home LEFT JOIN rowhouse.databases AS own USING (tenant_id)
               JOIN rowhouse.houses AS house ON house.house_id = coalesce(home.house_id, own.house_id)
               WHERE house.version = 2";
    for row in superuser.query(sql, &[]).await.unwrap() {
        let tenant = TenantId::from_uuid(row.get(0));
        bench.directory.put(Home {
            tenant,
            server: server(),
            placement: row.get::<_, String>(1).parse().unwrap(),
            generation: row.get(2),
            version: 2,
            state: rowhouse_types::HomeState::Active,
            transactions_max: None,
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_is_migrated_under_traffic_whatever_is_killed() {
    let mut torture = Torture::begin("T25", "fleet");
    while torture.round().is_some() {
        round(&mut torture).await;
    }
}

async fn round(torture: &mut Torture) {
    let size = |[short, long]: [usize; 2]| torture.size(short, long);
    let (schema_homes, own_databases) = (size(SCHEMA_HOMES), size(OWN_DATABASES));
    let houses_per_kill = i64::try_from(size(HOUSES_PER_KILL)).unwrap();
    let bench = Bench::start("wave", 4).await;
    let superuser = bench.superuser().await;
    superuser.batch_execute(MARKS).await.unwrap();
    let own = older_homes(&bench, Placement::Database, own_databases).await;
    for tenant in &own {
        bench.superuser_of(*tenant).await.batch_execute(MARKS).await.unwrap();
    }
    let mut tenants = older_homes(&bench, Placement::Schema, schema_homes).await;
    tenants.extend(older_homes(&bench, Placement::Shared, size(SHARED_HOMES)).await);
    tenants.extend(&own);
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
    let (killed, aborted) = kill_until_done(&bench, &mut migrators, &seen, houses_per_kill).await;
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
    torture.trials(count(&seen.older) + count(&seen.newer));
    torture.count("in the old columns", count(&seen.older));
    torture.count("in the new columns", count(&seen.newer));
    torture.count("back ends killed", usize::try_from(killed).unwrap());
    torture.count("migrators killed", aborted);
    assert_eq!(count(&seen.failed), 0);
    assert!(count(&seen.older) > 0 && count(&seen.newer) > 0);
    // Which back ends are at work when one is to be killed is luck: in the short form one is enough.
    let killed_min = u64::try_from(torture.size(1, 6)).unwrap();
    assert!(killed >= killed_min && aborted > 5, "{killed} {aborted}");
    // Each shared home is in the one house that they share.
    let houses = schema_homes + 1 + own_databases;
    torture.count("houses migrated", houses);
    migrated_once(&bench, &own, houses).await;
    audited(&bench, &tenants, &own).await;
}

/// How often the migration was run to its end in a database, and in how many houses.
async fn marks(superuser: &tokio_postgres::Client) -> (i64, i64) {
    let sql = "SELECT count(*), count(DISTINCT house) FROM rowhouse.marks";
    let row = superuser.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

/// The ledger, the catalogue and the migration's own marks agree.
async fn migrated_once(bench: &Bench, own: &[TenantId], houses: usize) {
    let superuser = bench.superuser().await;
    let in_main = houses - own.len();
    let expected = i64::try_from(in_main).unwrap();
    assert_eq!(
        marks(&superuser).await,
        (expected, expected),
        "each house is migrated once"
    );
    for tenant in own {
        assert_eq!(marks(&bench.superuser_of(*tenant).await).await, (1, 1));
    }
    let migrator = provisioner(&bench.databases, MARKED).await;
    let (versions, faults) = migrator.describe_fleet(&server()).await.unwrap();
    let newest: Vec<_> = versions
        .iter()
        .map(|line| (line.version, line.deferred_version))
        .collect();
    assert_eq!((newest, faults.len()), (vec![(2, 2)], 0));
    let (mut after, mut checked) = (None, 0);
    loop {
        let page = migrator
            .check_drift(&server(), after.as_deref(), 500, in_time())
            .await
            .unwrap();
        assert_eq!(page.drifts, Vec::new());
        checked += page.checked;
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    assert_eq!(checked, houses);
}

/// T08, after the migration, in every home.
async fn audited(bench: &Bench, tenants: &[TenantId], own: &[TenantId]) {
    let servers = bench.databases.servers();
    for tenant in tenants {
        let url = if own.contains(tenant) {
            servers.login_url(Login::Owner, &schema(*tenant))
        } else {
            bench.databases.data_url(Login::Owner)
        };
        let violations = audit_home(&Secret::new(url), *tenant, None).await.unwrap();
        assert_eq!(violations, Vec::<String>::new(), "{tenant}");
    }
}

/// The control of the house's lock: two that read which version it has and do not hold it both run the migration, and what counts
/// the marks sees it.
#[tokio::test]
async fn without_the_lock_two_migrators_collide() {
    let bench = Bench::start("wave_lock", 1).await;
    let tenant = older_homes(&bench, Placement::Schema, 1).await[0];
    let (one, other) = (bench.superuser().await, bench.superuser().await);
    one.batch_execute(MARKS).await.unwrap();
    for client in [&one, &other] {
        client.batch_execute("BEGIN").await.unwrap();
        let version = "SELECT version FROM rowhouse.houses";
        assert_eq!(client.query_one(version, &[]).await.unwrap().get::<_, i32>(0), 1);
    }
    let migrate = format!(
        "SET LOCAL search_path = {}, ext; {COLOUR} UPDATE rowhouse.houses SET version = 2; COMMIT",
        schema(tenant)
    );
    for client in [&one, &other] {
        client.batch_execute(&migrate).await.unwrap();
    }
    assert_eq!(marks(&one).await, (2, 1), "one house, and migrated twice");
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
