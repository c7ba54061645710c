//! Shared houses: who gets a place in which, how they are migrated, how one tenant's rows leave them.

use std::time::Duration;

use rowhouse_config::Secret;
use rowhouse_db::testing::audit_home;
use rowhouse_db::{BatchOrder, Migration, Mode, ProvisionError, TenantMigrations};
use rowhouse_devkit::servers::Login;
use rowhouse_types::{OperationId, Placement, TenantId};
use uuid::Uuid;

use crate::bench::{Bench, LONG, ctx, provisioner, schema_of, server, until};
use crate::notes::{FIRST, INSERT, INSERT_ORPHAN, OLDER, SECOND};

const SHARED: Placement = Placement::Shared;

#[tokio::test]
async fn tenants_that_sign_up_at_once_share_one_house() {
    let bench = Bench::start("shared_many", 1).await;
    let tenants: Vec<TenantId> = (0..8).map(|_| TenantId::generate()).collect();
    let homes = futures_util::future::join_all(tenants.iter().map(|tenant| bench.prepare_in(*tenant, SHARED))).await;
    assert!(
        homes
            .iter()
            .all(|home| home.placement == SHARED && home.generation == 1 && home.version == 2)
    );
    let superuser = bench.superuser().await;
    for tenant in &tenants {
        assert_eq!(schema_of(&superuser, *tenant).await, "pooled_01");
    }
    let described = bench.provisioner.describe(tenants[0], &server()).await.unwrap();
    assert_eq!(described, homes[0]);
    let again = bench
        .provisioner
        .prepare(tenants[0], &server(), SHARED, OperationId::generate())
        .await;
    assert!(matches!(again, Err(ProvisionError::HomeExists)), "{again:?}");
}

#[tokio::test]
async fn a_full_house_is_followed_by_the_next() {
    let bench = Bench::start("shared_full", 1).await;
    let (first, superuser) = (bench.tenant_in(SHARED).await, bench.superuser().await);
    superuser
        .batch_execute(
            "INSERT INTO rowhouse.homes (tenant_id, participant, house_id, generation, state, operation_id)
             SELECT gen_random_uuid(), 'crm', house_id, 1, 'active', gen_random_uuid()
             FROM rowhouse.houses, generate_series(1, 998)",
        )
        .await
        .unwrap();
    let last = bench.tenant_in(SHARED).await;
    let next = futures_util::future::join_all((0..4).map(|_| bench.tenant_in(SHARED))).await;
    assert_eq!(schema_of(&superuser, first).await, "pooled_01");
    assert_eq!(schema_of(&superuser, last).await, "pooled_01");
    for tenant in next {
        assert_eq!(schema_of(&superuser, tenant).await, "pooled_02");
    }
}

#[tokio::test]
async fn shared_homes_keep_every_rule_and_look_alike() {
    let bench = Bench::start("shared_audit", 1).await;
    let (one, other) = (bench.tenant_in(SHARED).await, bench.tenant_in(SHARED).await);
    let url = Secret::new(bench.databases.data_url(Login::Owner));
    assert_eq!(audit_home(&url, one, Some(other)).await.unwrap(), Vec::<String>::new());
}

/// T08, the controls: each damage is named by its own rule.
#[tokio::test]
async fn every_missing_wall_of_a_shared_house_is_named() {
    let forced = "enables and forces row-level security";
    let policy = "has the one policy";
    let damages = [
        ("ALTER TABLE pooled_01.notes NO FORCE ROW LEVEL SECURITY", forced),
        ("ALTER TABLE pooled_01.notes DISABLE ROW LEVEL SECURITY", forced),
        ("DROP POLICY notes_house ON pooled_01.notes", policy),
        ("CREATE POLICY more ON pooled_01.notes USING (true)", policy),
        ("ALTER POLICY notes_house ON pooled_01.notes USING (true)", policy),
        ("ALTER POLICY notes_house ON pooled_01.notes WITH CHECK (true)", policy),
        ("ALTER POLICY notes_house ON pooled_01.notes TO rowhouse_app", policy),
        ("CREATE INDEX ON pooled_01.notes (body)", "begin with tenant_id"),
    ];
    let bench = Bench::start("shared_damage", 1).await;
    let tenant = bench.tenant_in(SHARED).await;
    let superuser = bench.superuser().await;
    let url = Secret::new(bench.databases.data_superuser_url());
    for (damage, rule) in damages {
        // The audit runs on a connection of its own, so the damage must be committed, and is undone by a new house.
        superuser.batch_execute(damage).await.unwrap();
        let violations = audit_home(&url, tenant, None).await.unwrap();
        assert!(
            violations.iter().any(|violation| violation.contains(rule)),
            "{damage}: {violations:#?}"
        );
        superuser
            .batch_execute("DROP SCHEMA pooled_01 CASCADE; TRUNCATE rowhouse.homes, rowhouse.databases; DELETE FROM rowhouse.houses")
            .await
            .unwrap();
        bench.prepare_in(tenant, SHARED).await;
    }
}

/// A backfill, and a constraint that old rows break: under forced security both would see no row and count as done.
const BACKFILL: TenantMigrations = TenantMigrations::new(&[
    FIRST,
    SECOND,
    Migration {
        version: 3,
        name: "backfill",
        sql: "ALTER TABLE notes ADD COLUMN length integer NULL;
              UPDATE notes SET length = length(body);
              ALTER TABLE notes ALTER length SET NOT NULL;",
        deferred: &[],
    },
]);
const STRICTER: TenantMigrations = TenantMigrations::new(&[
    FIRST,
    SECOND,
    Migration {
        version: 3,
        name: "stricter",
        sql: "ALTER TABLE notes ADD CONSTRAINT notes_body_shorter CHECK (length(body) <= 3);",
        deferred: &[],
    },
]);

#[tokio::test]
async fn a_migration_of_a_shared_house_sees_all_rows_and_leaves_the_walls_standing() {
    let bench = Bench::start("shared_migrate", 1).await;
    let older = provisioner(&bench.databases, OLDER).await;
    let mut tenants = Vec::new();
    for body in ["one", "three"] {
        let tenant = TenantId::generate();
        let home = older
            .prepare(tenant, &server(), SHARED, OperationId::generate())
            .await
            .unwrap();
        assert_eq!(home.version, 1);
        bench.directory.put(home);
        bench.insert(tenant, body).await.unwrap();
        tenants.push(tenant);
    }
    let refused = provisioner(&bench.databases, STRICTER).await.migrate_all().await;
    assert!(
        matches!(refused, Err(ProvisionError::HousesFailed { count: 1, .. })),
        "{refused:?}"
    );
    let version = bench.provisioner.describe(tenants[0], &server()).await.unwrap().version;
    assert_eq!(version, 1, "nothing is left half done");

    let newest = provisioner(&bench.databases, BACKFILL).await;
    let server = server();
    let moved = futures_util::future::join_all(tenants.iter().map(|tenant| newest.migrate(*tenant, &server))).await;
    assert!(moved.into_iter().all(|home| home.unwrap().version == 3));
    assert_eq!(newest.migrate_all().await.unwrap(), 0, "one house, migrated once");
    let superuser = bench.superuser().await;
    let lengths = "SELECT count(*) FROM pooled_01.notes WHERE length = length(body)";
    assert_eq!(superuser.query_one(lengths, &[]).await.unwrap().get::<_, i64>(0), 2);
    let url = Secret::new(bench.databases.data_url(Login::Owner));
    for tenant in tenants {
        assert_eq!(audit_home(&url, tenant, None).await.unwrap(), Vec::<String>::new());
    }
}

/// A migration takes `audit` before `notes`, in the order of their names. A transaction that has `notes` and wants `audit` would
/// wait for it, and it for the transaction, until PostgreSQL ends one of the two.
#[tokio::test]
async fn a_shared_house_is_migrated_whatever_order_its_tables_are_used_in() {
    let bench = Bench::start("shared_order", 1).await;
    let tenant = bench.tenant_in(SHARED).await;
    let mut tx = bench.db.begin(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    let note = tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"a body"]).await.unwrap();
    let migrator = provisioner(&bench.databases, BACKFILL).await;
    let migrating = tokio::spawn(async move {
        let order = BatchOrder {
            lock_timeout: LONG,
            ..BatchOrder::all(3)
        };
        migrator.migrate_batch(&server(), &order).await
    });
    let superuser = bench.superuser().await;
    until(|| async {
        let waits = "SELECT count(*) FROM pg_stat_activity
            WHERE usename = 'rowhouse_owner' AND datname = current_database() AND wait_event_type = 'Lock'";
        superuser.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
    tx.execute(&INSERT_ORPHAN, &[&Uuid::now_v7(), &note.id]).await.unwrap();
    tx.commit().await.unwrap();
    let batch = migrating.await.unwrap().unwrap();
    assert_eq!((batch.migrated, batch.faults), (1, Vec::new()));
}

/// Whether a migration's statement has waited for a lock for so long.
async fn has_waited(superuser: &tokio_postgres::Client, seconds: f64) -> bool {
    let waits = "SELECT count(*) FROM pg_stat_activity
        WHERE usename = 'rowhouse_owner' AND datname = current_database() AND wait_event_type = 'Lock'
            AND clock_timestamp() - query_start > make_interval(secs => $1)";
    superuser.query_one(waits, &[&seconds]).await.unwrap().get::<_, i64>(0) == 1
}

/// No tenant alone keeps the migration waiting for as long as its bound, both together do: the first goes after 0.6 of it, the
/// second after 1.5.
#[tokio::test]
async fn the_tenants_of_a_shared_house_are_waited_for_no_longer_together_than_one_is() {
    let bench = Bench::start("shared_bound", 3).await;
    let mut tenants = Vec::new();
    for _ in 0..3 {
        tenants.push(bench.tenant_in(SHARED).await);
    }
    tenants.sort_unstable();
    let mut held = Vec::new();
    for tenant in tenants.iter().take(2) {
        let mut tx = bench.db.begin(&ctx(*tenant, LONG), Mode::Write).await.unwrap();
        tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"a body"]).await.unwrap();
        held.push(tx);
    }
    let migrator = provisioner(&bench.databases, BACKFILL).await;
    let migrating = tokio::spawn(async move {
        let order = BatchOrder {
            lock_timeout: Duration::from_secs(1),
            ..BatchOrder::all(3)
        };
        migrator.migrate_batch(&server(), &order).await
    });
    let superuser = bench.superuser().await;
    for (tx, seconds) in held.into_iter().zip([0.6, 1.5]) {
        until(|| async { migrating.is_finished() || has_waited(&superuser, seconds).await }).await;
        tx.commit().await.unwrap();
    }
    let batch = migrating.await.unwrap().unwrap();
    assert_eq!(batch.migrated, 0);
    let faults: Vec<_> = batch
        .faults
        .iter()
        .map(|fault| (fault.sqlstate.as_str(), fault.given_up))
        .collect();
    assert_eq!(faults, [("55P03", false)], "busy, and tried again");
    for (tenant, notes) in tenants.iter().zip([1, 1, 0]) {
        assert_eq!(bench.list(*tenant).await.unwrap().len(), notes, "nobody is shut out");
    }
    let again = provisioner(&bench.databases, BACKFILL).await;
    let batch = again.migrate_batch(&server(), &BatchOrder::all(3)).await.unwrap();
    assert_eq!((batch.migrated, batch.faults), (1, Vec::new()));
}

/// A full house takes 1,000 places of the server's lock table. One that is built takes none, and whoever signs up must not wait.
#[tokio::test]
async fn a_shared_house_waits_while_another_is_emptied_and_a_new_one_does_not() {
    let bench = Bench::start("shared_one", 1).await;
    let superuser = bench.superuser().await;
    let another = "SELECT pg_advisory_lock(hashtextextended('emptied', 4659))";
    superuser.batch_execute(another).await.unwrap();
    let older = provisioner(&bench.databases, OLDER).await;
    let operation = OperationId::generate();
    let home = older.prepare(TenantId::generate(), &server(), SHARED, operation).await;
    assert_eq!(home.unwrap().version, 1);

    let hasty = BatchOrder {
        lock_timeout: Duration::from_millis(20),
        ..BatchOrder::all(2)
    };
    let batch = bench.provisioner.migrate_batch(&server(), &hasty).await.unwrap();
    assert_eq!(batch.migrated, 0);
    let faults: Vec<_> = batch.faults.iter().map(|fault| fault.sqlstate.as_str()).collect();
    assert_eq!(faults, ["55P03"]);
    superuser
        .batch_execute("SELECT pg_advisory_unlock_all()")
        .await
        .unwrap();
    let batch = bench
        .provisioner
        .migrate_batch(&server(), &BatchOrder::all(2))
        .await
        .unwrap();
    assert_eq!((batch.migrated, batch.faults), (1, Vec::new()));
}

/// More rows than one step deletes, in tables that refer to each other; the neighbour's stay.
#[tokio::test]
async fn a_tenant_leaves_a_shared_house_in_steps_and_alone() {
    let bench = Bench::start("shared_drop", 2).await;
    let (leaving, staying) = (bench.tenant_in(SHARED).await, bench.tenant_in(SHARED).await);
    let superuser = bench.superuser().await;
    for tenant in [leaving, staying] {
        let mut tx = bench.db.begin_single(&ctx(tenant, LONG), Mode::Write).await.unwrap();
        tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"by itself"]).await.unwrap();
        superuser
            .execute(
                "WITH note AS (
                     INSERT INTO pooled_01.notes SELECT $1, gen_random_uuid(), number::text
                     FROM generate_series(1, 10500) AS number RETURNING id)
                 INSERT INTO pooled_01.audit SELECT $1, gen_random_uuid(), id FROM note",
                &[&tenant.uuid()],
            )
            .await
            .unwrap();
    }
    let count = async |table: &str, tenant: TenantId| {
        let sql = format!("SELECT count(*) FROM pooled_01.{table} WHERE tenant_id = $1");
        superuser
            .query_one(&sql, &[&tenant.uuid()])
            .await
            .unwrap()
            .get::<_, i64>(0)
    };
    let refused = bench.provisioner.drop(leaving, &server()).await;
    assert!(matches!(refused, Err(ProvisionError::NotFrozen)), "{refused:?}");
    bench.freeze(leaving).await;
    assert!(bench.provisioner.drop(leaving, &server()).await.unwrap());
    assert!(!bench.provisioner.drop(leaving, &server()).await.unwrap(), "again");
    for table in ["notes", "audit"] {
        assert_eq!(count(table, leaving).await, 0);
    }
    assert_eq!(
        (count("notes", staying).await, count("audit", staying).await),
        (10_501, 10_500)
    );
    assert_eq!(bench.list(staying).await.unwrap().len(), 100);
    let absent = bench.provisioner.describe(leaving, &server()).await;
    assert!(matches!(absent, Err(ProvisionError::HomeAbsent)), "{absent:?}");
    assert_eq!(
        bench.prepare_in(leaving, SHARED).await.generation,
        2,
        "no generation is given twice"
    );
}
