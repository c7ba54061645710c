//! Databases that are built ahead: nobody enters them, and claiming one is an update in each of two databases.

use futures_util::future::join_all;
use rowhouse_db::testing::master_keys;

use super::crashes::{remove, unsay};
use super::logins::{has_role, list, serving, verifier};
use super::*;
use crate::bench::{in_time, provisioner_with};
use crate::notes::NEWEST;
use crate::spares::forbid_ddl;

async fn spare(bench: &Bench) -> Home {
    spare_of(bench, TenantId::generate()).await.unwrap()
}

async fn spare_of(bench: &Bench, tenant: TenantId) -> Result<Home, ProvisionError> {
    bench.provisioner.prepare_spare(tenant, &server(), DATABASE).await
}

/// The part that takes no DDL.
async fn claim(bench: &Bench, spare: &Home, operation: OperationId) -> Option<Home> {
    bench
        .provisioner
        .claim(spare.tenant, &server(), DATABASE, operation)
        .await
        .unwrap()
}

fn active(spare: &Home) -> Home {
    let state = HomeState::Active;
    Home { state, ..spare.clone() }
}

/// As if the process had died after it had claimed the spare in the main database.
async fn cut(main: &Client, spare: &Home, operation: OperationId) {
    let sql = "UPDATE rowhouse.homes SET operation_id = $2 WHERE tenant_id = $1 AND operation_id IS NULL";
    let claimed = main.execute(sql, &[&spare.tenant.uuid(), &operation.uuid()]).await;
    assert_eq!(claimed.unwrap(), 1);
}

#[tokio::test]
async fn a_spare_database_is_built_once_and_is_whole() {
    let bench = Bench::start("own_spare", 1).await;
    let tenant = TenantId::generate();
    let expected = Home {
        tenant,
        server: server(),
        placement: DATABASE,
        generation: 1,
        version: 2,
        state: HomeState::Spare,
        transactions_max: None,
    };
    for home in join_all((0..8).map(|_| spare_of(&bench, tenant))).await {
        assert_eq!(home.unwrap(), expected);
    }
    assert_eq!(bench.provisioner.describe(tenant, &server()).await.unwrap(), expected);
    let url = Secret::new(bench.databases.servers().login_url(Login::Owner, &schema(tenant)));
    assert_eq!(audit_home(&url, tenant, None).await.unwrap(), Vec::<String>::new());
    let main = bench.superuser().await;
    assert!(exists(&main, tenant).await && has_role(&main, tenant).await);
    let known = "SELECT count(*) FROM rowhouse.databases JOIN rowhouse.houses USING (house_id)
        WHERE state = 'ready' AND sealed_password IS NOT NULL AND version = 2";
    assert_eq!(count(&main, known).await, 1);
}

/// The directory tells nobody of a spare; neither a lie of it nor the login of the database opens anything.
#[tokio::test]
async fn nobody_enters_a_spare_database_before_it_is_claimed() {
    let bench = Bench::start("own_spare_closed", 1).await;
    let spare = spare(&bench).await;
    bench.directory.put(active(&spare));
    assert_eq!(bench.list(spare.tenant).await, Err(Error::TenantSuspended));
    assert_eq!(bench.insert(spare.tenant, "x").await, Err(Error::TenantSuspended));
    let app = bench.app_of(spare.tenant).await;
    let enter = format!(
        "BEGIN; SELECT rowhouse.enter('{}', 'crm', 1, 'write', 1, 2, 1000)",
        spare.tenant.uuid()
    );
    let refused = app.batch_execute(&enter).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "RH004");
    drop(app);
    assert!(claim(&bench, &spare, OperationId::generate()).await.is_some());
    assert_eq!(bench.list(spare.tenant).await, Ok(Vec::new()));
}

/// The control: an enter that does not look at the state lets a write into a spare.
#[tokio::test]
async fn without_the_state_a_spare_database_would_be_entered() {
    let bench = Bench::start("own_spare_open", 1).await;
    let spare = spare(&bench).await;
    bench.directory.put(active(&spare));
    let own = bench.superuser_of(spare.tenant).await;
    let sql = "SELECT pg_get_functiondef('rowhouse.enter'::regproc)";
    let definition: String = own.query_one(sql, &[]).await.unwrap().get(0);
    let guard = "home.state OPERATOR(pg_catalog.<>) 'active'";
    assert!(definition.contains(guard), "nothing to mutate");
    own.batch_execute(&definition.replace(guard, "false")).await.unwrap();
    bench.insert(spare.tenant, "x").await.unwrap();
}

/// No trigger tells of databases and roles that are made: those stay the same, and so does the login's password.
#[tokio::test]
async fn claiming_a_spare_database_is_an_update_without_ddl() {
    let bench = Bench::start("own_spare_claimed", 1).await;
    let (spare, main) = (spare(&bench).await, bench.superuser().await);
    let own = bench.superuser_of(spare.tenant).await;
    let name = schema(spare.tenant);
    let shared = async || {
        let database = format!("SELECT oid::bigint FROM pg_database WHERE datname = '{name}'");
        let role = format!("SELECT oid::bigint FROM pg_roles WHERE rolname = '{name}'");
        let password = verifier(&main, spare.tenant).await;
        (count(&main, &database).await, count(&main, &role).await, password)
    };
    let before = shared().await;
    forbid_ddl(&main).await;
    forbid_ddl(&own).await;
    let operation = OperationId::generate();
    assert_eq!(prepare(&bench, spare.tenant, operation).await.unwrap(), active(&spare));
    for _ in 0..2 {
        let again = prepare(&bench, spare.tenant, operation).await.unwrap();
        assert_eq!(again, active(&spare), "again");
        assert_eq!(claim(&bench, &spare, operation).await, Some(again));
    }
    assert_eq!(shared().await, before);
    bench.directory.put(active(&spare));
    bench.insert(spare.tenant, "in use").await.unwrap();
}

/// The control of the one above.
#[tokio::test]
async fn claiming_a_spare_database_that_is_behind_does_not_get_past_who_forbids_ddl() {
    let bench = Bench::start("own_spare_ddl", 1).await;
    let older = provisioner(&bench.databases, OLDER).await;
    let spare = older
        .prepare_spare(TenantId::generate(), &server(), DATABASE)
        .await
        .unwrap();
    let own = bench.superuser_of(spare.tenant).await;
    forbid_ddl(&own).await;
    let operation = OperationId::generate();
    let refused = prepare(&bench, spare.tenant, operation).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(
        bench.provisioner.describe(spare.tenant, &server()).await.unwrap(),
        spare
    );
    own.batch_execute("DROP EVENT TRIGGER forbid").await.unwrap();
    let version = 2;
    assert_eq!(
        prepare(&bench, spare.tenant, operation).await.unwrap(),
        Home {
            version,
            ..active(&spare)
        }
    );
}

#[tokio::test]
async fn of_claims_of_a_spare_database_at_once_one_wins() {
    let bench = Bench::start("own_spare_race", 1).await;
    let spare = spare(&bench).await;
    let claims = join_all((0..6).map(|_| prepare(&bench, spare.tenant, OperationId::generate()))).await;
    let won = claims.iter().filter(|claim| claim.is_ok()).count();
    let lost = claims
        .iter()
        .filter(|claim| matches!(claim, Err(ProvisionError::HomeExists)));
    assert_eq!((won, lost.count()), (1, 5), "{claims:?}");
}

#[tokio::test]
async fn a_claim_that_died_between_the_two_databases_is_gone_on_with_by_its_operation_alone() {
    let bench = Bench::start("own_spare_cut", 1).await;
    let main = bench.superuser().await;
    for quick in [false, true] {
        let (spare, operation) = (spare(&bench).await, OperationId::generate());
        cut(&main, &spare, operation).await;
        let other = OperationId::generate();
        assert_eq!(claim(&bench, &spare, other).await, None);
        let refused = prepare(&bench, spare.tenant, other).await;
        assert!(matches!(refused, Err(ProvisionError::HomeExists)), "{refused:?}");
        let refused = spare_of(&bench, spare.tenant).await;
        assert!(matches!(refused, Err(ProvisionError::HomeExists)), "{refused:?}");
        let refused = bench.provisioner.thaw(spare.tenant, &server(), other).await;
        assert!(matches!(refused, Err(ProvisionError::HomeAbsent)), "{refused:?}");
        let refused = bench.provisioner.drop(spare.tenant, &server()).await;
        assert!(matches!(refused, Err(ProvisionError::NotFrozen)), "{refused:?}");
        bench.directory.put(active(&spare));
        assert_eq!(bench.list(spare.tenant).await, Err(Error::TenantSuspended));

        // Who was refused lets go of the tenant when the connection is back in the pool.
        let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
                        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        until(|| async { count(&main, held).await == 0 }).await;
        let claimed = match quick {
            true => claim(&bench, &spare, operation)
                .await
                .expect("nothing is left to build"),
            false => prepare(&bench, spare.tenant, operation).await.unwrap(),
        };
        assert_eq!(claimed, active(&spare));
        bench.insert(spare.tenant, "in use").await.unwrap();
    }
}

/// A process may be held up between the two for as long as another needs to drop the home, and to build the next.
#[tokio::test]
async fn a_claim_that_comes_late_does_not_take_what_came_after_its_spare() {
    let bench = Bench::start("own_spare_late", 1).await;
    let (spare, operation) = (spare(&bench).await, OperationId::generate());
    cut(&bench.superuser().await, &spare, operation).await;
    let own = bench.superuser_of(spare.tenant).await;
    own.batch_execute("UPDATE rowhouse.homes SET generation = 2")
        .await
        .unwrap();
    let late = prepare(&bench, spare.tenant, operation).await;
    assert!(matches!(late, Err(ProvisionError::HomeDropped)), "{late:?}");
    let kept = "SELECT count(*) FROM rowhouse.homes WHERE state = 'spare' AND operation_id IS NULL";
    assert_eq!(count(&own, kept).await, 1);
}

#[tokio::test]
async fn a_spare_database_that_is_behind_is_migrated_with_the_fleet_or_when_it_is_claimed() {
    let bench = Bench::start("own_spare_behind", 1).await;
    let older = provisioner(&bench.databases, OLDER).await;
    let mut behind = Vec::new();
    for _ in 0..2 {
        let spare = older
            .prepare_spare(TenantId::generate(), &server(), DATABASE)
            .await
            .unwrap();
        assert_eq!(spare.version, 1);
        behind.push(spare);
    }
    let [first, second] = &behind[..] else { panic!("two") };
    let operation = OperationId::generate();
    assert_eq!(claim(&bench, first, operation).await, None, "that takes DDL");
    let claimed = prepare(&bench, first.tenant, operation).await.unwrap();
    assert_eq!((claimed.version, claimed.state), (2, HomeState::Active));
    assert_eq!(bench.provisioner.migrate_all().await.unwrap(), 1);
    let described = bench.provisioner.describe(second.tenant, &server()).await.unwrap();
    assert_eq!((described.version, described.state), (2, HomeState::Spare));
    let claimed = claim(&bench, second, OperationId::generate()).await;
    assert_eq!(claimed, Some(active(&described)));
    for spare in &behind {
        let home = bench.provisioner.describe(spare.tenant, &server()).await;
        bench.directory.put(home.unwrap());
        bench.insert(spare.tenant, "in use").await.unwrap();
    }
}

#[tokio::test]
async fn a_spare_database_that_is_behind_is_brought_on_when_it_is_asked_for_again() {
    let bench = Bench::start("own_spare_refreshed", 1).await;
    let older = provisioner(&bench.databases, OLDER).await;
    let tenant = TenantId::generate();
    let behind = older.prepare_spare(tenant, &server(), DATABASE).await.unwrap();
    assert_eq!(behind.version, 1);
    let spare = spare_of(&bench, tenant).await.unwrap();
    assert_eq!(spare, Home { version: 2, ..behind });

    let copied = "SELECT count(*) FROM rowhouse.houses WHERE version = 2";
    let main = bench.superuser().await;
    assert_eq!(count(&main, copied).await, 1);

    // From now on it needs no migration: not by who asks again, by older code either, nor by who claims it.
    forbid_ddl(&main).await;
    forbid_ddl(&bench.superuser_of(tenant).await).await;
    assert_eq!(spare_of(&bench, tenant).await.unwrap(), spare);
    assert_eq!(older.prepare_spare(tenant, &server(), DATABASE).await.unwrap(), spare);
    assert_eq!(
        claim(&bench, &spare, OperationId::generate()).await,
        Some(active(&spare))
    );
}

/// Whoever looks after spares has asked the main database before the claim came, and the spare's own after it.
#[tokio::test]
async fn a_spare_database_that_is_claimed_meanwhile_is_no_spare_to_who_asks_again() {
    let bench = Bench::start("own_spare_gone", 1).await;
    let spare = spare(&bench).await;
    assert_eq!(
        claim(&bench, &spare, OperationId::generate()).await,
        Some(active(&spare))
    );
    let before = "UPDATE rowhouse.homes SET operation_id = NULL WHERE tenant_id = $1";
    let main = bench.superuser().await;
    assert_eq!(main.execute(before, &[&spare.tenant.uuid()]).await.unwrap(), 1);
    let again = spare_of(&bench, spare.tenant).await;
    assert!(matches!(again, Err(ProvisionError::HomeExists)), "{again:?}");
}

/// That may be a build, which takes seconds, and is bounded by those who may build.
#[tokio::test]
async fn a_claim_does_not_wait_for_somebody_who_works_on_the_tenant() {
    let bench = Bench::start("own_spare_busy", 1).await;
    let (spare, operation) = (spare(&bench).await, OperationId::generate());
    let main = bench.superuser().await;
    let work = format!(
        "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('{}', 4662))",
        spare.tenant.uuid()
    );
    main.batch_execute(&work).await.unwrap();
    assert_eq!(claim(&bench, &spare, operation).await, None);
    main.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(claim(&bench, &spare, operation).await, Some(active(&spare)));
}

/// Its schema `rowhouse` counts as much as its tables.
#[tokio::test]
async fn a_spare_database_whose_platform_is_behind_is_not_put_into_use() {
    let bench = Bench::start("own_spare_platform", 1).await;
    let (spare, operation) = (spare(&bench).await, OperationId::generate());
    let own = bench.superuser_of(spare.tenant).await;
    let newest = "(SELECT max(version) FROM rowhouse.migrations)";
    let set = async |done: bool| {
        let sql = format!("UPDATE rowhouse.migrations SET success = {done} WHERE version = {newest}");
        own.batch_execute(&sql).await.unwrap();
    };
    set(false).await;
    // Who asks for it again notices, and tries what nobody can do here: a migration that was cut short is an operator's.
    let again = spare_of(&bench, spare.tenant).await;
    assert!(matches!(again, Err(ProvisionError::Platform(_))), "{again:?}");
    assert_eq!(claim(&bench, &spare, operation).await, None);
    assert_eq!(
        bench.provisioner.describe(spare.tenant, &server()).await.unwrap(),
        spare
    );
    set(true).await;
    assert_eq!(claim(&bench, &spare, operation).await, Some(active(&spare)));
}

#[tokio::test]
async fn a_spare_database_that_was_changed_by_hand_is_found() {
    let bench = Bench::start("own_spare_drift", 1).await;
    let (one, _) = (spare(&bench).await, spare(&bench).await);
    let by_hand = format!("ALTER TABLE {}.notes ADD COLUMN extra text", schema(one.tenant));
    let own = bench.superuser_of(one.tenant).await;
    own.batch_execute(&by_hand).await.unwrap();
    let found = bench
        .provisioner
        .check_drift(&server(), None, 100, in_time())
        .await
        .unwrap();
    let tenants: Vec<_> = found.drifts.iter().map(|drift| drift.tenant).collect();
    assert_eq!((found.checked, tenants), (2, vec![Some(one.tenant)]));
}

#[tokio::test]
async fn the_login_of_a_spare_database_is_sealed_anew_with_all_others() {
    let bench = Bench::start("own_spare_key", 1).await;
    let spare = spare(&bench).await;
    let migrator = provisioner_with(&bench.databases, NEWEST, &master_keys(b'B', b"A")).await;
    let done = migrator.reseal_logins().await.unwrap();
    assert_eq!((done.logins, done.resealed), (1, 1));
    assert!(claim(&bench, &spare, OperationId::generate()).await.is_some());
    bench.directory.put(active(&spare));
    let newer = serving(&bench, master_keys(b'B', b"")).await;
    assert_eq!(list(&newer, spare.tenant).await, Ok(0));
    newer.shutdown().await;
}

#[tokio::test]
async fn a_claimed_spare_goes_with_its_database_and_its_login_and_is_not_built_again() {
    let bench = Bench::start("own_spare_drop", 1).await;
    let (spare, operation) = (spare(&bench).await, OperationId::generate());
    bench
        .directory
        .put(prepare(&bench, spare.tenant, operation).await.unwrap());
    bench.insert(spare.tenant, "in use").await.unwrap();
    bench.freeze(spare.tenant).await;
    assert!(bench.provisioner.drop(spare.tenant, &server()).await.unwrap());
    let main = bench.superuser().await;
    assert!(!exists(&main, spare.tenant).await && !has_role(&main, spare.tenant).await);
    let late = prepare(&bench, spare.tenant, operation).await;
    assert!(matches!(late, Err(ProvisionError::HomeDropped)), "{late:?}");
    let late = spare_of(&bench, spare.tenant).await;
    assert!(matches!(late, Err(ProvisionError::HomeDropped)), "{late:?}");
    assert!(!exists(&main, spare.tenant).await);
    let again = prepare(&bench, spare.tenant, OperationId::generate()).await.unwrap();
    assert_eq!((again.generation, again.state), (2, HomeState::Active));
    let late = spare_of(&bench, spare.tenant).await;
    assert!(matches!(late, Err(ProvisionError::HomeExists)), "{late:?}");
}

#[tokio::test]
async fn a_spare_database_that_is_half_made_is_nobodys_and_is_finished_or_dropped() {
    let bench = Bench::start("own_spare_half", 1).await;
    let main = bench.superuser().await;
    for is_there in [true, false] {
        let spare = spare(&bench).await;
        unsay(&main, "building").await;
        if !is_there {
            remove(&main, spare.tenant).await;
        }
        let operation = OperationId::generate();
        assert_eq!(claim(&bench, &spare, operation).await, None);
        let refused = prepare(&bench, spare.tenant, operation).await;
        assert!(matches!(refused, Err(ProvisionError::HomeExists)), "{refused:?}");
        assert_eq!(spare_of(&bench, spare.tenant).await.unwrap(), spare);
        unsay(&main, "building").await;
        if !is_there {
            remove(&main, spare.tenant).await;
        }
        assert!(bench.provisioner.drop(spare.tenant, &server()).await.unwrap());
        assert!(!exists(&main, spare.tenant).await && !has_role(&main, spare.tenant).await);
    }
}

#[tokio::test]
async fn what_a_spare_database_is_not_for_is_refused() {
    let bench = Bench::start("own_spare_refused", 1).await;
    let (provisioner, spare) = (&bench.provisioner, spare(&bench).await);
    for placement in [Placement::Schema, Placement::Shared] {
        let elsewhere = provisioner
            .prepare(spare.tenant, &server(), placement, OperationId::generate())
            .await;
        assert!(matches!(elsewhere, Err(ProvisionError::HomeExists)), "{elsewhere:?}");
    }
    for outcome in [
        provisioner
            .freeze(spare.tenant, &server(), OperationId::generate())
            .await,
        provisioner.thaw(spare.tenant, &server(), OperationId::generate()).await,
    ] {
        assert!(matches!(outcome, Err(ProvisionError::HomeAbsent)), "{outcome:?}");
    }
    let kept = provisioner.drop(spare.tenant, &server()).await;
    assert!(matches!(kept, Err(ProvisionError::NotFrozen)), "{kept:?}");
    assert_eq!(provisioner.describe(spare.tenant, &server()).await.unwrap(), spare);
    // Whoever has a home elsewhere gets no database ahead.
    let resident = bench.tenant().await;
    let refused = spare_of(&bench, resident).await;
    assert!(matches!(refused, Err(ProvisionError::HomeExists)), "{refused:?}");
    assert!(!exists(&bench.superuser().await, resident).await);
}
