//! Many houses brought to a version: in waves, by several at once, with faults.

use std::collections::BTreeSet;
use std::time::Duration;

use rowhouse_config::Secret;
use rowhouse_context::ServiceName;
use rowhouse_db::testing::master_keys;
use rowhouse_db::{BatchOrder, Census, Cohort, Deferred, Migration, ProvisionError, Provisioner, TenantMigrations};
use rowhouse_devkit::log::Log;
use rowhouse_devkit::servers::Login;
use rowhouse_types::{OperationId, Placement, TenantId};
use tracing::Level;
use uuid::Uuid;

use crate::bench::{Bench, in_time, provisioner, schema, schema_of, server, until};
use crate::notes::{FIRST, NEWEST, OLDER, SECOND};

/// A column, and an index for it that is built afterwards.
pub(crate) const COLOURED: TenantMigrations = TenantMigrations::new(&[FIRST, COLOUR]);
pub(crate) const COLOUR: Migration = Migration {
    version: 2,
    name: "colour",
    sql: "ALTER TABLE notes ADD COLUMN colour text NOT NULL DEFAULT 'none';
          ALTER TABLE notes ADD CONSTRAINT notes_colour_known CHECK (colour <> '') NOT VALID;",
    deferred: &[
        Deferred::Index {
            name: "notes_colour_idx",
            table: "notes",
            definition: "(tenant_id, colour)",
            unique: false,
        },
        Deferred::Validate {
            table: "notes",
            constraint: "notes_colour_known",
        },
    ],
};

/// A constraint that long notes break.
pub(crate) const STRICTER: TenantMigrations = TenantMigrations::new(&[
    FIRST,
    SECOND,
    Migration {
        version: 3,
        name: "stricter",
        sql: "ALTER TABLE notes ADD CONSTRAINT notes_body_shorter CHECK (length(body) <= 3);",
        deferred: &[],
    },
]);

/// Homes of the first version, which the directory knows.
pub(crate) async fn older_homes(bench: &Bench, placement: Placement, count: usize) -> Vec<TenantId> {
    let older = provisioner(&bench.databases, OLDER).await;
    let mut tenants = Vec::new();
    for _ in 0..count {
        let tenant = TenantId::generate();
        let operation = OperationId::generate();
        let home = older.prepare(tenant, &server(), placement, operation).await;
        bench.directory.put(home.unwrap());
        tenants.push(tenant);
    }
    tenants
}

fn order(cohort: Cohort, target: i32) -> BatchOrder {
    BatchOrder {
        cohort,
        ..BatchOrder::all(target)
    }
}

async fn version(migrator: &Provisioner, tenant: TenantId) -> i32 {
    migrator.describe(tenant, &server()).await.unwrap().version
}

#[tokio::test]
async fn waves_take_the_canaries_and_then_a_growing_share() {
    let bench = Bench::start("fleet_waves", 1).await;
    let tenants = older_homes(&bench, Placement::Schema, 20).await;
    let migrator = provisioner(&bench.databases, NEWEST).await;
    let canaries = order(Cohort::Tenants(vec![tenants[7]]), 2);
    let canary = migrator.migrate_batch(&server(), &canaries).await.unwrap();
    let census = Census {
        behind: 0,
        given_up: 0,
        behind_in_all: 19,
        given_up_in_all: 0,
    };
    assert_eq!((canary.migrated, canary.census), (1, census));
    assert_eq!(version(&migrator, tenants[7]).await, 2);

    let superuser = bench.superuser().await;
    let below = async |percent: i32| -> BTreeSet<Uuid> {
        let sql = "SELECT house_id FROM rowhouse.houses WHERE rowhouse.house_bucket(house_id) < $1";
        let rows = superuser.query(sql, &[&percent]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let migrated = async || -> BTreeSet<Uuid> {
        let sql = "SELECT house_id FROM rowhouse.houses WHERE version = 2";
        let rows = superuser.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let before = migrated().await;
    for percent in [30, 60, 100] {
        let batch = migrator
            .migrate_batch(&server(), &order(Cohort::Percent(percent), 2))
            .await
            .unwrap();
        assert!(batch.census.is_through() && batch.census.behind == 0);
        let expected: BTreeSet<Uuid> = below(i32::from(percent)).await.union(&before).copied().collect();
        assert_eq!(migrated().await, expected, "{percent}");
    }
    assert_eq!(migrated().await.len(), 20);
    let (versions, faults) = migrator.describe_fleet(&server()).await.unwrap();
    assert_eq!((versions.len(), versions[0].houses, versions[0].homes), (1, 20, 20));
    assert!(faults.is_empty());
}

#[tokio::test]
async fn a_batch_is_bounded_and_an_unknown_version_is_refused() {
    let bench = Bench::start("fleet_bounds", 1).await;
    older_homes(&bench, Placement::Schema, 5).await;
    let migrator = provisioner(&bench.databases, NEWEST).await;
    for target in [-1, 0, 3, i32::MAX] {
        let refused = migrator
            .migrate_batch(&server(), &order(Cohort::Percent(100), target))
            .await;
        assert!(
            matches!(refused, Err(ProvisionError::TargetUnknown(of)) if of == target),
            "{refused:?}"
        );
    }
    let two = BatchOrder {
        houses_max: 2,
        ..BatchOrder::all(2)
    };
    let migrated = async || migrator.migrate_batch(&server(), &two).await.unwrap();
    let first = migrated().await;
    assert_eq!((first.migrated, first.census.behind), (2, 3));
    assert_eq!(migrated().await.census.behind, 1);
    assert_eq!((migrated().await.migrated, migrated().await.migrated), (1, 0));
}

#[tokio::test]
async fn homes_that_are_up_to_date_cost_the_same_two_queries_however_many_there_are() {
    let bench = Bench::start("fleet_queries", 1).await;
    // The log hears this thread alone, on which all of this runs.
    let statements = Log::listen("sqlx::query", Level::TRACE);
    let migrate = async |expected| {
        drop(statements.take());
        assert_eq!(bench.provisioner.migrate_all().await.unwrap(), expected);
        let entries = statements.take();
        let sent = entries.iter().filter_map(|entry| entry.field("summary"));
        sent.map(ToOwned::to_owned).collect::<Vec<String>>()
    };
    let empty = migrate(0).await;
    assert_eq!(empty.len(), 2, "{empty:?}");
    for placement in [Placement::Schema, Placement::Shared, Placement::Database] {
        for _ in 0..3 {
            bench.tenant_in(placement).await;
        }
        assert_eq!(migrate(0).await, empty, "{placement:?}");
    }
    // The control: what is asked of a single house is heard.
    older_homes(&bench, Placement::Schema, 1).await;
    let behind = migrate(1).await;
    assert!(behind.len() > empty.len(), "{behind:?}");
}

#[tokio::test]
async fn a_house_that_fails_is_named_with_its_sqlstate_and_the_others_go_on() {
    let bench = Bench::start("fleet_fault", 1).await;
    let tenants = older_homes(&bench, Placement::Schema, 4).await;
    bench.insert(tenants[1], "a secret body").await.unwrap();
    let migrator = provisioner(&bench.databases, STRICTER).await;
    let order = BatchOrder::all(3);
    let batch = migrator.migrate_batch(&server(), &order).await.unwrap();
    assert_eq!((batch.migrated, batch.census.behind, batch.census.given_up), (3, 1, 1));
    assert!(batch.census.is_through());
    let fault = &batch.faults[0];
    assert_eq!((fault.tenant, fault.sqlstate.as_str()), (Some(tenants[1]), "23514"));
    assert_eq!((fault.house.as_str(), fault.version), (schema(tenants[1]).as_str(), 3));
    assert!(
        fault.message.contains("notes_body_shorter") && fault.message.contains("stricter"),
        "{fault:?}"
    );
    assert!(!fault.message.contains("secret"), "{fault:?}");
    assert_eq!(
        version(&migrator, tenants[1]).await,
        1,
        "nothing of it is left half done"
    );

    // The same round lets it be, another one tries again.
    let again = migrator.migrate_batch(&server(), &order).await.unwrap();
    assert_eq!(again.faults[0].attempts, 1);
    let failed = migrator.migrate_all().await;
    assert!(
        matches!(&failed, Err(ProvisionError::HousesFailed { count: 1, first }) if first.contains("23514")),
        "{failed:?}"
    );
    let sql = format!("UPDATE {}.notes SET body = 'abc'", schema(tenants[1]));
    bench.superuser().await.batch_execute(&sql).await.unwrap();
    assert_eq!(migrator.migrate_all().await.unwrap(), 1);
    assert!(
        migrator.describe_fleet(&server()).await.unwrap().1.is_empty(),
        "what was done is no fault"
    );
}

/// Whoever goes on wave by wave must not forget what an earlier wave gave up.
#[tokio::test]
async fn a_house_that_was_given_up_is_counted_in_every_wave_of_its_round() {
    let bench = Bench::start("fleet_given_up", 1).await;
    let tenants = older_homes(&bench, Placement::Schema, 2).await;
    bench.insert(tenants[0], "too long for it").await.unwrap();
    let migrator = provisioner(&bench.databases, STRICTER).await;
    let first = order(Cohort::Tenants(vec![tenants[0]]), 3);
    let census = async |order: &BatchOrder| migrator.migrate_batch(&server(), order).await.unwrap().census;
    let expected = Census {
        behind: 1,
        given_up: 1,
        behind_in_all: 2,
        given_up_in_all: 1,
    };
    assert_eq!(census(&first).await, expected);
    // A wave that does not hold it.
    let second = BatchOrder {
        cohort: Cohort::Tenants(vec![tenants[1]]),
        ..first.clone()
    };
    let expected = Census {
        behind: 0,
        given_up: 0,
        behind_in_all: 1,
        given_up_in_all: 1,
    };
    assert_eq!(census(&second).await, expected);
    // Another round has given up none.
    let another = BatchOrder {
        round: Uuid::new_v4(),
        ..second
    };
    assert_eq!(census(&another).await.given_up_in_all, 0);
}

#[tokio::test]
async fn a_server_that_fails_is_named_and_keeps_no_other_from_being_migrated() {
    let bench = Bench::start("fleet_servers", 1).await;
    let tenant = older_homes(&bench, Placement::Schema, 1).await[0];
    // They are gone through in the order of their names; the first's database is not there.
    let absent = bench.databases.servers().login_url(Login::Owner, "absent");
    let urls = [("data0", absent), ("data1", bench.databases.data_url(Login::Owner))];
    let urls = urls.map(|(name, url)| (name.to_owned(), Secret::new(url)));
    let migrator = Provisioner::connect(ServiceName::Crm, &urls.into(), NEWEST, &master_keys(b'A', b"")).await;
    let migrator = migrator.unwrap();
    let failed = migrator.migrate_all().await;
    assert!(
        matches!(&failed, Err(ProvisionError::ServerFailed { server, .. }) if server == "data0"),
        "{failed:?}"
    );
    assert_eq!(version(&migrator, tenant).await, 2);
}

/// Servers go side by side, so whoever hangs has the others done all the same.
#[tokio::test]
async fn a_server_that_hangs_keeps_no_other_from_being_migrated() {
    let (bench, hung) = tokio::join!(Bench::start("fleet_hangs", 1), Bench::start("fleet_hung", 1));
    let tenant = older_homes(&bench, Placement::Schema, 1).await[0];
    // The first by name: whoever reads its ledger waits.
    let urls = [("data0", &hung.databases), ("data1", &bench.databases)];
    let urls = urls.map(|(name, of)| (name.to_owned(), Secret::new(of.data_url(Login::Owner))));
    let migrator = Provisioner::connect(ServiceName::Crm, &urls.into(), NEWEST, &master_keys(b'A', b"")).await;
    let migrator = migrator.unwrap();
    let mut superuser = hung.superuser().await;
    let holder = superuser.transaction().await.unwrap();
    let lock = "LOCK TABLE rowhouse.houses IN ACCESS EXCLUSIVE MODE";
    holder.batch_execute(lock).await.unwrap();
    let migrating = tokio::spawn({
        let migrator = migrator.clone();
        async move { migrator.migrate_all().await }
    });
    until(|| async { version(&migrator, tenant).await == 2 }).await;
    assert!(!migrating.is_finished(), "the control: the other hangs");
    holder.commit().await.unwrap();
    assert_eq!(migrating.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn those_whose_homes_are_older_are_told_where_they_are_few() {
    let bench = Bench::start("fleet_older", 1).await;
    let older = older_homes(&bench, Placement::Schema, 2).await;
    let shared = older_homes(&bench, Placement::Shared, 2).await;
    // One that is not older, and a spare that is.
    bench.tenant().await;
    let spare = TenantId::generate();
    let builder = provisioner(&bench.databases, OLDER).await;
    let built = builder.prepare_spare(spare, &server(), Placement::Schema).await;
    built.unwrap();
    let told = async |version| {
        let told = bench.provisioner.older_homes(&server(), version).await.unwrap();
        told.map(|tenants| tenants.into_iter().collect::<BTreeSet<TenantId>>())
    };
    let expected: BTreeSet<TenantId> = [older, shared.clone(), vec![spare]].concat().into_iter().collect();
    assert_eq!(told(2).await, Some(expected));
    assert_eq!(told(1).await, Some(BTreeSet::new()));

    let add = async |homes: i32| {
        let sql = "INSERT INTO rowhouse.homes (tenant_id, participant, house_id, generation, state, operation_id)
             SELECT gen_random_uuid(), participant, house_id, 1, 'active', operation_id
             FROM rowhouse.homes, generate_series(1, $2) WHERE tenant_id = $1";
        let superuser = bench.superuser().await;
        superuser.execute(sql, &[&shared[0].uuid(), &homes]).await.unwrap();
    };
    add(995).await;
    assert_eq!(told(2).await.map(|all| all.len()), Some(1_000));
    add(1).await;
    assert_eq!(told(2).await, None, "some of them would be taken for all");
}

#[tokio::test]
async fn a_house_whose_table_is_locked_is_tried_again() {
    let bench = Bench::start("fleet_locked", 1).await;
    let tenant = older_homes(&bench, Placement::Schema, 1).await[0];
    let mut superuser = bench.superuser().await;
    let holder = superuser.transaction().await.unwrap();
    let lock = format!("LOCK TABLE {}.notes IN ACCESS SHARE MODE", schema(tenant));
    holder.batch_execute(&lock).await.unwrap();
    let migrator = provisioner(&bench.databases, COLOURED).await;
    let hasty = BatchOrder {
        lock_timeout: Duration::from_millis(20),
        ..BatchOrder::all(2)
    };
    let batch = migrator.migrate_batch(&server(), &hasty).await.unwrap();
    let fault = &batch.faults[0];
    assert_eq!(
        (fault.sqlstate.as_str(), fault.attempts, fault.given_up),
        ("55P03", 1, false)
    );
    assert!(batch.migrated == 0 && !batch.census.is_through());
    holder.commit().await.unwrap();
    until(|| async { migrator.migrate_batch(&server(), &hasty).await.unwrap().census.behind == 0 }).await;
    assert_eq!(version(&migrator, tenant).await, 2);
    assert!(migrator.describe_fleet(&server()).await.unwrap().1.is_empty());
}

/// The guard of T25: who holds a house's line has the house, and nobody waits for it.
#[tokio::test]
async fn a_house_that_another_works_on_is_passed_over() {
    let bench = Bench::start("fleet_shared_work", 1).await;
    let tenants = older_homes(&bench, Placement::Schema, 3).await;
    let mut superuser = bench.superuser().await;
    let other = superuser.transaction().await.unwrap();
    let line = "SELECT version FROM rowhouse.houses WHERE schema_name = $1 FOR NO KEY UPDATE";
    other.query_one(line, &[&schema(tenants[1])]).await.unwrap();
    let migrator = provisioner(&bench.databases, NEWEST).await;
    let order = BatchOrder::all(2);
    let batch = migrator.migrate_batch(&server(), &order).await.unwrap();
    assert_eq!((batch.migrated, batch.census.behind, batch.census.given_up), (2, 1, 0));
    assert!(batch.faults.is_empty() && !batch.census.is_through());
    // The other one dies.
    other.rollback().await.unwrap();
    let batch = migrator.migrate_batch(&server(), &order).await.unwrap();
    assert_eq!((batch.migrated, batch.census.behind), (1, 0));
}

#[tokio::test]
async fn deferred_steps_come_after_the_tables_and_mend_what_was_cut_short() {
    let bench = Bench::start("fleet_deferred", 1).await;
    let superuser = bench.superuser().await;
    let mut tenants = older_homes(&bench, Placement::Schema, 2).await;
    tenants.extend(older_homes(&bench, Placement::Shared, 2).await);
    for tenant in &tenants {
        bench.insert(*tenant, "a note").await.unwrap();
    }
    let migrator = provisioner(&bench.databases, COLOURED).await;
    migrator.migrate_all().await.unwrap();
    let valid = async |tenant: TenantId| -> (i64, bool) {
        let sql = "SELECT count(*), bool_and(indisvalid) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
                   WHERE relnamespace = to_regnamespace($1) AND relname = 'notes_colour_idx'";
        let row = superuser
            .query_one(sql, &[&schema_of(&superuser, tenant).await])
            .await
            .unwrap();
        (row.get(0), row.get::<_, Option<bool>>(1).unwrap_or_default())
    };
    for tenant in &tenants {
        assert_eq!(valid(*tenant).await, (1, true));
    }
    // As a builder leaves it that was killed: an index that every write keeps up and no reader uses.
    let home = schema(tenants[0]);
    let cut_short = format!(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{home}.notes_colour_idx'::regclass;
         UPDATE rowhouse.houses SET deferred_version = 0 WHERE schema_name = '{home}'"
    );
    superuser.batch_execute(&cut_short).await.unwrap();
    assert_eq!(valid(tenants[0]).await, (1, false));
    assert_eq!(migrator.migrate_all().await.unwrap(), 1);
    assert_eq!(valid(tenants[0]).await, (1, true));

    // A house that is built at once looks the same.
    let operation = OperationId::generate();
    let new = TenantId::generate();
    migrator
        .prepare(new, &server(), Placement::Schema, operation)
        .await
        .unwrap();
    assert_eq!(valid(new).await, (1, true));
    let page = migrator.check_drift(&server(), None, 100, in_time()).await.unwrap();
    assert_eq!(
        (page.checked, page.drifts.len(), page.next),
        (4, 0, None),
        "{:?}",
        page.drifts
    );
    assert_eq!(migrator.migrate_all().await.unwrap(), 0);
}
