//! Building, migrating, freezing and dropping homes.

use rowhouse_config::Secret;
use rowhouse_db::{Error, Home, Migration, ProvisionError, TenantMigrations, migrate_platform};
use rowhouse_devkit::servers::Login;
use rowhouse_types::{HomeState, OperationId, Placement, ServerName, TenantId};

use crate::bench::{Bench, provisioner, schema, server};
use crate::notes::{FIRST, OLDER};

/// Notes in `public.held`, for every command that dropped something, how many locks its transaction holds.
const COUNT_LOCKS: &str = "
    CREATE TABLE public.held (locks bigint NOT NULL);
    CREATE FUNCTION public.count_locks() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO public.held SELECT count(*) FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid();
    END $$;
    CREATE EVENT TRIGGER count_locks ON sql_drop EXECUTE FUNCTION public.count_locks()";

#[tokio::test]
async fn preparing_is_idempotent_by_operation() {
    let bench = Bench::start("prepare", 1).await;
    let (tenant, operation) = (TenantId::generate(), OperationId::generate());
    let prepare = |operation| {
        let provisioner = bench.provisioner.clone();
        async move {
            provisioner
                .prepare(tenant, &server(), Placement::Schema, operation)
                .await
        }
    };
    let all = futures_util::future::join_all((0..8).map(|_| prepare(operation))).await;
    let expected = Home {
        tenant,
        server: server(),
        placement: Placement::Schema,
        generation: 1,
        version: 2,
        state: HomeState::Active,
        transactions_max: None,
    };
    for home in all {
        assert_eq!(home.unwrap(), expected);
    }
    assert_eq!(bench.provisioner.describe(tenant, &server()).await.unwrap(), expected);
    let other = prepare(OperationId::generate()).await;
    assert!(matches!(other, Err(ProvisionError::HomeExists)), "{other:?}");
}

#[tokio::test]
async fn a_server_that_is_not_configured_is_named() {
    let bench = Bench::start("placements", 1).await;
    let nowhere = "elsewhere".parse().unwrap();
    let refused = bench.provisioner.describe(TenantId::generate(), &nowhere).await;
    assert!(matches!(refused, Err(ProvisionError::ServerUnknown(_))), "{refused:?}");
}

#[tokio::test]
async fn a_tenant_on_a_server_without_a_url_is_answered_with_the_servers_name() {
    let bench = Bench::start("no_url", 1).await;
    let name: ServerName = "elsewhere".parse().unwrap();
    for placement in [Placement::Schema, Placement::Database] {
        let home = bench.prepare(TenantId::generate()).await;
        let elsewhere = Home {
            server: name.clone(),
            placement,
            ..home
        };
        let tenant = elsewhere.tenant;
        bench.directory.put(elsewhere);
        assert_eq!(
            bench.list(tenant).await,
            Err(Error::ServerUnknown { name: name.clone() })
        );
    }
}

#[tokio::test]
async fn an_older_home_is_migrated_and_keeps_its_rows() {
    let bench = Bench::start("migrate", 1).await;
    let older = provisioner(&bench.databases, OLDER).await;
    let tenant = TenantId::generate();
    let home = older
        .prepare(tenant, &server(), Placement::Schema, OperationId::generate())
        .await
        .unwrap();
    assert_eq!(home.version, 1);
    bench.directory.put(home);
    bench.insert(tenant, "kept").await.unwrap();
    let migrated = bench.provisioner.migrate(tenant, &server()).await.unwrap();
    assert_eq!(migrated.version, 2);
    assert_eq!(
        bench.provisioner.migrate(tenant, &server()).await.unwrap(),
        migrated,
        "again"
    );
    assert_eq!(bench.list(tenant).await.unwrap().len(), 1);
    let newer = older.migrate(tenant, &server()).await;
    assert!(matches!(newer, Err(ProvisionError::VersionUnknown(2))), "{newer:?}");
}

#[tokio::test]
async fn all_homes_are_migrated_once() {
    let bench = Bench::start("migrate_all", 1).await;
    let older = provisioner(&bench.databases, OLDER).await;
    let tenants: Vec<TenantId> = (0..5).map(|_| TenantId::generate()).collect();
    for tenant in &tenants {
        older
            .prepare(*tenant, &server(), Placement::Schema, OperationId::generate())
            .await
            .unwrap();
    }
    bench.tenant().await;
    assert_eq!(bench.provisioner.migrate_all().await.unwrap(), 5);
    assert_eq!(bench.provisioner.migrate_all().await.unwrap(), 0);
    for tenant in tenants {
        assert_eq!(bench.provisioner.describe(tenant, &server()).await.unwrap().version, 2);
    }
}

/// With the control: the same house dropped by one command.
#[tokio::test]
async fn a_home_of_many_tables_is_dropped_a_few_locks_at_a_time() {
    const TABLES: i64 = 100;
    let bench = Bench::start("drop_many", 1).await;
    let superuser = bench.superuser().await;
    superuser.batch_execute(COUNT_LOCKS).await.unwrap();
    let grown = async || {
        let tenant = bench.tenant().await;
        let schema = schema(tenant);
        let grow = format!(
            "DO $$ BEGIN
                CREATE TABLE {schema}.parted (id bigint NOT NULL) PARTITION BY LIST (id);
                FOR n IN 1..{TABLES} LOOP
                    EXECUTE format('CREATE TABLE {schema}.%I PARTITION OF {schema}.parted FOR VALUES IN (%s)', 'part_' || n, n);
                    EXECUTE format('CREATE TABLE {schema}.%I (id bigint PRIMARY KEY, note text)', 'Table ' || n);
                END LOOP;
                ALTER SCHEMA {schema} OWNER TO rowhouse_owner;
                EXECUTE (
                    SELECT string_agg(format('ALTER TABLE %s OWNER TO rowhouse_owner', oid::regclass), ';')
                    FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relkind IN ('r', 'p')
                );
            END $$"
        );
        superuser.batch_execute(&grow).await.unwrap();
        tenant
    };
    let most = async || -> i64 {
        let held = superuser
            .query_one("SELECT max(locks) FROM public.held", &[])
            .await
            .unwrap();
        held.get(0)
    };
    let tenant = grown().await;
    bench.freeze(tenant).await;
    assert!(bench.provisioner.drop(tenant, &server()).await.unwrap());
    let left = format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{}'", schema(tenant));
    assert_eq!(superuser.query_one(&left, &[]).await.unwrap().get::<_, i64>(0), 0);
    let bounded = most().await;
    assert!(bounded < 2 * TABLES, "{bounded} locks at once");

    let at_once = format!("DROP SCHEMA {} CASCADE", schema(grown().await));
    superuser.batch_execute(&at_once).await.unwrap();
    let unbounded = most().await;
    assert!(unbounded > 4 * TABLES, "{unbounded} locks at once");
}

#[tokio::test]
async fn only_a_frozen_home_is_dropped_and_its_generation_is_not_given_again() {
    let bench = Bench::start("drop", 1).await;
    let (tenant, first) = (TenantId::generate(), OperationId::generate());
    let prepare = |operation| {
        let provisioner = bench.provisioner.clone();
        async move {
            provisioner
                .prepare(tenant, &server(), Placement::Schema, operation)
                .await
        }
    };
    prepare(first).await.unwrap();
    let refused = bench.provisioner.drop(tenant, &server()).await;
    assert!(matches!(refused, Err(ProvisionError::NotFrozen)), "{refused:?}");
    bench.freeze(tenant).await;
    assert_eq!(
        prepare(first).await.unwrap().state,
        HomeState::Frozen,
        "preparing again does not thaw"
    );
    assert!(bench.provisioner.drop(tenant, &server()).await.unwrap());
    assert!(!bench.provisioner.drop(tenant, &server()).await.unwrap(), "again");
    assert!(
        !bench.provisioner.drop(TenantId::generate(), &server()).await.unwrap(),
        "never was"
    );
    for gone in [
        bench.provisioner.describe(tenant, &server()).await,
        bench
            .provisioner
            .freeze(tenant, &server(), OperationId::generate())
            .await,
        bench.provisioner.migrate(tenant, &server()).await,
    ] {
        assert!(matches!(gone, Err(ProvisionError::HomeAbsent)), "{gone:?}");
    }
    let delayed = prepare(first).await;
    assert!(matches!(delayed, Err(ProvisionError::HomeDropped)), "{delayed:?}");
    let again = prepare(OperationId::generate()).await.unwrap();
    assert_eq!((again.generation, again.state), (2, HomeState::Active));
}

const BROKEN: TenantMigrations = TenantMigrations::new(&[
    FIRST,
    Migration {
        version: 2,
        name: "broken",
        sql: "CREATE TABLE half (tenant_id uuid NOT NULL); SELECT 1 / 0;",
        deferred: &[],
    },
]);

const NUMBERLESS: TenantMigrations = TenantMigrations::new(&[Migration {
    version: 1,
    name: "numberless",
    sql: "CREATE TABLE things (id uuid NOT NULL PRIMARY KEY);",
    deferred: &[],
}]);

const STRANGE_NAME: TenantMigrations = TenantMigrations::new(&[Migration {
    version: 1,
    name: "quoted",
    sql: "CREATE TABLE \"Things; DROP\" (tenant_id uuid NOT NULL);",
    deferred: &[],
}]);

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_half_done() {
    let bench = Bench::start("half", 1).await;
    let superuser = bench.superuser().await;
    for migrations in [BROKEN, NUMBERLESS, STRANGE_NAME] {
        let broken = provisioner(&bench.databases, migrations).await;
        let tenant = TenantId::generate();
        broken
            .prepare(tenant, &server(), Placement::Schema, OperationId::generate())
            .await
            .unwrap_err();
        let exists: bool = superuser
            .query_one("SELECT to_regnamespace($1) IS NOT NULL", &[&schema(tenant)])
            .await
            .unwrap()
            .get(0);
        assert!(!exists);
        let absent = broken.describe(tenant, &server()).await;
        assert!(matches!(absent, Err(ProvisionError::HomeAbsent)), "{absent:?}");
    }
}

#[tokio::test]
async fn the_platform_is_migrated_by_many_at_once_and_again() {
    let bench = Bench::start("platform", 1).await;
    let url = Secret::new(bench.databases.data_url(Login::Owner));
    let superuser = bench.superuser().await;
    let name = bench.databases.data_name();
    // As PostgreSQL makes every database.
    let open =
        format!("REVOKE CONNECT ON DATABASE {name} FROM rowhouse_app; GRANT CONNECT ON DATABASE {name} TO PUBLIC");
    superuser.batch_execute(&open).await.unwrap();
    for outcome in futures_util::future::join_all((0..4).map(|_| migrate_platform(&url))).await {
        outcome.unwrap();
    }
    let may_connect = "SELECT count(*) FILTER (WHERE has_database_privilege(name, current_database(), 'CONNECT'))
        FROM unnest(ARRAY['rowhouse_app', 'rowhouse_relay', 'rowhouse_keeper', 'public']) AS name";
    let count: i64 = superuser.query_one(may_connect, &[]).await.unwrap().get(0);
    assert_eq!(count, 3, "the suite's logins, and nobody else");
}
