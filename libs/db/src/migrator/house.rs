//! The DDL of a house: schema, tables, the wall between tenants, rights.
//!
//! In placement `schema` a house is one tenant's, and its wall is the number on the door. In `shared` many tenants share
//! it, and its wall is the policy of row-level security.

use rowhouse_types::TenantId;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{Migration, ProvisionError};
use crate::error::HOUSE_WALL;

/// Longest wait for a table's lock: whoever wants the table waits behind us.
const BOUNDS: &str = "SET LOCAL lock_timeout = '5s'";

/// Which rows a transaction may see and write in a shared house: those of its setting. The statement's predicate is the
/// other source; an empty setting, which is what another transaction leaves behind, is nobody's.
const POLICY: &str = "tenant_id = NULLIF(current_setting('rowhouse.tenant_id', true), '')::uuid";

/// What keeps a house's tenants apart from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wall {
    /// A CHECK that every row is this tenant's.
    Number(TenantId),
    /// Row-level security, forced, with one policy on the transaction's setting.
    Policy,
}

/// The schema of a tenant's own house, and the database where it has one of its own: from its opaque id, never from a name
/// that somebody chose.
pub(crate) fn own_name(tenant: TenantId) -> String {
    format!("t_{}", tenant.uuid().simple())
}

/// The schema of a shared house.
///
/// `number`: counted from 1 in each database.
pub(super) fn pooled_name(number: i64) -> String {
    format!("pooled_{number:02}")
}

/// Creates the schema and lets transactions that have entered use it.
pub(super) async fn create(connection: &mut PgConnection, schema: &str) -> Result<(), ProvisionError> {
    run(
        connection,
        format!("CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO rowhouse_tenant"),
    )
    .await
}

/// Runs migrations inside the schema, then puts the wall around every table.
pub(super) async fn migrate(
    connection: &mut PgConnection,
    schema: &str,
    wall: Wall,
    migrations: impl Iterator<Item = &'static Migration>,
) -> Result<(), ProvisionError> {
    run(connection, format!("{BOUNDS}; SET LOCAL search_path = {schema}, ext")).await?;
    if wall == Wall::Policy {
        // A constraint that is added, or a backfill that is run, under forced security sees only the rows that the
        // owner may see, which are none, and counts as done.
        for table in tables(connection, schema).await? {
            run(
                connection,
                format!("ALTER TABLE {schema}.{table} NO FORCE ROW LEVEL SECURITY"),
            )
            .await?;
        }
    }
    for migration in migrations {
        sqlx::raw_sql(migration.sql).execute(&mut *connection).await?;
    }
    let tables = tables(connection, schema).await?;
    match wall {
        Wall::Number(tenant) => number(connection, schema, &tables, tenant).await?,
        Wall::Policy => {
            for table in &tables {
                force(connection, schema, table).await?;
            }
        }
    }
    Ok(())
}

/// Removes the schema and everything in it.
pub(super) async fn drop(connection: &mut PgConnection, schema: &str) -> Result<(), ProvisionError> {
    run(connection, format!("{BOUNDS}; DROP SCHEMA {schema} CASCADE")).await
}

/// Tables of the schema, by name, which are plain.
pub(super) async fn tables(connection: &mut PgConnection, schema: &str) -> Result<Vec<String>, ProvisionError> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_catalog.pg_class
         WHERE relnamespace = to_regnamespace($1) AND relkind IN ('r', 'p')
         ORDER BY relname",
    )
    .bind(schema)
    .fetch_all(connection)
    .await?;
    for table in &tables {
        let plain = table
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        // PostgreSQL cuts names at 63 bytes, and a cut name of a wall would not be found again.
        if !plain || table.len() + HOUSE_WALL.len() > 63 {
            return Err(ProvisionError::Rule(format!("{table} is no name for a table")));
        }
    }
    Ok(tables)
}

/// `CHECK (tenant_id = '<this tenant>')` on each table that has none yet, all in one message: whoever signs up may be
/// waiting. A new table is empty, so this is instant.
async fn number(
    connection: &mut PgConnection,
    schema: &str,
    tables: &[String],
    tenant: TenantId,
) -> Result<(), ProvisionError> {
    let walled: Vec<String> = sqlx::query_scalar(
        "SELECT class.relname::text
         FROM pg_catalog.pg_class AS class
         JOIN pg_catalog.pg_constraint AS wall ON wall.conrelid = class.oid
         WHERE class.relnamespace = to_regnamespace($1) AND wall.contype = 'c' AND wall.conname = class.relname || $2",
    )
    .bind(schema)
    .bind(HOUSE_WALL)
    .fetch_all(&mut *connection)
    .await?;
    let open = tables.iter().filter(|table| !walled.contains(table));
    let checks: Vec<String> = open
        .map(|table| {
            format!(
                "ALTER TABLE {schema}.{table} ADD CONSTRAINT {table}{HOUSE_WALL} CHECK (tenant_id = '{}'::uuid)",
                tenant.uuid()
            )
        })
        .collect();
    run(connection, checks.join(";")).await
}

/// Enables and forces row-level security, with the one policy.
async fn force(connection: &mut PgConnection, schema: &str, table: &str) -> Result<(), ProvisionError> {
    let wall = format!("{table}{HOUSE_WALL}");
    run(
        connection,
        format!(
            "ALTER TABLE {schema}.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
             DROP POLICY IF EXISTS {wall} ON {schema}.{table};
             CREATE POLICY {wall} ON {schema}.{table} USING ({POLICY}) WITH CHECK ({POLICY})"
        ),
    )
    .await
}

/// Runs statements of this file. Whatever is put into them is a uuid, or a name of letters, digits and underscores.
async fn run(connection: &mut PgConnection, sql: String) -> Result<(), ProvisionError> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}
