//! Tenants with a database of their own: how it is made, found again, migrated, frozen and dropped.

mod bounds;
mod crashes;
mod fleet;
mod keys;
mod logins;
mod pools;
mod roles;
mod spares;
mod statements;
mod two_servers;

use rowhouse_config::Secret;
use rowhouse_db::testing::audit_home;
use rowhouse_db::{Error, Home, Mode, ProvisionError};
use rowhouse_devkit::cluster;
use rowhouse_devkit::servers::Login;
use rowhouse_types::{HomeState, OperationId, Placement, TenantId};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::bench::{Bench, LONG, ctx, provisioner, schema, server, until};
use crate::fence::waiting;
use crate::notes::{INSERT, INSERT_WITH_EVENT, OLDER};

const DATABASE: Placement = Placement::Database;

async fn prepare(bench: &Bench, tenant: TenantId, operation: OperationId) -> Result<Home, ProvisionError> {
    bench.provisioner.prepare(tenant, &server(), DATABASE, operation).await
}

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn exists(superuser: &Client, tenant: TenantId) -> bool {
    let sql = format!("SELECT count(*) FROM pg_database WHERE datname = '{}'", schema(tenant));
    count(superuser, &sql).await == 1
}

#[tokio::test]
async fn preparing_is_idempotent_by_operation() {
    let bench = Bench::start("own_prepare", 1).await;
    let (tenant, operation) = (TenantId::generate(), OperationId::generate());
    let all = futures_util::future::join_all((0..8).map(|_| prepare(&bench, tenant, operation))).await;
    let expected = Home {
        tenant,
        server: server(),
        placement: DATABASE,
        generation: 1,
        version: 2,
        state: HomeState::Active,
        transactions_max: None,
    };
    for home in all {
        assert_eq!(home.unwrap(), expected);
    }
    assert_eq!(bench.provisioner.describe(tenant, &server()).await.unwrap(), expected);
    for placement in [Placement::Schema, Placement::Shared, DATABASE] {
        let other = bench
            .provisioner
            .prepare(tenant, &server(), placement, OperationId::generate())
            .await;
        assert!(matches!(other, Err(ProvisionError::HomeExists)), "{other:?}");
    }
    let elsewhere = bench.tenant().await;
    let other = prepare(&bench, elsewhere, OperationId::generate()).await;
    assert!(matches!(other, Err(ProvisionError::HomeExists)), "{other:?}");
    // The home is in its database and nowhere else.
    bench.directory.put(expected);
    bench.insert(tenant, "own").await.unwrap();
    let (main, own) = (bench.superuser().await, bench.superuser_of(tenant).await);
    assert_eq!(
        count(&own, &format!("SELECT count(*) FROM {}.notes", schema(tenant))).await,
        1
    );
    let sql = format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{}'", schema(tenant));
    assert_eq!(count(&main, &sql).await, 0);
}

#[tokio::test]
async fn only_those_who_must_may_connect() {
    let bench = Bench::start("own_connect", 1).await;
    let tenant = bench.tenant_in(DATABASE).await;
    let (servers, name) = (bench.databases.servers(), schema(tenant));
    let refused = async || {
        let mut refused = Vec::new();
        for login in Login::ALL {
            if cluster::connect(&servers.login_url(login, &name)).await.is_err() {
                refused.push(login.name());
            }
        }
        refused
    };
    let strangers = [
        "rowhouse_app",
        "rowhouse_ctl_tenant",
        "rowhouse_ctl_auth",
        "rowhouse_ctl_worker",
    ];
    assert_eq!(refused().await, strangers);
    // The control: it is PUBLIC that has no right.
    let superuser = bench.superuser().await;
    let grant = format!("GRANT CONNECT ON DATABASE {name} TO PUBLIC");
    superuser.batch_execute(&grant).await.unwrap();
    assert_eq!(refused().await, Vec::<&str>::new());
}

/// T08, with the controls.
#[tokio::test]
async fn an_own_database_keeps_every_rule() {
    let bench = Bench::start("own_audit", 1).await;
    let tenant = bench.tenant_in(DATABASE).await;
    let name = schema(tenant);
    let url = Secret::new(bench.databases.servers().login_url(Login::Owner, &name));
    assert_eq!(audit_home(&url, tenant, None).await.unwrap(), Vec::<String>::new());
    let main = Secret::new(bench.databases.data_url(Login::Owner));
    assert_eq!(
        audit_home(&main, tenant, None).await.unwrap(),
        ["the tenant has no home here"]
    );
    let own = bench.superuser_of(tenant).await;
    for (damage, rule) in [
        (
            format!("ALTER TABLE {name}.notes DROP CONSTRAINT notes_house"),
            "CHECK of the house's number",
        ),
        (
            format!("GRANT TEMPORARY ON DATABASE {name} TO PUBLIC"),
            "temporary tables",
        ),
        (
            format!("GRANT USAGE ON SCHEMA {name} TO rowhouse_app"),
            "rights to the schema",
        ),
    ] {
        own.batch_execute(&damage).await.unwrap();
        let violations = audit_home(&url, tenant, None).await.unwrap();
        assert!(
            violations.iter().any(|violation| violation.contains(rule)),
            "{damage}: {violations:#?}"
        );
    }
}

#[tokio::test]
async fn migrating_all_covers_own_databases_and_their_platform() {
    let bench = Bench::start("own_migrate", 1).await;
    let older = provisioner(&bench.databases, OLDER).await;
    let mut tenants = Vec::new();
    for _ in 0..2 {
        let tenant = TenantId::generate();
        let home = older
            .prepare(tenant, &server(), DATABASE, OperationId::generate())
            .await
            .unwrap();
        assert_eq!(home.version, 1);
        bench.directory.put(home);
        bench.insert(tenant, "kept").await.unwrap();
        tenants.push(tenant);
    }
    let [one, other] = [tenants[0], tenants[1]];
    let own = bench.superuser_of(one).await;
    // As an older release has left it.
    let older_platform = "DROP TABLE rowhouse.databases; DELETE FROM rowhouse.migrations WHERE version IN (8, 10)";
    own.batch_execute(older_platform).await.unwrap();
    let known = format!(
        "UPDATE rowhouse.databases SET platform_version = 7 WHERE tenant_id = '{}'",
        one.uuid()
    );
    bench.superuser().await.batch_execute(&known).await.unwrap();
    assert_eq!(bench.provisioner.migrate(other, &server()).await.unwrap().version, 2);
    assert_eq!(bench.provisioner.migrate_all().await.unwrap(), 1);
    assert_eq!(bench.provisioner.migrate_all().await.unwrap(), 0);
    assert_eq!(count(&own, "SELECT count(*) FROM rowhouse.databases").await, 0);
    for tenant in tenants {
        assert_eq!(bench.provisioner.describe(tenant, &server()).await.unwrap().version, 2);
        assert_eq!(bench.list(tenant).await.unwrap().len(), 1);
    }
    let newer = older.migrate(one, &server()).await;
    assert!(matches!(newer, Err(ProvisionError::VersionUnknown(2))), "{newer:?}");
}

#[tokio::test]
async fn freezing_waits_for_older_transactions_in_the_own_database() {
    let bench = Bench::start("own_fence", 2).await;
    let tenant = bench.tenant_in(DATABASE).await;
    let own = bench.superuser_of(tenant).await;
    let mut older = bench.db.begin(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    older.fetch_one(&INSERT, &[&Uuid::now_v7(), &"older"]).await.unwrap();
    let (frozen_by, thawed_by) = (OperationId::generate(), OperationId::generate());
    let provisioner = bench.provisioner.clone();
    let freezing = tokio::spawn(async move { provisioner.freeze(tenant, &server(), frozen_by).await });
    until(|| async { waiting(&own).await == 1 }).await;
    assert!(!freezing.is_finished());
    older.commit().await.unwrap();
    let frozen = freezing.await.unwrap().unwrap();
    assert_eq!((frozen.state, frozen.placement), (HomeState::Frozen, DATABASE));
    assert_eq!(bench.list(tenant).await, Err(Error::TenantSuspended));
    bench.provisioner.thaw(tenant, &server(), thawed_by).await.unwrap();
    assert_eq!(bench.list(tenant).await.unwrap().len(), 1);
    let late = bench.provisioner.freeze(tenant, &server(), frozen_by).await;
    assert!(matches!(late, Err(ProvisionError::Overtaken)), "{late:?}");
}

#[tokio::test]
async fn a_dropped_home_takes_its_database_along_and_leaves_its_events() {
    let bench = Bench::start("own_drop", 1).await;
    let (tenant, operation) = (TenantId::generate(), OperationId::generate());
    bench.directory.put(prepare(&bench, tenant, operation).await.unwrap());
    // The pooler and the pool hold a connection from now on.
    let event = Uuid::now_v7();
    let mut tx = bench.db.begin_single(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    tx.fetch_one(&INSERT_WITH_EVENT, &[&Uuid::now_v7(), &"body", &event])
        .await
        .unwrap();
    let refused = bench.provisioner.drop(tenant, &server()).await;
    assert!(matches!(refused, Err(ProvisionError::NotFrozen)), "{refused:?}");
    bench.freeze(tenant).await;
    assert!(bench.provisioner.drop(tenant, &server()).await.unwrap());
    assert!(!bench.provisioner.drop(tenant, &server()).await.unwrap(), "again");
    let main = bench.superuser().await;
    assert!(!exists(&main, tenant).await);
    // What was not published is published all the same.
    let carried = format!(
        "SELECT count(*) FROM rowhouse.outbox
         WHERE id = '{event}' AND tenant_id = '{}' AND kind = 'notes.created.v1' AND payload = '{{}}'",
        tenant.uuid()
    );
    assert_eq!(count(&main, &carried).await, 1);
    let absent = bench.provisioner.describe(tenant, &server()).await;
    assert!(matches!(absent, Err(ProvisionError::HomeAbsent)), "{absent:?}");
    let late = prepare(&bench, tenant, operation).await;
    assert!(matches!(late, Err(ProvisionError::HomeDropped)), "{late:?}");
    // No generation is given twice, whatever the placement.
    let again = prepare(&bench, tenant, OperationId::generate()).await.unwrap();
    assert_eq!((again.generation, again.state), (2, HomeState::Active));
    bench.freeze(tenant).await;
    assert!(bench.provisioner.drop(tenant, &server()).await.unwrap());
    assert_eq!(bench.prepare(tenant).await.generation, 3);
}

/// The relay learns where outboxes are and may read those; who lives where it is not told.
#[tokio::test]
async fn the_relay_finds_the_outbox_of_an_own_database() {
    let bench = Bench::start("own_relay", 1).await;
    let tenant = bench.tenant_in(DATABASE).await;
    let mut tx = bench.db.begin_single(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    tx.fetch_one(&INSERT_WITH_EVENT, &[&Uuid::now_v7(), &"body", &Uuid::now_v7()])
        .await
        .unwrap();
    let relay = cluster::connect(&bench.databases.data_url(Login::Relay)).await.unwrap();
    let listed = relay
        .query(
            "SELECT database_name FROM rowhouse.databases WHERE state = 'ready'",
            &[],
        )
        .await
        .unwrap();
    let names: Vec<String> = listed.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, [schema(tenant)]);
    for secret in [
        "SELECT tenant_id FROM rowhouse.databases",
        "SELECT participant FROM rowhouse.databases",
        "SELECT tenant_id FROM rowhouse.homes",
    ] {
        assert!(relay.query(secret, &[]).await.is_err(), "{secret}");
    }
    let url = bench.databases.servers().login_url(Login::Relay, &names[0]);
    let own = cluster::connect(&url).await.unwrap();
    assert_eq!(count(&own, "SELECT count(*) FROM rowhouse.outbox").await, 1);
}
