//! Homes that are built ahead: nobody enters them, and claiming one is an update. Those in a database of their own are in
//! `database/spares.rs`.

use futures_util::future::join_all;
use rowhouse_config::Secret;
use rowhouse_db::testing::audit_home;
use rowhouse_db::{Error, Home, ProvisionError, Provisioner};
use rowhouse_devkit::servers::Login;
use rowhouse_types::{HomeState, OperationId, Placement, TenantId};

use crate::bench::{Bench, mutate, provisioner, schema, server};
use crate::fleet::COLOURED;
use crate::notes::OLDER;

async fn spare(bench: &Bench) -> Home {
    bench
        .provisioner
        .prepare_spare(TenantId::generate(), &server(), Placement::Schema)
        .await
        .unwrap()
}

/// A claim by a new operation.
async fn claim(bench: &Bench, spare: &Home) -> Result<Home, ProvisionError> {
    let operation = OperationId::generate();
    bench
        .provisioner
        .prepare(spare.tenant, &server(), Placement::Schema, operation)
        .await
}

/// From now on every statement that makes or changes something in the catalogue fails.
pub(crate) async fn forbid_ddl(superuser: &tokio_postgres::Client) {
    superuser
        .batch_execute(
            "CREATE FUNCTION public.forbid() RETURNS event_trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION 'DDL' USING ERRCODE = 'RT001'; END $$;
             CREATE EVENT TRIGGER forbid ON ddl_command_start EXECUTE FUNCTION public.forbid()",
        )
        .await
        .unwrap();
}

async fn count(superuser: &tokio_postgres::Client, sql: &str) -> i64 {
    superuser.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_spare_is_built_once_and_is_whole() {
    let bench = Bench::start("spare_built", 1).await;
    let tenant = TenantId::generate();
    let at = server();
    let all = join_all((0..8).map(|_| bench.provisioner.prepare_spare(tenant, &at, Placement::Schema))).await;
    let expected = Home {
        tenant,
        server: server(),
        placement: Placement::Schema,
        generation: 1,
        version: 2,
        state: HomeState::Spare,
        transactions_max: None,
    };
    for home in all {
        assert_eq!(home.unwrap(), expected);
    }
    let url = Secret::new(bench.databases.data_url(Login::Owner));
    let template = bench.tenant().await;
    assert_eq!(
        audit_home(&url, tenant, Some(template)).await.unwrap(),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn nobody_enters_a_spare_before_it_is_claimed() {
    let bench = Bench::start("spare_closed", 1).await;
    let spare = spare(&bench).await;
    // The directory tells nobody of a spare: a lie of it must open nothing either.
    bench.directory.put(Home {
        state: HomeState::Active,
        ..spare.clone()
    });
    assert_eq!(bench.list(spare.tenant).await, Err(Error::TenantSuspended));
    assert_eq!(bench.insert(spare.tenant, "x").await, Err(Error::TenantSuspended));
    let app = bench.app().await;
    let id = spare.tenant.uuid();
    for enter in [
        format!("rowhouse.enter('{id}', 'crm', 1, 'write', 1, 2, 1000)"),
        format!("rowhouse.enter_lane(1, '{id}', 'crm', 1, 'write', 1, 2, 1000)"),
    ] {
        let refused = app.batch_execute(&format!("BEGIN; SELECT {enter}")).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "RH004");
        app.batch_execute("ROLLBACK").await.unwrap();
    }
    claim(&bench, &spare).await.unwrap();
    assert_eq!(bench.list(spare.tenant).await, Ok(Vec::new()));
}

/// The control: an enter that does not look at the state lets a write into a spare.
#[tokio::test]
async fn without_the_state_a_spare_would_be_entered() {
    let bench = Bench::start("spare_open", 1).await;
    let spare = spare(&bench).await;
    bench.directory.put(Home {
        state: HomeState::Active,
        ..spare.clone()
    });
    mutate(&bench, "home.state OPERATOR(pg_catalog.<>) 'active'", "false").await;
    bench.insert(spare.tenant, "x").await.unwrap();
}

#[tokio::test]
async fn claiming_is_an_update_without_ddl() {
    let bench = Bench::start("spare_claimed", 1).await;
    let spare = spare(&bench).await;
    let superuser = bench.superuser().await;
    let (houses, relations) = ("SELECT count(*) FROM rowhouse.houses", "SELECT count(*) FROM pg_class");
    let before = (count(&superuser, houses).await, count(&superuser, relations).await);
    forbid_ddl(&superuser).await;
    let operation = OperationId::generate();
    let prepare = || async {
        bench
            .provisioner
            .prepare(spare.tenant, &server(), Placement::Schema, operation)
            .await
            .unwrap()
    };
    let claimed = prepare().await;
    let state = HomeState::Active;
    assert_eq!(claimed, Home { state, ..spare.clone() });
    assert_eq!(prepare().await, claimed, "again");
    assert_eq!(
        (count(&superuser, houses).await, count(&superuser, relations).await),
        before
    );
    assert!(matches!(claim(&bench, &spare).await, Err(ProvisionError::HomeExists)));

    // The control: a home that is built does not get past the trigger.
    let built = bench
        .provisioner
        .prepare(TenantId::generate(), &server(), Placement::Schema, operation)
        .await;
    assert!(
        matches!(&built, Err(ProvisionError::Database(fault))
            if fault.as_database_error().and_then(|fault| fault.code()).as_deref() == Some("RT001")),
        "{built:?}"
    );
}

/// Lines of the catalogues that are no home's, and statistics that know of them.
const CROWD: &str = "
    CREATE SCHEMA crowd;
    DO $$ BEGIN FOR number IN 1..2000 LOOP
        EXECUTE format('CREATE TYPE crowd.pair_%s AS (a int, b int)', number);
        EXECUTE format('CREATE DOMAIN crowd.positive_%s AS int CHECK (value > 0)', number);
    END LOOP; END $$;
    ANALYZE pg_class; ANALYZE pg_constraint; ANALYZE pg_depend";

/// A server has thousands of homes: what is looked for among the tables of all of them gets slower with every one.
#[tokio::test]
async fn a_spare_costs_the_same_however_many_homes_there_are() {
    let bench = Bench::start("spare_crowd", 1).await;
    let superuser = bench.superuser().await;
    superuser.batch_execute(CROWD).await.unwrap();
    // A session that ends says what it has read.
    let end = "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity
               WHERE usename = 'rowhouse_owner' AND datname = current_database()";
    // Not from the view, which reads pg_class itself.
    let lines = "SELECT sum(pg_stat_get_tuples_returned(name::regclass))::bigint
                 FROM unnest('{pg_class, pg_constraint, pg_depend}'::text[]) AS name";
    superuser.batch_execute(end).await.unwrap();
    let before = count(&superuser, lines).await;
    let provisioner = provisioner(&bench.databases, COLOURED).await;
    provisioner
        .prepare_spare(TenantId::generate(), &server(), Placement::Schema)
        .await
        .unwrap();
    superuser.batch_execute(end).await.unwrap();
    let read = count(&superuser, lines).await - before;
    assert!(read < 2_000, "{read} lines were read one after the other");

    // The control: what goes by the schema's number reads all of them.
    let scan = "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('crowd')";
    assert_eq!(count(&superuser, scan).await, 2_000);
    superuser
        .execute("SELECT pg_stat_force_next_flush()", &[])
        .await
        .unwrap();
    let read = count(&superuser, lines).await - before - read;
    assert!(read > 2_000, "{read}");
}

#[tokio::test]
async fn of_claims_at_once_one_wins() {
    let bench = Bench::start("spare_race", 1).await;
    let spare = spare(&bench).await;
    let claims = join_all((0..6).map(|_| claim(&bench, &spare))).await;
    let won = claims.iter().filter(|claim| claim.is_ok()).count();
    let lost = claims
        .iter()
        .filter(|claim| matches!(claim, Err(ProvisionError::HomeExists)));
    assert_eq!((won, lost.count()), (1, 5));
}

#[tokio::test]
async fn a_spare_that_is_behind_is_migrated_with_the_fleet_or_when_it_is_claimed() {
    let bench = Bench::start("spare_behind", 1).await;
    let older = provisioner(&bench.databases, OLDER).await;
    let mut behind = Vec::new();
    for _ in 0..2 {
        let spare = older
            .prepare_spare(TenantId::generate(), &server(), Placement::Schema)
            .await
            .unwrap();
        assert_eq!(spare.version, 1);
        behind.push(spare);
    }
    let [first, second] = &behind[..] else { panic!("two") };
    let operation = OperationId::generate();
    let quick = bench
        .provisioner
        .claim(first.tenant, &server(), Placement::Schema, operation)
        .await;
    assert_eq!(quick.unwrap(), None, "that takes DDL");
    let claimed = claim(&bench, first).await.unwrap();
    assert_eq!((claimed.version, claimed.state), (2, HomeState::Active));
    assert_eq!(bench.provisioner.migrate_all().await.unwrap(), 1);
    let claimed = bench
        .provisioner
        .claim(second.tenant, &server(), Placement::Schema, operation)
        .await
        .unwrap()
        .expect("nothing is left to do");
    assert_eq!((claimed.version, claimed.state), (2, HomeState::Active));
    let url = Secret::new(bench.databases.data_url(Login::Owner));
    for spare in &behind {
        let template = bench.tenant().await;
        assert_eq!(
            audit_home(&url, spare.tenant, Some(template)).await.unwrap(),
            Vec::<String>::new()
        );
        bench
            .directory
            .put(bench.provisioner.describe(spare.tenant, &server()).await.unwrap());
        bench.insert(spare.tenant, "in use").await.unwrap();
    }
}

/// Whoever built it asks again from time to time, so that no sign-up has to wait for migrations.
#[tokio::test]
async fn a_spare_that_is_behind_is_brought_on_when_it_is_asked_for_again() {
    let bench = Bench::start("spare_refreshed", 1).await;
    let older = provisioner(&bench.databases, OLDER).await;
    let tenant = TenantId::generate();
    let prepare = async |by: &Provisioner| by.prepare_spare(tenant, &server(), Placement::Schema).await.unwrap();
    let behind = prepare(&older).await;
    assert_eq!(behind.version, 1);
    let newer = provisioner(&bench.databases, COLOURED).await;
    let spare = prepare(&newer).await;
    assert_eq!(spare, Home { version: 2, ..behind });
    let superuser = bench.superuser().await;
    let current = "SELECT count(*) FROM rowhouse.houses WHERE version = 2 AND deferred_version = 2";
    assert_eq!(count(&superuser, current).await, 1);

    // From now on it needs no migration: not by who asks again, by older code either, nor by who claims it.
    forbid_ddl(&superuser).await;
    assert_eq!(prepare(&newer).await, spare);
    assert_eq!(prepare(&older).await, spare);
    let operation = OperationId::generate();
    let claimed = newer.claim(tenant, &server(), Placement::Schema, operation).await;
    let state = HomeState::Active;
    assert_eq!(claimed.unwrap(), Some(Home { state, ..spare }));
}

#[tokio::test]
async fn what_a_spare_is_not_for_is_refused() {
    let bench = Bench::start("spare_refused", 1).await;
    let provisioner = &bench.provisioner;
    let refused = provisioner
        .prepare_spare(TenantId::generate(), &server(), Placement::Shared)
        .await;
    assert!(
        matches!(refused, Err(ProvisionError::NoSpares(Placement::Shared))),
        "{refused:?}"
    );
    let spare = spare(&bench).await;
    let elsewhere = provisioner
        .prepare(spare.tenant, &server(), Placement::Shared, OperationId::generate())
        .await;
    assert!(matches!(elsewhere, Err(ProvisionError::HomeExists)), "{elsewhere:?}");
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

    // An order that was held up builds nothing for a tenant that has come, or gone, since.
    claim(&bench, &spare).await.unwrap();
    let again = || provisioner.prepare_spare(spare.tenant, &spare.server, Placement::Schema);
    assert!(matches!(again().await, Err(ProvisionError::HomeExists)));
    provisioner
        .freeze(spare.tenant, &server(), OperationId::generate())
        .await
        .unwrap();
    assert!(provisioner.drop(spare.tenant, &server()).await.unwrap());
    assert!(matches!(again().await, Err(ProvisionError::HomeDropped)));
    let superuser = bench.superuser().await;
    let row = superuser
        .query_one("SELECT to_regnamespace($1) IS NULL", &[&schema(spare.tenant)])
        .await
        .unwrap();
    assert!(row.get::<_, bool>(0));
}
