//! The DDL of a house: schema, tables, the wall between tenants, rights.
//!
//! In placement `schema` a house is one tenant's, and its wall is the number on the door. In `shared` many tenants share
//! it, and its wall is the policy of row-level security.

use std::time::Duration;

use rowhouse_types::TenantId;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{Deferred, Migration, ProvisionError, registry};
use crate::error::HOUSE_WALL;

/// Longest wait for a lock, a table's or a tenant's: whoever wants the same waits behind us.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

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
///
/// `lock_timeout`: longest wait for a lock.
pub(super) async fn migrate(
    connection: &mut PgConnection,
    schema: &str,
    wall: Wall,
    lock_timeout: Duration,
    migrations: impl Iterator<Item = &'static Migration>,
) -> Result<(), ProvisionError> {
    let bounds = bounds(lock_timeout);
    run(connection, format!("{bounds}; SET LOCAL search_path = {schema}, ext")).await?;
    if wall == Wall::Policy {
        unforce(connection, schema).await?;
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

/// Does the deferred steps of migrations in a house that nobody uses yet.
pub(super) async fn finish(
    connection: &mut PgConnection,
    schema: &str,
    migrations: impl Iterator<Item = &'static Migration>,
) -> Result<(), ProvisionError> {
    for step in migrations.flat_map(|migration| migration.deferred) {
        let sql = match step {
            Deferred::Index { .. } => index(schema, step, ""),
            Deferred::Validate { table, constraint } => validation(schema, table, constraint),
        };
        run(connection, sql).await?;
    }
    Ok(())
}

/// Validates a constraint of a shared house. The owner is bound by the policy too: a foreign key that is checked under
/// forced security is checked against no row.
pub(super) async fn validate_shared(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
    constraint: &str,
) -> Result<(), ProvisionError> {
    let mut tx = connection.begin().await?;
    unforce(&mut tx, schema).await?;
    run(&mut tx, validation(schema, table, constraint)).await?;
    for table in tables(&mut tx, schema).await? {
        run(
            &mut tx,
            format!("ALTER TABLE {schema}.{table} FORCE ROW LEVEL SECURITY"),
        )
        .await?;
    }
    tx.commit().await?;
    Ok(())
}

/// The statement that validates a constraint.
pub(super) fn validation(schema: &str, table: &str, constraint: &str) -> String {
    format!("ALTER TABLE {schema}.{table} VALIDATE CONSTRAINT {constraint}")
}

/// The statement that builds an index; empty for another step.
///
/// `how`: `CONCURRENTLY`, or nothing.
pub(super) fn index(schema: &str, step: &Deferred, how: &str) -> String {
    let Deferred::Index {
        name,
        table,
        definition,
        unique,
    } = step
    else {
        return String::new();
    };
    let kind = if *unique { "UNIQUE INDEX" } else { "INDEX" };
    format!("CREATE {kind} {how} {name} ON {schema}.{table} {definition}")
}

/// Drops up to `tables_max` of the schema's tables, leaves before the tables that they are partitions of, and answers how
/// many. Each one locks itself, its indexes and its TOAST table until the transaction ends, and the lock table is shared by
/// the whole server: thousands of tables in one transaction end in "out of shared memory" for everybody.
pub(super) async fn drop_tables(
    connection: &mut PgConnection,
    schema: &str,
    tables_max: i64,
) -> Result<usize, ProvisionError> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', $1, relname)
         FROM pg_catalog.pg_class
         WHERE relnamespace = to_regnamespace($1) AND relkind IN ('r', 'p')
         ORDER BY relkind = 'p', relname
         LIMIT $2",
    )
    .bind(schema)
    .bind(tables_max)
    .fetch_all(&mut *connection)
    .await?;
    if !tables.is_empty() {
        let bounds = bounds(LOCK_TIMEOUT);
        run(
            connection,
            format!("{bounds}; DROP TABLE {} CASCADE", tables.join(", ")),
        )
        .await?;
    }
    Ok(tables.len())
}

/// Removes the schema and everything in it.
pub(super) async fn drop(connection: &mut PgConnection, schema: &str) -> Result<(), ProvisionError> {
    let bounds = bounds(LOCK_TIMEOUT);
    run(connection, format!("{bounds}; DROP SCHEMA {schema} CASCADE")).await
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

fn bounds(lock_timeout: Duration) -> String {
    format!("SET LOCAL lock_timeout = {}", lock_timeout.as_millis().max(1))
}

/// Lets the owner see the rows of a shared house: a constraint that is added, or a backfill that is run, under forced
/// security sees only the rows that the owner may see, which are none, and counts as done.
///
/// That takes every table from everybody, one after the other. A transaction that has one of them and wants another that is taken
/// would stand in our way and we in its own, and a member's call might be the one that PostgreSQL ends. So nobody is in the house
/// then: whoever has entered is waited for, and whoever enters waits, as when a home is frozen; a migration that has
/// waited for as long as its bound gives up. These are 1,000 locks at most (`SHARED_HOMES_MAX`) of the 6,400 that a server with
/// PostgreSQL's defaults has places for: one shared house of a database is emptied at a time.
///
/// Except for a tenant who signs up meanwhile and gets a place in the house: its home is not there yet when the others are locked.
/// Its first calls may have to wait for the migration's tables, or one of them be what PostgreSQL ends. Were the house kept from
/// being chosen, a sign-up would wait for a whole migration, or build one more house.
async fn unforce(connection: &mut PgConnection, schema: &str) -> Result<(), ProvisionError> {
    registry::lock_tenants_in(connection, schema).await?;
    for table in tables(connection, schema).await? {
        run(
            connection,
            format!("ALTER TABLE {schema}.{table} NO FORCE ROW LEVEL SECURITY"),
        )
        .await?;
    }
    Ok(())
}

/// Has this transaction see the house as one that has entered for the tenant does, with the owner's rights.
pub(super) async fn look_into(
    connection: &mut PgConnection,
    schema: &str,
    tenant: TenantId,
) -> Result<(), ProvisionError> {
    let tenant = tenant.uuid();
    run(
        connection,
        format!("SET LOCAL search_path = {schema}, ext, pg_temp; SET LOCAL rowhouse.tenant_id = '{tenant}'"),
    )
    .await
}

/// Runs statements of this room. Whatever is put into them is a uuid, or a name of letters, digits and underscores.
pub(super) async fn run(connection: &mut PgConnection, sql: String) -> Result<(), ProvisionError> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}
