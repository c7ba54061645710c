//! What the suite needs inside PostgreSQL: roles, databases, grants.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio_postgres::{Client, NoTls};

use crate::checkout::Checkout;
use crate::scram;
use crate::servers::{Login, Servers};

/// The control database of `cargo xtask up`.
pub const CONTROL: &str = "rowhouse_control";
/// The data database of `cargo xtask up`, registered as server `data1`.
pub const DATA: &str = "rowhouse_data1";
/// The data database of `cargo xtask up --second-data-server`, on a cluster of its own, registered as server `data2`.
pub const SECOND_DATA: &str = "rowhouse_data2";
/// The migrated control database that tests clone.
pub const CONTROL_TEMPLATE: &str = "rowhouse_control_template";
/// The migrated data database that tests clone.
pub const DATA_TEMPLATE: &str = "rowhouse_data_template";

/// A server on loopback answers at once or is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Which of the two kinds of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Directory, identities, jobs.
    Control,
    /// Tenants' data.
    Data,
}

impl Kind {
    /// The list of this one.
    pub(crate) fn alone(self) -> &'static [Self] {
        match self {
            Self::Control => &[Self::Control],
            Self::Data => &[Self::Data],
        }
    }

    /// What tests clone.
    pub(crate) fn template(self) -> &'static str {
        match self {
            Self::Control => CONTROL_TEMPLATE,
            Self::Data => DATA_TEMPLATE,
        }
    }

    /// The logins that may connect.
    fn logins(self) -> &'static [Login] {
        match self {
            Self::Control => &[
                Login::Owner,
                Login::ControlTenant,
                Login::ControlAuth,
                Login::ControlWorker,
            ],
            Self::Data => &[Login::Owner, Login::App, Login::Relay, Login::Keeper, Login::Pooler],
        }
    }
}

/// Connects. The connection's task ends with the client.
///
/// # Errors
/// When the server does not answer or refuses.
pub async fn connect(url: &str) -> Result<Client> {
    let mut config: tokio_postgres::Config = url.parse()?;
    config
        .connect_timeout(CONNECT_TIMEOUT)
        .application_name("rowhouse-devkit");
    let (client, connection) = tokio::time::timeout(CONNECT_TIMEOUT, config.connect(NoTls)).await??;
    // Ends by itself when the client is dropped; a broken connection shows in the client's next call.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(client)
}

/// Creates the suite's roles, once per cluster, and sets their passwords.
///
/// # Errors
/// When only some of the roles exist, or PostgreSQL refuses.
pub async fn ensure_roles(servers: &Servers) -> Result<()> {
    let client = connect(&servers.superuser_url("postgres")).await?;
    let names: Vec<&str> = Login::ALL.iter().map(|login| login.name()).collect();
    let found = client
        .query_one("SELECT count(*) FROM pg_roles WHERE rolname = ANY($1)", &[&names])
        .await?;
    let count = usize::try_from(found.get::<_, i64>(0))?;
    if count == 0 {
        let file = Checkout::find()?.root().join("libs/db/cluster/roles.sql");
        let sql = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        // One message is one transaction: a start that is killed leaves all roles or none.
        client.batch_execute(&sql).await.context("libs/db/cluster/roles.sql")?;
    } else {
        ensure!(
            count == Login::ALL.len(),
            "the cluster has {count} of the suite's {} roles: it is older than libs/db/cluster/roles.sql. Run `cargo \
             xtask up --fresh`, or create the missing ones",
            Login::ALL.len()
        );
        let functions = "SELECT to_regprocedure('rowhouse_logins.put(text, text)') IS NOT NULL
             AND to_regprocedure('rowhouse_logins.bound(text, integer)') IS NOT NULL";
        ensure!(
            client.query_one(functions, &[]).await?.get::<_, bool>(0),
            "the cluster lacks the functions of libs/db/cluster/roles.sql. Run `cargo xtask up --fresh`, or that part of it"
        );
    }
    let mut passwords = Vec::new();
    for login in Login::ALL {
        passwords.push(set_password(servers, login.name(), &servers.password(login))?);
    }
    if let Some((superuser, password)) = servers.private_superuser() {
        passwords.push(set_password(servers, superuser, password)?);
    }
    client
        .batch_execute(&passwords.concat())
        .await
        .context("cannot set the roles' passwords")?;
    Ok(())
}

fn set_password(servers: &Servers, role: &str, password: &str) -> Result<String> {
    let secret = if servers.private_superuser().is_some() {
        scram::verifier(password)?
    } else {
        password.to_owned()
    };
    Ok(format!(
        "ALTER ROLE {} PASSWORD {};",
        quote_name(role),
        quote_literal(&secret)
    ))
}

/// Whether there is a database of this name.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn has_database(servers: &Servers, name: &str) -> Result<bool> {
    let client = connect(&servers.superuser_url("postgres")).await?;
    exists(&client, name).await
}

async fn exists(client: &Client, name: &str) -> Result<bool> {
    let row = client
        .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&name])
        .await?;
    Ok(row.is_some())
}

/// Creates a database of the suite if it is not there, empty or as a copy, and sets its grants.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn ensure_database(servers: &Servers, name: &str, kind: Kind, template: Option<&str>) -> Result<()> {
    let client = connect(&servers.superuser_url("postgres")).await?;
    if !exists(&client, name).await? {
        create_database(&client, name, template).await?;
    }
    // A copy does not inherit these, and a start killed between the two statements has not set them.
    client
        .batch_execute(&grants(name, kind))
        .await
        .with_context(|| format!("cannot set the grants of {name}"))?;
    Ok(())
}

async fn create_database(client: &Client, name: &str, template: Option<&str>) -> Result<()> {
    let owner = Login::Owner.name();
    let template = template
        .map(|template| format!(" TEMPLATE {}", quote_name(template)))
        .unwrap_or_default();
    let sql = format!("CREATE DATABASE {} OWNER {owner}{template}", quote_name(name));
    client
        .batch_execute(&sql)
        .await
        .with_context(|| format!("cannot create the database {name}"))
}

/// TEMPORARY stays with nobody: a temporary table on a pooled connection would shadow the next tenant's table.
fn grants(name: &str, kind: Kind) -> String {
    let name = quote_name(name);
    let logins: Vec<&str> = kind.logins().iter().map(|login| login.name()).collect();
    format!(
        "REVOKE ALL ON DATABASE {name} FROM PUBLIC; GRANT CONNECT ON DATABASE {name} TO {};",
        logins.join(", ")
    )
}

/// Drops a database with everybody in it.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn drop_database(servers: &Servers, name: &str) -> Result<()> {
    let client = connect(&servers.superuser_url("postgres")).await?;
    client
        .batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote_name(name)))
        .await?;
    Ok(())
}

/// Drops the login of a tenant's database, after the database.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn drop_login(servers: &Servers, name: &str) -> Result<()> {
    let client = connect(&servers.superuser_url("postgres")).await?;
    client
        .batch_execute(&format!("DROP ROLE IF EXISTS {}", quote_name(name)))
        .await?;
    Ok(())
}

/// Databases of tenants that the registry of a data database names.
///
/// # Errors
/// When PostgreSQL refuses, or the database has no such registry.
pub async fn tenants_databases(servers: &Servers, data: &str) -> Result<Vec<String>> {
    let client = connect(&servers.superuser_url(data)).await?;
    let rows = client
        .query("SELECT database_name FROM rowhouse.databases", &[])
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Lets nobody connect any more: a database that somebody is connected to cannot be cloned.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn close_database(servers: &Servers, name: &str) -> Result<()> {
    let client = connect(&servers.superuser_url("postgres")).await?;
    client
        .batch_execute(&format!(
            "ALTER DATABASE {} WITH ALLOW_CONNECTIONS false",
            quote_name(name)
        ))
        .await?;
    Ok(())
}

fn quote_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_literals_are_quoted() {
        assert_eq!(quote_name("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
    }

    #[test]
    fn control_logins_may_not_connect_to_data() {
        assert!(!grants("d", Kind::Data).contains("rowhouse_ctl_"));
        assert!(!grants("c", Kind::Control).contains("rowhouse_app"));
        assert!(grants("c", Kind::Control).starts_with("REVOKE ALL ON DATABASE \"c\" FROM PUBLIC;"));
    }
}
