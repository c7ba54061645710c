//! The DDL of a house: schema, tables, the number on the door, rights. In placement `schema` a house is one tenant's.

use rowhouse_types::TenantId;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{Migration, ProvisionError};
use crate::error::HOUSE_CHECK;

/// Longest wait for a table's lock: whoever wants the table waits behind us.
const BOUNDS: &str = "SET LOCAL lock_timeout = '5s'";

/// The schema of a tenant's house: from its opaque id, never from a name that somebody chose.
pub(super) fn schema_name(tenant: TenantId) -> String {
    format!("t_{}", tenant.uuid().simple())
}

/// Creates the schema and lets transactions that have entered use it.
pub(super) async fn create(connection: &mut PgConnection, schema: &str) -> Result<(), ProvisionError> {
    run(
        connection,
        format!("CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO rowhouse_tenant"),
    )
    .await
}

/// Runs migrations inside the schema, then puts the tenant's number on every table that they made.
pub(super) async fn migrate(
    connection: &mut PgConnection,
    schema: &str,
    tenant: TenantId,
    migrations: impl Iterator<Item = &'static Migration>,
) -> Result<(), ProvisionError> {
    run(connection, format!("{BOUNDS}; SET LOCAL search_path = {schema}, ext")).await?;
    for migration in migrations {
        sqlx::raw_sql(migration.sql).execute(&mut *connection).await?;
    }
    number(connection, schema, tenant).await
}

/// Removes the schema and everything in it.
pub(super) async fn drop(connection: &mut PgConnection, schema: &str) -> Result<(), ProvisionError> {
    run(connection, format!("{BOUNDS}; DROP SCHEMA {schema} CASCADE")).await
}

/// `CHECK (tenant_id = '<this tenant>')` on every table that has none yet. New tables are empty, so this is instant.
async fn number(connection: &mut PgConnection, schema: &str, tenant: TenantId) -> Result<(), ProvisionError> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT class.relname::text
         FROM pg_catalog.pg_class AS class
         WHERE class.relnamespace = to_regnamespace($1) AND class.relkind IN ('r', 'p')
             AND NOT EXISTS (
                 SELECT FROM pg_catalog.pg_constraint AS wall
                 WHERE wall.conrelid = class.oid AND wall.contype = 'c' AND wall.conname = class.relname || $2)
         ORDER BY class.relname",
    )
    .bind(schema)
    .bind(HOUSE_CHECK)
    .fetch_all(&mut *connection)
    .await?;
    for table in tables {
        let plain = table
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        // PostgreSQL cuts names at 63 bytes, and a cut name would not be found again.
        if !plain || table.len() + HOUSE_CHECK.len() > 63 {
            return Err(ProvisionError::Rule(format!("{table} is no name for a table")));
        }
        let check = format!(
            "ALTER TABLE {schema}.{table} ADD CONSTRAINT {table}{HOUSE_CHECK} CHECK (tenant_id = '{}'::uuid)",
            tenant.uuid()
        );
        run(connection, check).await?;
    }
    Ok(())
}

/// Runs statements of this file. Whatever is put into them is a uuid, or a name of letters, digits and underscores.
async fn run(connection: &mut PgConnection, sql: String) -> Result<(), ProvisionError> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}
