//! Own databases among a fleet that is migrated: counted, in waves, named when they fail, compared with the template.

use rowhouse_db::testing::migrate_own_platforms_by;
use rowhouse_db::{BatchOrder, Cohort, Drift, ProvisionError};
use tokio::time::Instant;

use super::{DATABASE, count};
use crate::bench::{Bench, in_time, provisioner, schema, server};
use crate::fleet::{COLOURED, STRICTER, older_homes};

#[tokio::test]
async fn a_batch_covers_own_databases_and_their_deferred_steps() {
    let bench = Bench::start("own_fleet", 1).await;
    let tenants = older_homes(&bench, DATABASE, 3).await;
    let migrator = provisioner(&bench.databases, COLOURED).await;
    let canary = BatchOrder {
        cohort: Cohort::Tenants(vec![tenants[1]]),
        ..BatchOrder::all(2)
    };
    let batch = migrator.migrate_batch(&server(), &canary).await.unwrap();
    assert_eq!(
        (batch.migrated, batch.census.behind, batch.census.behind_in_all),
        (1, 0, 2)
    );
    let mut older = migrator.older_homes(&server(), 2).await.unwrap().unwrap();
    older.sort();
    assert_eq!(older, [tenants[0], tenants[2]]);
    let versions = migrator.describe_fleet(&server()).await.unwrap().0;
    let counted: Vec<_> = versions
        .iter()
        .map(|line| (line.version, line.deferred_version, line.houses, line.homes))
        .collect();
    assert_eq!(counted, [(1, 0, 2, 2), (2, 2, 1, 1)]);
    let versions = async || {
        let mut versions = Vec::new();
        for tenant in &tenants {
            versions.push(migrator.describe(*tenant, &server()).await.unwrap().version);
        }
        versions
    };
    assert_eq!(versions().await, [1, 2, 1], "the ledger says what is so");
    assert_eq!(migrator.migrate_all().await.unwrap(), 2);
    assert_eq!(versions().await, [2, 2, 2]);
    let valid =
        "SELECT count(*) FROM pg_index WHERE indexrelid::regclass::text LIKE '%notes_colour_idx' AND indisvalid";
    for tenant in &tenants {
        assert_eq!(count(&bench.superuser_of(*tenant).await, valid).await, 1);
    }
    assert_eq!(migrator.migrate_all().await.unwrap(), 0);
}

/// A migrator dies between the house's commit and its copy's.
#[tokio::test]
async fn a_copy_that_is_behind_is_put_right_and_nothing_is_run_twice() {
    let bench = Bench::start("own_copy", 1).await;
    let tenant = older_homes(&bench, DATABASE, 1).await[0];
    let migrator = provisioner(&bench.databases, COLOURED).await;
    assert_eq!(migrator.migrate_all().await.unwrap(), 1);
    let main = bench.superuser().await;
    main.batch_execute("UPDATE rowhouse.houses SET version = 1, deferred_version = 0")
        .await
        .unwrap();
    // The column is there: adding it again would fail.
    assert_eq!(migrator.migrate_all().await.unwrap(), 0);
    let current = "SELECT count(*) FROM rowhouse.houses WHERE version = 2 AND deferred_version = 2";
    assert_eq!(count(&main, current).await, 1);

    // What an older release has left has a line that knows nothing.
    main.batch_execute("UPDATE rowhouse.houses SET version = 0, deferred_version = 0")
        .await
        .unwrap();
    assert_eq!(migrator.migrate(tenant, &server()).await.unwrap().version, 2);
    assert_eq!(count(&main, current).await, 1);
}

#[tokio::test]
async fn one_that_fails_is_named_and_one_that_is_gone_keeps_no_other_waiting() {
    let bench = Bench::start("own_fault", 1).await;
    let tenants = older_homes(&bench, DATABASE, 3).await;
    bench.insert(tenants[0], "too long for it").await.unwrap();
    let main = bench.superuser().await;
    let lost = format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", schema(tenants[1]));
    main.batch_execute(&lost).await.unwrap();
    let migrator = provisioner(&bench.databases, STRICTER).await;
    let batch = migrator.migrate_batch(&server(), &BatchOrder::all(3)).await.unwrap();
    assert_eq!((batch.migrated, batch.census.given_up), (1, 2));
    let mut faults: Vec<_> = batch
        .faults
        .iter()
        .map(|fault| (fault.tenant, fault.sqlstate.as_str()))
        .collect();
    faults.sort_by_key(|fault| fault.1);
    assert_eq!(faults, [(Some(tenants[0]), "23514"), (Some(tenants[1]), "55000")]);
    let failed = migrator.migrate_all().await;
    assert!(
        matches!(failed, Err(ProvisionError::HousesFailed { count: 2, .. })),
        "{failed:?}"
    );
    let found = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", schema(tenants[1]));
    main.batch_execute(&found).await.unwrap();
    let shorter = format!("UPDATE {}.notes SET body = 'abc'", schema(tenants[0]));
    let own = bench.superuser_of(tenants[0]).await;
    own.batch_execute(&shorter).await.unwrap();
    assert_eq!(migrator.migrate_all().await.unwrap(), 2);
}

/// The first, which is alone on its page, cannot be reached.
#[tokio::test]
async fn logins_are_given_to_the_last_page_also_behind_one_that_fails() {
    let bench = Bench::start("own_pages", 1).await;
    let main = bench.superuser().await;
    let mut tenants = Vec::new();
    for _ in 0..3 {
        tenants.push(bench.tenant_in(DATABASE).await);
    }
    tenants.sort_by_key(|tenant| tenant.uuid());
    let first = schema(tenants[0]);
    let allow = async |connections: bool| {
        let sql = format!("ALTER DATABASE {first} ALLOW_CONNECTIONS {connections}");
        main.batch_execute(&sql).await.unwrap();
    };
    let without_login = async || {
        let sql = "SELECT database_name FROM rowhouse.databases WHERE sealed_password IS NULL ORDER BY tenant_id";
        let rows = main.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect::<Vec<String>>().join(" ")
    };
    main.batch_execute("UPDATE rowhouse.databases SET sealed_password = NULL")
        .await
        .unwrap();
    allow(false).await;
    let migrated = migrate_own_platforms_by(&bench.provisioner, &server(), 1).await;
    assert!(migrated.is_err());
    assert_eq!(without_login().await, first);
    allow(true).await;
    migrate_own_platforms_by(&bench.provisioner, &server(), 1)
        .await
        .unwrap();
    assert_eq!(without_login().await, "");
}

/// Neither ends the run, nor keeps it going for ever.
#[tokio::test]
async fn one_that_is_half_dropped_and_one_with_a_strange_platform_are_named() {
    let bench = Bench::start("own_strange", 1).await;
    let tenants = older_homes(&bench, DATABASE, 3).await;
    // As a process leaves it that dies in the middle of a drop.
    let half = "UPDATE rowhouse.homes SET state = 'dropped', house_id = NULL";
    bench.superuser_of(tenants[0]).await.batch_execute(half).await.unwrap();
    let strange = "UPDATE rowhouse.migrations SET checksum = '\\x00' WHERE version = 2";
    bench
        .superuser_of(tenants[1])
        .await
        .batch_execute(strange)
        .await
        .unwrap();
    let migrator = provisioner(&bench.databases, COLOURED).await;
    let batch = migrator.migrate_batch(&server(), &BatchOrder::all(2)).await.unwrap();
    assert_eq!((batch.migrated, batch.census.given_up), (1, 2));
    let told = |tenant| batch.faults.iter().find(|fault| fault.tenant == Some(tenant)).unwrap();
    assert!(
        told(tenants[1]).message.contains("schema rowhouse"),
        "{:?}",
        batch.faults
    );
    assert!(told(tenants[0]).sqlstate.is_empty(), "{:?}", batch.faults);
    assert_eq!(migrator.describe(tenants[2], &server()).await.unwrap().version, 2);
    let failed = migrator.migrate_all().await;
    assert!(
        matches!(failed, Err(ProvisionError::HousesFailed { count: 2, .. })),
        "{failed:?}"
    );
}

#[tokio::test]
async fn one_that_was_changed_by_hand_is_found() {
    let bench = Bench::start("own_drift", 1).await;
    let (one, other) = (bench.tenant_in(DATABASE).await, bench.tenant_in(DATABASE).await);
    let check = async || {
        bench
            .provisioner
            .check_drift(&server(), None, 100, in_time())
            .await
            .unwrap()
    };
    let clean = check().await;
    assert_eq!((clean.checked, clean.drifts.len()), (2, 0), "{:?}", clean.drifts);
    let by_hand = format!("ALTER TABLE {}.notes ADD COLUMN extra text", schema(one));
    bench.superuser_of(one).await.batch_execute(&by_hand).await.unwrap();
    let found = check().await;
    let tenants: Vec<_> = found.drifts.iter().map(|drift| drift.tenant).collect();
    assert_eq!(tenants, [Some(one)], "and not {other}");
}

#[tokio::test]
async fn one_that_cannot_be_read_is_told_and_keeps_no_other_from_being_compared() {
    let bench = Bench::start("own_unread", 1).await;
    let mut tenants = [bench.tenant_in(DATABASE).await, bench.tenant_in(DATABASE).await];
    // They are compared in the order of their houses' names.
    tenants.sort_by_key(|tenant| tenant.uuid());
    let [lost, changed] = tenants;
    let by_hand = format!("ALTER TABLE {}.notes ADD COLUMN extra text", schema(changed));
    bench.superuser_of(changed).await.batch_execute(&by_hand).await.unwrap();
    let main = bench.superuser().await;
    let close = format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", schema(lost));
    main.batch_execute(&close).await.unwrap();

    let page = bench
        .provisioner
        .check_drift(&server(), None, 100, in_time())
        .await
        .unwrap();
    assert_eq!(page.checked, 2);
    let [unread, differs] = <[Drift; 2]>::try_from(page.drifts).unwrap();
    assert_eq!((unread.tenant, unread.surplus.len()), (Some(lost), 0));
    assert_eq!(unread.missing, ["cannot be read: SQLSTATE 55000"]);
    assert_eq!((differs.tenant, differs.missing.len()), (Some(changed), 0));
    assert!(
        differs.surplus.len() == 1 && differs.surplus[0].contains("notes.extra"),
        "{differs:?}"
    );
}

#[tokio::test]
async fn a_comparison_that_is_out_of_time_says_where_to_go_on() {
    let bench = Bench::start("own_drift_late", 1).await;
    let mut tenants = [bench.tenant_in(DATABASE).await, bench.tenant_in(DATABASE).await];
    // They are compared in the order of their houses' names.
    tenants.sort_by_key(|tenant| tenant.uuid());
    let page = async |after: Option<&str>| {
        let late = Instant::now();
        bench
            .provisioner
            .check_drift(&server(), after, 100, late)
            .await
            .unwrap()
    };
    let first = page(None).await;
    assert_eq!((first.checked, first.next), (1, Some(schema(tenants[0]))));
    let second = page(Some(&schema(tenants[0]))).await;
    assert_eq!((second.checked, second.next), (1, None));
}

/// The line of a home that is dropped goes before the database does.
#[tokio::test]
async fn a_dropped_one_is_out_of_the_ledger() {
    let bench = Bench::start("own_ledger", 1).await;
    let tenant = older_homes(&bench, DATABASE, 1).await[0];
    bench.freeze(tenant).await;
    assert!(bench.provisioner.drop(tenant, &server()).await.unwrap());
    assert!(bench.provisioner.describe_fleet(&server()).await.unwrap().0.is_empty());
    assert_eq!(bench.provisioner.migrate_all().await.unwrap(), 0);
}
