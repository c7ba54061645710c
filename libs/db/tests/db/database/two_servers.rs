//! Two registered servers: on one cluster, where the names of databases and logins are given once, and on two.

use rowhouse_db::Provisioner;
use rowhouse_db::testing::{master_keys, own_login};
use rowhouse_devkit::cluster::Kind;
use rowhouse_devkit::fixture::Databases;

use super::*;
use crate::bench::provisioner_at;
use crate::notes::NEWEST;

/// A server beside the bench's.
async fn beside(name: &str) -> (Databases, Provisioner) {
    let databases = Databases::create_only(Kind::Data, name).await.unwrap();
    let provisioner = provisioner(&databases, NEWEST).await;
    (databases, provisioner)
}

/// A tenant whose drop at the bench's server died after DROP DATABASE. The login is there still.
async fn half_dropped(bench: &Bench, main: &Client) -> TenantId {
    let tenant = TenantId::generate();
    prepare(bench, tenant, OperationId::generate()).await.unwrap();
    crashes::unsay(main, "leaving").await;
    crashes::remove(main, tenant).await;
    tenant
}

/// Whether the login that this server knows of opens the tenant's database.
async fn opens(databases: &Databases, tenant: TenantId) -> bool {
    let main = Secret::new(databases.data_url(Login::Owner));
    let login = own_login(&main, &master_keys(b'A', b"").present, tenant).await.unwrap();
    let (name, password) = login.expect("the database has a login of its own");
    let url = databases.servers().url_of(&name, password.expose(), &name);
    cluster::connect(&url).await.is_ok()
}

#[tokio::test]
async fn another_servers_database_is_neither_taken_over_nor_dropped() {
    let bench = Bench::start("own_one", 1).await;
    let tenant = bench.tenant_in(DATABASE).await;
    bench.insert(tenant, "own").await.unwrap();
    let (databases, other) = beside("own_other").await;
    let operation = OperationId::generate();
    let refused = other.prepare(tenant, &server(), DATABASE, operation).await;
    assert!(matches!(refused, Err(ProvisionError::HomeExists)), "{refused:?}");
    assert!(!other.drop(tenant, &server()).await.unwrap());
    // The same where the other server believes that it has begun to build it.
    let superuser = cluster::connect(&databases.data_superuser_url()).await.unwrap();
    let believe = format!(
        "INSERT INTO rowhouse.homes (tenant_id, participant, house_id, generation, state, operation_id)
         VALUES ('{tenant}', 'crm', NULL, 1, 'dropped', '{operation}');
         INSERT INTO rowhouse.databases (tenant_id, participant, database_name, state)
         VALUES ('{tenant}', 'crm', '{name}', 'building')",
        tenant = tenant.uuid(),
        operation = operation.uuid(),
        name = schema(tenant)
    );
    superuser.batch_execute(&believe).await.unwrap();
    let refused = other.prepare(tenant, &server(), DATABASE, operation).await;
    assert!(matches!(refused, Err(ProvisionError::HomeExists)), "{refused:?}");
    let refused = other.drop(tenant, &server()).await;
    assert!(matches!(refused, Err(ProvisionError::Damaged(_))), "{refused:?}");
    assert_eq!(bench.list(tenant).await.unwrap().len(), 1);
}

/// A tenant that has moved from the one to the other, while the first still drops what it had.
#[tokio::test]
async fn a_drop_that_is_repeated_leaves_what_another_server_has_made_since() {
    let bench = Bench::start("own_since", 1).await;
    let main = bench.superuser().await;
    let tenant = half_dropped(&bench, &main).await;
    let (databases, other) = beside("own_since_other").await;
    let made = other
        .prepare(tenant, &server(), DATABASE, OperationId::generate())
        .await
        .unwrap();
    assert!(bench.provisioner.drop(tenant, &server()).await.unwrap());
    assert!(!bench.provisioner.drop(tenant, &server()).await.unwrap(), "again");
    assert_eq!(other.describe(tenant, &server()).await.unwrap(), made);
    assert!(opens(&databases, tenant).await);
    // The control: its own server drops it.
    other.freeze(tenant, &server(), OperationId::generate()).await.unwrap();
    assert!(other.drop(tenant, &server()).await.unwrap());
    assert!(!exists(&main, tenant).await);
}

/// A server's main database may be the one in which the servers of a cluster wait for each other: its own lock is held then.
#[tokio::test]
async fn who_works_on_a_tenant_in_database_postgres_does_not_wait_there_for_itself() {
    let bench = Bench::start("own_in_postgres", 1).await;
    let tenant = TenantId::generate();
    let work = cluster::connect(&bench.databases.servers().superuser_url("postgres"))
        .await
        .unwrap();
    let hold = format!("SELECT pg_advisory_lock(hashtextextended('{}', 4662))", tenant.uuid());
    work.batch_execute(&hold).await.unwrap();
    prepare(&bench, tenant, OperationId::generate()).await.unwrap();
    bench
        .provisioner
        .freeze(tenant, &server(), OperationId::generate())
        .await
        .unwrap();
    assert!(bench.provisioner.drop(tenant, &server()).await.unwrap());
}

/// Nothing in the database says yet whose it is.
#[tokio::test]
async fn a_drop_waits_for_another_server_that_is_making_the_database() {
    let bench = Bench::start("own_meanwhile", 1).await;
    let main = bench.superuser().await;
    let tenant = half_dropped(&bench, &main).await;
    let (databases, other) = beside("own_meanwhile_other").await;
    // The other server has everything else done when it waits for the login's line in the catalogue.
    let holder = bench.superuser().await;
    let hold = format!("BEGIN; ALTER ROLE {} CONNECTION LIMIT 7", schema(tenant));
    holder.batch_execute(&hold).await.unwrap();
    let preparing = tokio::spawn({
        let other = other.clone();
        async move {
            other
                .prepare(tenant, &server(), DATABASE, OperationId::generate())
                .await
        }
    });
    let held_up = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))";
    until(|| async { count(&holder, held_up).await == 1 }).await;

    let provisioner = bench.provisioner.clone();
    let dropping = tokio::spawn(async move { provisioner.drop(tenant, &server()).await });
    let waiting = format!(
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
         WHERE datname = 'postgres' AND locktype = 'advisory' AND NOT granted
             AND (classid::bigint << 32) | objid::bigint = hashtextextended('{}', 4660)",
        tenant.uuid()
    );
    until(|| async { count(&main, &waiting).await == 1 }).await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    let made = preparing.await.unwrap().unwrap();
    assert!(dropping.await.unwrap().unwrap());
    assert_eq!(other.describe(tenant, &server()).await.unwrap(), made);
    assert!(opens(&databases, tenant).await);
}

/// The same name is another's on another cluster. `libs/db/cluster/roles.sql` has made both the same logins.
#[tokio::test]
async fn on_another_cluster_nobody_waits_for_who_works_here_and_nothing_of_it_is_dropped() {
    let bench = Bench::start("own_here", 1).await;
    let tenant = bench.tenant_in(DATABASE).await;
    bench.insert(tenant, "own").await.unwrap();
    let mut databases = Databases::empty_only(Kind::Data, "own_there").await.unwrap();
    databases.add_second_data().await.unwrap();
    let there = databases.data_server("data2").unwrap();
    rowhouse_db::migrate_platform(&Secret::new(there.url(Login::Owner)))
        .await
        .unwrap();
    let keys = master_keys(b'A', b"");
    let other = provisioner_at(there.url(Login::Owner), NEWEST, &keys).await;

    let work = cluster::connect(&bench.databases.servers().superuser_url("postgres"))
        .await
        .unwrap();
    let hold = format!("SELECT pg_advisory_lock(hashtextextended('{}', 4660))", tenant.uuid());
    work.batch_execute(&hold).await.unwrap();
    let operation = OperationId::generate();
    let made = other.prepare(tenant, &server(), DATABASE, operation).await.unwrap();
    assert_eq!(other.describe(tenant, &server()).await.unwrap(), made);
    let login = own_login(&Secret::new(there.url(Login::Owner)), &keys.present, tenant).await;
    let (name, password) = login.unwrap().expect("the database has a login of its own");
    let main = cluster::connect(&there.superuser_url()).await.unwrap();
    assert!(exists(&main, tenant).await && other.has_login(tenant, &server()).await.unwrap());
    for url in [
        there.servers.url_of(&name, password.expose(), &name),
        there.servers.pooled_url_of(&name, password.expose(), &name),
    ] {
        assert!(
            cluster::connect(&url).await.is_ok(),
            "straight, and by the pooler's entry `*`"
        );
    }
    let here = bench.databases.servers().url_of(&name, password.expose(), &name);
    assert!(
        cluster::connect(&here).await.is_err(),
        "the login here has another password"
    );

    other.freeze(tenant, &server(), OperationId::generate()).await.unwrap();
    assert!(other.drop(tenant, &server()).await.unwrap());
    assert!(!exists(&main, tenant).await && !other.has_login(tenant, &server()).await.unwrap());
    assert!(opens(&bench.databases, tenant).await);
    assert_eq!(bench.list(tenant).await.unwrap().len(), 1);
}
