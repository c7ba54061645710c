//! The functions that make and remove logins (`cluster/roles.sql`). They and the common login are the cluster's, and other tests
//! use them meanwhile: what is changed here of them is never committed.

use rowhouse_devkit::fixture;
use tokio_postgres::error::SqlState;

use super::logins::has_role;
use super::*;

const VERIFIER: &str = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy";

/// As the functions are written down in the catalogue.
const BOUND: &str = " SET lock_timeout TO '30s'\n";

async fn superuser() -> Client {
    cluster::connect(&fixture::servers().unwrap().superuser_url("postgres"))
        .await
        .unwrap()
}

fn put(name: &str) -> String {
    format!("SELECT rowhouse_logins.put('{name}', '{VERIFIER}')")
}

fn remove(name: &str) -> String {
    format!("SELECT rowhouse_logins.remove('{name}')")
}

/// Settings that sessions of the role begin with, each with the database that it is for: 0 for all, or this connection's. What
/// other tests set in databases of theirs is not ours.
async fn settings(client: &Client, role: &str) -> Vec<(u32, String)> {
    let sql = "SELECT setdatabase, config
        FROM pg_db_role_setting JOIN pg_roles ON pg_roles.oid = setrole, unnest(setconfig) AS config
        WHERE rolname = $1 AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
        ORDER BY setdatabase, config";
    let rows = client.query(sql, &[&role]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn a_login_is_given_three_settings_of_the_common_one() {
    let client = superuser().await;
    let [one, two] = [TenantId::generate(), TenantId::generate()].map(schema);
    client.batch_execute("BEGIN").await.unwrap();
    client.batch_execute(&put(&one)).await.unwrap();
    let given = settings(&client, &one).await;
    let written = [
        "client_connection_check_interval=250ms",
        "idle_in_transaction_session_timeout=10s",
        "lock_timeout=5s",
    ];
    assert_eq!(given, written.map(|setting| (0, setting.to_owned())));
    assert_eq!(given, settings(&client, "rowhouse_app").await);
    // What an operator makes of those is followed. What is for one database, or may be set by superusers alone, is left where it
    // is.
    let change = "ALTER ROLE rowhouse_app SET lock_timeout = '7s'; ALTER ROLE rowhouse_app SET log_statement = 'all';
        ALTER ROLE rowhouse_app SET work_mem = '8MB'; ALTER ROLE rowhouse_app IN DATABASE postgres SET lock_timeout = '1h'";
    client.batch_execute(change).await.unwrap();
    assert_eq!(settings(&client, "rowhouse_app").await.len(), 6);
    let mut changed = given;
    changed[2].1 = "lock_timeout=7s".to_owned();
    for login in [one, two] {
        client.batch_execute(&put(&login)).await.unwrap();
        assert_eq!(settings(&client, &login).await, changed);
    }
    client.batch_execute("ROLLBACK").await.unwrap();
}

/// Else a provisioner would wait for as long as whoever changes a role leaves its transaction open. Not the 30 s themselves, which
/// no test shall wait for: a shorter bound in their place.
#[tokio::test]
async fn who_holds_a_role_holds_up_its_making_and_removal_for_a_bounded_time() {
    let (holder, client) = (superuser().await, superuser().await);
    let tenant = TenantId::generate();
    let name = schema(tenant);
    client.batch_execute(&put(&name)).await.unwrap();
    // The lock that both need is the one on the role's row in pg_authid.
    let hold = format!("BEGIN; ALTER ROLE {name} CONNECTION LIMIT 7");
    holder.batch_execute(&hold).await.unwrap();
    for (function, call) in [("put", put(&name)), ("remove", remove(&name))] {
        let definition = format!("SELECT pg_get_functiondef('rowhouse_logins.{function}'::regproc)");
        let definition: String = client.query_one(&definition, &[]).await.unwrap().get(0);
        assert!(definition.contains(BOUND), "{definition}");
        let ended = async |by: &str, statement_timeout: &str| {
            let definition = definition.replace(BOUND, by);
            let begin = format!("BEGIN; {definition}; SET LOCAL statement_timeout = '{statement_timeout}'");
            client.batch_execute(&begin).await.unwrap();
            let error = client.batch_execute(&call).await.unwrap_err();
            client.batch_execute("ROLLBACK").await.unwrap();
            error.code().cloned()
        };
        let bounded = ended(" SET lock_timeout TO '50ms'\n", "0").await;
        assert_eq!(bounded, Some(SqlState::LOCK_NOT_AVAILABLE), "{function}");
        // The control: without the bound, it is something else that ends it.
        let unbounded = ended("", "500ms").await;
        assert_eq!(unbounded, Some(SqlState::QUERY_CANCELED), "{function}");
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    client.batch_execute(&put(&name)).await.unwrap();
    client.batch_execute(&remove(&name)).await.unwrap();
    assert!(!has_role(&client, tenant).await);
}
