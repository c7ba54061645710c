//! Schema `rowhouse` of every data database: which homes there are, how to enter one, the outbox.

use std::time::Duration;

use rowhouse_config::Secret;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;

use crate::control;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations/platform");

/// The schema.
const SCHEMA: &str = "rowhouse";

/// Longest wait for a connection. A run that sees to several servers ends without one that does not answer.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// What stands at the database and not in a schema, so that a copy of the database does not inherit it. TEMPORARY: a
/// temporary table left on a pooled connection would shadow the next tenant's table.
const DATABASE_GRANTS: &str = "
DO $$
BEGIN
    IF has_database_privilege('public', current_database(), 'TEMPORARY')
        OR has_database_privilege('public', current_database(), 'CREATE') THEN
        EXECUTE format('REVOKE TEMPORARY, CREATE ON DATABASE %I FROM PUBLIC', current_database());
    END IF;
    IF has_schema_privilege('public', 'public', 'CREATE') THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    END IF;
END
$$";

/// Who may connect to a server's main database. PostgreSQL lets everybody connect to a new one, and the logins of tenants' own
/// databases are somebody.
const MAIN_DATABASE_GRANTS: &str = "
DO $$
BEGIN
    IF has_database_privilege('public', current_database(), 'CONNECT') THEN
        EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database());
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO rowhouse_app, rowhouse_relay, rowhouse_keeper', current_database());
    END IF;
END
$$";

/// Brings schema `rowhouse` of a data server's main database to the newest version, takes TEMPORARY and CREATE from PUBLIC, and
/// lets only the suite's logins connect. Concurrent runs wait for each other.
///
/// `owner_url`: `rowhouse_owner`, direct; it owns the database.
///
/// # Errors
/// When the server is out of reach, or a migration fails or has changed since it was applied.
pub async fn migrate_platform(owner_url: &Secret) -> Result<(), MigrateError> {
    let options = control::options(owner_url)?;
    let connected = timeout(CONNECT_MAX, PgConnection::connect_with(&options)).await;
    let mut connection = connected.map_err(|_| sqlx::Error::PoolTimedOut)??;
    let grants = [DATABASE_GRANTS, MAIN_DATABASE_GRANTS].join(";");
    control::create_schema(&mut connection, SCHEMA, grants).await?;
    control::migrate(&mut connection, SCHEMA, &MIGRATIONS).await?;
    connection.close().await?;
    Ok(())
}

/// The same for a tenant's own database, on a connection to it; who may connect is said where it is made.
pub(crate) async fn migrate(connection: &mut PgConnection) -> Result<(), MigrateError> {
    control::create_schema(connection, SCHEMA, DATABASE_GRANTS.to_owned()).await?;
    control::migrate(connection, SCHEMA, &MIGRATIONS).await
}

/// The newest version of schema `rowhouse` that this code has.
pub(crate) fn newest() -> i64 {
    MIGRATIONS
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or_default()
}

/// Whether schema `rowhouse` is at the version of this code, or a newer one.
pub(crate) async fn is_current(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let ledger: Option<String> = sqlx::query_scalar("SELECT to_regclass('rowhouse.migrations')::text")
        .fetch_one(&mut *connection)
        .await?;
    if ledger.is_none() {
        return Ok(false);
    }
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM rowhouse.migrations WHERE version >= $1 AND success)")
        .bind(newest())
        .fetch_one(connection)
        .await
}
