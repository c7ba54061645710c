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

/// The tables of the schema `$1`, partitions too, as `entry`. By what depends on the schema, for which `pg_depend` has an index:
/// `pg_class` has none that begins with the schema, and what is looked for there costs more the more homes there are.
macro_rules! tables_of_schema {
    () => {
        "(SELECT class.oid, class.relname::text AS name, class.relkind = 'p' AS is_partitioned
          FROM pg_catalog.pg_depend AS inside
          JOIN pg_catalog.pg_class AS class ON class.oid = inside.objid AND class.relkind IN ('r', 'p')
          WHERE inside.refclassid = 'pg_catalog.pg_namespace'::regclass AND inside.refobjid = to_regnamespace($1)
              AND inside.classid = 'pg_catalog.pg_class'::regclass) AS entry"
    };
}
pub(super) use tables_of_schema;

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

/// Builds a house: the schema, which transactions that have entered may use, its tables, and the wall around each. Whoever signs
/// up may be waiting for every one of its round trips, so there are three.
///
/// `finished`: migrations whose deferred steps are done at once: nobody is there yet whom they could keep waiting.
pub(super) async fn build(
    connection: &mut PgConnection,
    schema: &str,
    wall: Wall,
    migrations: impl Iterator<Item = &'static Migration>,
    finished: impl Iterator<Item = &'static Migration>,
) -> Result<(), ProvisionError> {
    let steps: Vec<String> = finished
        .flat_map(|migration| migration.deferred)
        .map(|step| match step {
            Deferred::Index { .. } => index(schema, step, ""),
            Deferred::Validate { table, constraint } => validation(schema, table, constraint),
        })
        .collect();
    run(
        connection,
        format!(
            "CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO rowhouse_tenant; {} {}",
            script(schema, LOCK_TIMEOUT, migrations),
            steps.join("; ")
        ),
    )
    .await?;
    let tables = tables(connection, schema).await?;
    enclose(connection, schema, wall, &tables).await
}

/// Runs migrations inside the schema, then puts the wall around every table: the number where it is missing, the policy anew.
///
/// `lock_timeout`: longest wait for a lock.
pub(super) async fn migrate(
    connection: &mut PgConnection,
    schema: &str,
    wall: Wall,
    lock_timeout: Duration,
    migrations: impl Iterator<Item = &'static Migration>,
) -> Result<(), ProvisionError> {
    if wall == Wall::Policy {
        run(connection, bounds(lock_timeout)).await?;
        unforce(connection, schema).await?;
    }
    run(connection, script(schema, lock_timeout, migrations)).await?;
    let mut tables = tables(connection, schema).await?;
    if let Wall::Number(_) = wall {
        let numbered = numbered(connection, schema).await?;
        tables.retain(|table| !numbered.contains(table));
    }
    enclose(connection, schema, wall, &tables).await
}

/// Migrations as one message.
fn script(schema: &str, lock_timeout: Duration, migrations: impl Iterator<Item = &'static Migration>) -> String {
    let mut script = format!("{}; SET LOCAL search_path = {schema}, ext;\n", bounds(lock_timeout));
    for migration in migrations {
        script.push_str(migration.sql);
        // It may end in a comment, and its last statement without a semicolon.
        script.push_str("\n;\n");
    }
    script
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
    alter_each(&mut tx, schema, "FORCE ROW LEVEL SECURITY").await?;
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
    let tables: Vec<String> = sqlx::query_scalar(concat!(
        "SELECT format('%I.%I', $1, entry.name) FROM ",
        tables_of_schema!(),
        " ORDER BY entry.is_partitioned, entry.name LIMIT $2"
    ))
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
    let tables: Vec<String> = sqlx::query_scalar(concat!(
        "SELECT entry.name FROM ",
        tables_of_schema!(),
        " ORDER BY entry.name"
    ))
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

/// Puts the wall around these tables, all in one message.
async fn enclose(
    connection: &mut PgConnection,
    schema: &str,
    wall: Wall,
    tables: &[String],
) -> Result<(), ProvisionError> {
    if tables.is_empty() {
        return Ok(());
    }
    let walls = tables.iter().map(|table| match wall {
        Wall::Number(tenant) => number(schema, table, tenant),
        Wall::Policy => force(schema, table),
    });
    run(connection, walls.collect::<Vec<_>>().join("; ")).await
}

/// Tables that have the house's number on them.
async fn numbered(connection: &mut PgConnection, schema: &str) -> Result<Vec<String>, ProvisionError> {
    let walled = sqlx::query_scalar(concat!(
        "SELECT entry.name FROM ",
        tables_of_schema!(),
        " JOIN pg_catalog.pg_constraint AS wall ON wall.conrelid = entry.oid
          WHERE wall.contype = 'c' AND wall.conname = entry.name || $2"
    ))
    .bind(schema)
    .bind(HOUSE_WALL)
    .fetch_all(connection)
    .await?;
    Ok(walled)
}

/// `CHECK (tenant_id = '<this tenant>')`. A new table is empty, so this is instant.
fn number(schema: &str, table: &str, tenant: TenantId) -> String {
    format!(
        "ALTER TABLE {schema}.{table} ADD CONSTRAINT {table}{HOUSE_WALL} CHECK (tenant_id = '{}'::uuid)",
        tenant.uuid()
    )
}

/// Enables and forces row-level security, with the one policy.
fn force(schema: &str, table: &str) -> String {
    let wall = format!("{table}{HOUSE_WALL}");
    format!(
        "ALTER TABLE {schema}.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
         DROP POLICY IF EXISTS {wall} ON {schema}.{table};
         CREATE POLICY {wall} ON {schema}.{table} USING ({POLICY}) WITH CHECK ({POLICY})"
    )
}

/// Changes every table of the schema, in the order of their names.
async fn alter_each(connection: &mut PgConnection, schema: &str, change: &str) -> Result<(), ProvisionError> {
    let tables = tables(connection, schema).await?;
    let changes = tables
        .iter()
        .map(|table| format!("ALTER TABLE {schema}.{table} {change}"));
    run(connection, changes.collect::<Vec<_>>().join("; ")).await
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
    alter_each(connection, schema, "NO FORCE ROW LEVEL SECURITY").await
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

/// Runs statements of this room. Whatever is put into them is a migration's text, a uuid, or a name of letters, digits and
/// underscores.
pub(super) async fn run(connection: &mut PgConnection, sql: String) -> Result<(), ProvisionError> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}
