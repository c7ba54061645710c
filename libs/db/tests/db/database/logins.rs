//! The login that a tenant's own database has: what it may, who else may not, and what becomes of it.

use rowhouse_db::testing::master_keys;
use rowhouse_db::{Lanes, MasterKeys, TenantDb, TenantDbConfig};
use tokio_postgres::error::SqlState;

use super::*;
use crate::bench::config;
use crate::notes::LIST;

/// Every right in the database that the login has and `rowhouse_app` would not have in its place; and the other way round.
const DIFFERENCES: &str = "
    WITH logins AS (SELECT $1::text AS own, 'rowhouse_app'::text AS common),
    rights AS (
        SELECT format('function %s', oid::regprocedure) AS line,
            has_function_privilege(own, oid, 'EXECUTE') AS own, has_function_privilege(common, oid, 'EXECUTE') AS common
        FROM pg_proc, logins
        UNION ALL
        SELECT format('schema %s %s', nspname, privilege),
            has_schema_privilege(own, oid, privilege), has_schema_privilege(common, oid, privilege)
        FROM pg_namespace, logins, unnest(ARRAY['USAGE', 'CREATE']) AS privilege
        UNION ALL
        SELECT format('table %s %s', oid::regclass, privilege),
            has_table_privilege(own, oid, privilege), has_table_privilege(common, oid, privilege)
        FROM pg_class, logins, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES']) AS privilege
        WHERE relkind IN ('r', 'v', 'm', 'p')
        UNION ALL
        SELECT format('column of %s %s', oid::regclass, privilege),
            has_any_column_privilege(own, oid, privilege), has_any_column_privilege(common, oid, privilege)
        FROM pg_class, logins, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS privilege
        WHERE relkind IN ('r', 'v', 'm', 'p')
        UNION ALL
        SELECT format('database %s', privilege), has_database_privilege(own, current_database(), privilege),
            has_database_privilege(common, current_database(), privilege)
        FROM logins, unnest(ARRAY['CREATE', 'TEMPORARY']) AS privilege
        UNION ALL
        SELECT format('role %s', rolname), pg_has_role(own, oid, 'MEMBER'), pg_has_role(common, oid, 'MEMBER')
        FROM pg_roles, logins WHERE rolname NOT IN (own, common)
        UNION ALL
        SELECT format('attributes %s %s %s %s %s %s %s', rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolreplication,
                rolbypassrls, rolconfig), rolname = own, rolname <> own
        FROM pg_roles, logins WHERE rolname IN (own, common)
    )
    SELECT line FROM rights GROUP BY line HAVING bool_or(own) <> bool_or(common) ORDER BY line";

pub(super) async fn refusal(url: &str) -> Option<SqlState> {
    match cluster::connect(url).await {
        Ok(_) => None,
        Err(error) => {
            let fault = error.downcast::<tokio_postgres::Error>().unwrap();
            Some(fault.code().unwrap().clone())
        }
    }
}

/// What PostgreSQL knows of the login's password.
pub(super) async fn verifier(superuser: &Client, tenant: TenantId) -> String {
    let sql = "SELECT rolpassword FROM pg_authid WHERE rolname = $1";
    superuser.query_one(sql, &[&schema(tenant)]).await.unwrap().get(0)
}

pub(super) async fn has_role(superuser: &Client, tenant: TenantId) -> bool {
    let sql = format!("SELECT count(*) FROM pg_roles WHERE rolname = '{}'", schema(tenant));
    count(superuser, &sql).await == 1
}

/// Straight to PostgreSQL, with these master keys.
pub(super) async fn serving(bench: &Bench, master_keys: MasterKeys) -> TenantDb {
    let config = TenantDbConfig {
        master_keys,
        ..config(bench.databases.data_url(Login::App), Lanes::OFF)
    };
    TenantDb::connect(config, bench.directory.clone()).await.unwrap()
}

pub(super) async fn list(db: &TenantDb, tenant: TenantId) -> Result<usize, Error> {
    let mut tx = db
        .begin_single(&ctx(tenant, std::time::Duration::from_secs(2)), Mode::Read)
        .await?;
    Ok(tx.fetch_all(&LIST, &[]).await?.len())
}

#[tokio::test]
async fn a_login_connects_to_its_own_database_alone() {
    let bench = Bench::start("login_alone", 1).await;
    let (one, two) = (bench.tenant_in(DATABASE).await, bench.tenant_in(DATABASE).await);
    let (servers, (name, password)) = (bench.databases.servers(), bench.own_login(one).await);
    let direct = |database: &str| servers.url_of(&name, &password, database);
    assert_eq!(refusal(&direct(&name)).await, None);
    let neighbours = schema(two);
    for database in [
        neighbours.as_str(),
        bench.databases.data_name(),
        "postgres",
        "template1",
    ] {
        let refused = refusal(&direct(database)).await;
        assert_eq!(refused, Some(SqlState::INSUFFICIENT_PRIVILEGE), "{database}");
    }
    let common = servers.login_url(Login::App, &name);
    assert_eq!(refusal(&common).await, Some(SqlState::INSUFFICIENT_PRIVILEGE));
    // The pooler knows the login in its own database and in no other.
    assert_eq!(refusal(&servers.pooled_url_of(&name, &password, &name)).await, None);
    assert!(refusal(&servers.pooled_url_of(&name, "wrong", &name)).await.is_some());
    assert!(
        refusal(&servers.pooled_url_of(&name, &password, &neighbours))
            .await
            .is_some()
    );
    // The control: it is the right to connect that is not there.
    let grant = format!("GRANT CONNECT ON DATABASE {neighbours} TO {name}");
    bench.superuser().await.batch_execute(&grant).await.unwrap();
    assert_eq!(refusal(&direct(&neighbours)).await, None);
}

#[tokio::test]
async fn a_login_may_do_what_the_common_login_may_elsewhere_and_no_more() {
    let bench = Bench::start("login_rights", 1).await;
    let tenant = bench.tenant_in(DATABASE).await;
    let own = bench.superuser_of(tenant).await;
    let differences = async || {
        let rows = own.query(DIFFERENCES, &[&schema(tenant)]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()
    };
    assert_eq!(differences().await, Vec::<String>::new());
    // The controls.
    for (damage, line) in [
        ("GRANT SELECT ON rowhouse.homes TO {}", "table rowhouse.homes SELECT"),
        (
            "GRANT EXECUTE ON FUNCTION rowhouse.pooled_login(text) TO {}",
            "function rowhouse.pooled_login(text)",
        ),
        ("GRANT rowhouse_keeper TO {}", "role rowhouse_keeper"),
        ("ALTER ROLE {} SET lock_timeout = '1h'", "attributes"),
    ] {
        let damage = damage.replace("{}", &schema(tenant));
        own.batch_execute(&damage).await.unwrap();
        let found = differences().await;
        assert!(
            found.iter().any(|found| found.starts_with(line)),
            "{damage}: {found:#?}"
        );
    }
}

/// The owner makes logins of tenants' databases and no others, and no other login makes any.
#[tokio::test]
async fn nobody_takes_over_a_login_by_what_makes_them() {
    let bench = Bench::start("login_maker", 1).await;
    let verifier = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy";
    let owner = cluster::connect(&bench.databases.servers().login_url(Login::Owner, "postgres"))
        .await
        .unwrap();
    let tenant = TenantId::generate();
    let name = schema(tenant);
    for (login, secret) in [
        ("rowhouse_app", verifier),
        ("postgres", verifier),
        ("t_1", verifier),
        (&name, "in the clear"),
    ] {
        let put = owner
            .execute("SELECT rowhouse_logins.put($1, $2)", &[&login, &secret])
            .await;
        let refused = put.unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::INVALID_PARAMETER_VALUE), "{login}");
    }
    let removed = owner
        .execute("SELECT rowhouse_logins.remove('rowhouse_app')", &[])
        .await;
    assert!(removed.is_err());
    for role in ["CREATE ROLE stranger", "SET ROLE rowhouse_registrar"] {
        assert!(owner.batch_execute(role).await.is_err(), "{role}");
    }
    for login in Login::ALL.into_iter().filter(|login| *login != Login::Owner) {
        let url = bench.databases.servers().login_url(login, "postgres");
        assert!(refusal(&url).await.is_some(), "{}", login.name());
    }
    // The control: with such a name it is made.
    let put = owner
        .execute("SELECT rowhouse_logins.put($1, $2)", &[&name, &verifier])
        .await;
    put.unwrap();
    assert!(has_role(&owner, tenant).await);
    let removed = owner.execute("SELECT rowhouse_logins.remove($1)", &[&name]).await;
    removed.unwrap();
    assert!(!has_role(&owner, tenant).await);
}

#[tokio::test]
async fn with_another_master_key_nobody_enters() {
    let bench = Bench::start("login_key", 1).await;
    let (one, two) = (bench.tenant_in(DATABASE).await, bench.tenant_in(DATABASE).await);
    let right = serving(&bench, master_keys(b'A', b"")).await;
    assert_eq!(list(&right, one).await, Ok(0));
    let wrong = serving(&bench, master_keys(b'B', b"")).await;
    let refused = list(&wrong, one).await;
    assert!(
        matches!(&refused, Err(Error::Unavailable(why)) if why.contains("master key")),
        "{refused:?}"
    );
    // Nor with the right one by what was sealed for another.
    let exchange = format!(
        "UPDATE rowhouse.databases AS one SET sealed_password = two.sealed_password
         FROM rowhouse.databases AS two WHERE one.tenant_id = '{}' AND two.tenant_id = '{}'",
        two.uuid(),
        one.uuid()
    );
    bench.superuser().await.batch_execute(&exchange).await.unwrap();
    let refused = list(&right, two).await;
    assert!(
        matches!(&refused, Err(Error::Unavailable(why)) if why.contains("master key")),
        "{refused:?}"
    );
    right.shutdown().await;
    wrong.shutdown().await;
}

/// What a dead process has made is made again, with another password, and who was told the old one is refused.
#[tokio::test]
async fn a_login_that_was_half_made_is_given_another_password() {
    let bench = Bench::start("login_half", 1).await;
    let main = bench.superuser().await;
    let (tenant, operation) = (TenantId::generate(), OperationId::generate());
    let home = prepare(&bench, tenant, operation).await.unwrap();
    bench.directory.put(home.clone());
    let (name, old) = bench.own_login(tenant).await;
    bench.insert(tenant, "own").await.unwrap();
    crashes::unsay(&main, "building").await;
    assert_eq!(prepare(&bench, tenant, operation).await.unwrap(), home);
    let (_, new) = bench.own_login(tenant).await;
    assert_ne!(old, new);
    let servers = bench.databases.servers();
    for url in [
        servers.url_of(&name, &old, &name),
        servers.pooled_url_of(&name, &old, &name),
    ] {
        assert!(refusal(&url).await.is_some());
    }
    // Through the pooler and straight.
    assert_eq!(refusal(&servers.pooled_url_of(&name, &new, &name)).await, None);
    assert_eq!(bench.list(tenant).await.unwrap().len(), 1);
    let fresh = serving(&bench, master_keys(b'A', b"")).await;
    assert_eq!(list(&fresh, tenant).await, Ok(1));
    fresh.shutdown().await;
    // It goes with the database, also where both are there in part.
    crashes::unsay(&main, "building").await;
    assert!(has_role(&main, tenant).await);
    assert!(bench.provisioner.drop(tenant, &server()).await.unwrap());
    assert!(!has_role(&main, tenant).await);
}

/// What a password is sealed for is rolled back with the main transaction. Whoever has lost that one must not give the login
/// another password, which nobody would know: the tenant would be locked out.
#[tokio::test]
async fn a_provisioner_whose_main_transaction_has_ended_leaves_the_password_alone() {
    let bench = Bench::start("login_lost", 1).await;
    let main = bench.superuser().await;
    let (tenant, operation) = (TenantId::generate(), OperationId::generate());
    let home = prepare(&bench, tenant, operation).await.unwrap();
    bench.directory.put(home.clone());
    let (told, before) = (bench.own_login(tenant).await, verifier(&main, tenant).await);
    crashes::unsay(&main, "building").await;
    // Somebody else works on the login, so it waits with everything else done.
    let own = bench.superuser_of(tenant).await;
    own.batch_execute("SELECT pg_advisory_lock(hashtextextended('rowhouse.own_login', 0))")
        .await
        .unwrap();
    let provisioner = bench.provisioner.clone();
    let preparing = tokio::spawn(async move { provisioner.prepare(tenant, &server(), DATABASE, operation).await });
    until(|| async { waiting(&own).await == 1 }).await;
    // As idle_in_transaction_session_timeout would. It answers when the back end is gone.
    let end = "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'rowhouse_owner' AND state = 'idle in transaction'";
    assert!(main.query_one(end, &[]).await.unwrap().get::<_, bool>(0));
    own.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    let lost = preparing.await.unwrap();
    assert!(matches!(lost, Err(ProvisionError::Database(_))), "{lost:?}");
    assert_eq!(verifier(&main, tenant).await, before);
    assert_eq!(bench.own_login(tenant).await, told);
    let (servers, (name, password)) = (bench.databases.servers(), told);
    assert_eq!(refusal(&servers.url_of(&name, &password, &name)).await, None);
    assert_eq!(refusal(&servers.pooled_url_of(&name, &password, &name)).await, None);
    let fresh = serving(&bench, master_keys(b'A', b"")).await;
    assert_eq!(list(&fresh, tenant).await, Ok(0));
    fresh.shutdown().await;
    // The control: whoever comes next with its transaction whole gives it another.
    assert_eq!(prepare(&bench, tenant, operation).await.unwrap(), home);
    assert_ne!(verifier(&main, tenant).await, before);
    let (_, password) = bench.own_login(tenant).await;
    assert_eq!(refusal(&servers.url_of(&name, &password, &name)).await, None);
}

#[tokio::test]
async fn a_dropped_home_takes_its_login_along() {
    let bench = Bench::start("login_drop", 1).await;
    let main = bench.superuser().await;
    for died in ["never", "before DROP ROLE"] {
        let (tenant, neighbour) = (bench.tenant_in(DATABASE).await, bench.tenant_in(DATABASE).await);
        bench.insert(tenant, "own").await.unwrap();
        bench.freeze(tenant).await;
        assert!(has_role(&main, tenant).await);
        if died == "before DROP ROLE" {
            let half = format!(
                "UPDATE rowhouse.databases SET state = 'leaving', house_id = NULL WHERE tenant_id = '{0}';
                 DELETE FROM rowhouse.houses WHERE schema_name = '{1}'",
                tenant.uuid(),
                schema(tenant)
            );
            main.batch_execute(&half).await.unwrap();
            crashes::remove(&main, tenant).await;
        }
        assert!(bench.provisioner.drop(tenant, &server()).await.unwrap(), "{died}");
        assert!(!exists(&main, tenant).await && !has_role(&main, tenant).await, "{died}");
        assert!(has_role(&main, neighbour).await, "{died}: the neighbour's");
        assert_eq!(bench.list(neighbour).await.unwrap(), [], "{died}");
    }
}

/// A purge has more to erase than the database, and would try this step for ever: PostgreSQL does not let go of such a role.
#[tokio::test]
async fn a_login_that_was_granted_something_elsewhere_is_left_without_use_and_the_drop_goes_on() {
    let bench = Bench::start("login_granted", 1).await;
    let main = bench.superuser().await;
    let (tenant, neighbour) = (bench.tenant_in(DATABASE).await, bench.tenant_in(DATABASE).await);
    let (servers, (name, password)) = (bench.databases.servers(), bench.own_login(tenant).await);
    let elsewhere = schema(neighbour);
    let grant = format!("GRANT CONNECT ON DATABASE {elsewhere} TO {name}");
    main.batch_execute(&grant).await.unwrap();
    assert_eq!(refusal(&servers.url_of(&name, &password, &elsewhere)).await, None);
    bench.freeze(tenant).await;
    assert!(bench.provisioner.drop(tenant, &server()).await.unwrap());
    assert!(!exists(&main, tenant).await && has_role(&main, tenant).await);
    let refused = refusal(&servers.url_of(&name, &password, &elsewhere)).await;
    assert_eq!(refused, Some(SqlState::INVALID_PASSWORD));
    assert!(!bench.provisioner.drop(tenant, &server()).await.unwrap(), "again");
    // The next database takes it over, and once nothing is granted it goes.
    bench.directory.put(bench.prepare_in(tenant, DATABASE).await);
    let (_, password) = bench.own_login(tenant).await;
    assert_eq!(refusal(&servers.url_of(&name, &password, &name)).await, None);
    let revoke = format!("REVOKE CONNECT ON DATABASE {elsewhere} FROM {name}");
    main.batch_execute(&revoke).await.unwrap();
    bench.freeze(tenant).await;
    assert!(bench.provisioner.drop(tenant, &server()).await.unwrap());
    assert!(!has_role(&main, tenant).await);
    assert_eq!(bench.list(neighbour).await.unwrap(), []);
}

/// Roles are the cluster's: of two that change one role at once the second would fail.
#[tokio::test]
async fn logins_of_many_tenants_are_made_and_removed_at_once() {
    let bench = Bench::start("login_many", 1).await;
    let main = bench.superuser().await;
    let tenants: Vec<TenantId> = (0..4).map(|_| TenantId::generate()).collect();
    let prepared = tenants
        .iter()
        .map(|tenant| prepare(&bench, *tenant, OperationId::generate()));
    for home in futures_util::future::join_all(prepared).await {
        bench.directory.put(home.unwrap());
    }
    for tenant in &tenants {
        bench.insert(*tenant, "own").await.unwrap();
        bench.freeze(*tenant).await;
    }
    let server = server();
    let dropped = tenants.iter().map(|tenant| bench.provisioner.drop(*tenant, &server));
    for dropped in futures_util::future::join_all(dropped).await {
        assert!(dropped.unwrap());
    }
    for tenant in &tenants {
        assert!(!has_role(&main, *tenant).await);
    }
}

/// A database that older code made, and what `migrate` makes of it.
#[tokio::test]
async fn a_database_without_a_login_is_entered_by_the_common_one_until_it_is_given_one() {
    let bench = Bench::start("login_older", 1).await;
    let (main, tenant) = (bench.superuser().await, bench.tenant_in(DATABASE).await);
    let name = schema(tenant);
    let own = bench.superuser_of(tenant).await;
    let older = format!(
        "DROP OWNED BY {name}; DROP ROLE {name}; DELETE FROM rowhouse.pooled_logins;
         REVOKE CONNECT ON DATABASE {name} FROM rowhouse_pooler; GRANT CONNECT ON DATABASE {name} TO rowhouse_app"
    );
    own.batch_execute(&older).await.unwrap();
    main.batch_execute("UPDATE rowhouse.databases SET sealed_password = NULL")
        .await
        .unwrap();
    let by = async |login: &str| {
        let db = serving(&bench, master_keys(b'A', b"")).await;
        assert_eq!(list(&db, tenant).await, Ok(0));
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND usename = '{login}'");
        let connections = count(&main, &sql).await;
        db.shutdown().await;
        connections
    };
    assert_eq!(by("rowhouse_app").await, 1);
    bench.provisioner.migrate_all().await.unwrap();
    assert_eq!(by(&name).await, 1);
    // Processes of older code go on, and a second run changes nothing.
    let servers = bench.databases.servers();
    assert_eq!(refusal(&servers.login_url(Login::App, &name)).await, None);
    let given = bench.own_login(tenant).await;
    bench.provisioner.migrate_all().await.unwrap();
    assert_eq!(bench.own_login(tenant).await, given);
    assert_eq!(bench.list(tenant).await.unwrap(), []);
}
