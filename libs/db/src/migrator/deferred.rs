//! What is done to filled tables while their readers and writers go on: indexes built CONCURRENTLY, constraints validated.
//!
//! Outside any transaction, on a session of its own that holds two locks: one of the few places that a database has for
//! such work, and the house's. Both end with the session, whatever ends it.

use std::time::Duration;

use rowhouse_types::Placement;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

use super::registry::House;
use super::{Deferred, Migration, ProvisionError, house, ledger};

/// Houses of a database whose deferred steps are done at once. Each reads whole tables, and waits for the transactions that
/// were there before it.
const AT_ONCE: i32 = 2;

/// Does the deferred steps of these migrations; false where others have the places or the house, or have done them, and
/// nothing was done.
///
/// `lock_timeout`: longest wait for a lock, and for a transaction that was there before.
pub(super) async fn run(
    options: &PgConnectOptions,
    house: &House,
    migrations: impl Iterator<Item = &'static Migration>,
    lock_timeout: Duration,
) -> Result<bool, ProvisionError> {
    let options = options.clone();
    let options = options.options([("lock_timeout", lock_timeout.as_millis().max(1).to_string())]);
    let mut connection = options.connect().await?;
    let done = steps(&mut connection, house, migrations).await;
    // With the session go its locks.
    connection.close().await?;
    done
}

async fn steps(
    connection: &mut PgConnection,
    house: &House,
    migrations: impl Iterator<Item = &'static Migration>,
) -> Result<bool, ProvisionError> {
    if !lock(connection, house).await? {
        return Ok(false);
    }
    // Another may have done them between our look at the ledger and the lock.
    if ledger::deferred_version(connection, house.house_id).await? != Some(house.deferred_version) {
        return Ok(false);
    }
    for migration in migrations.filter(|migration| !migration.deferred.is_empty()) {
        for step in migration.deferred {
            apply(connection, house, step).await?;
        }
        ledger::set_deferred_version(connection, house.house_id, migration.version).await?;
    }
    ledger::forget_fault(connection, house.house_id).await?;
    tracing::info!(house = house.schema, "a house's deferred steps are done");
    Ok(true)
}

async fn lock(connection: &mut PgConnection, house: &House) -> Result<bool, ProvisionError> {
    let own = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1::text, 4664))")
        .bind(house.house_id.to_string())
        .fetch_one(&mut *connection);
    if !own.await? {
        return Ok(false);
    }
    for place in 0..AT_ONCE {
        let place = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended('deferred', 4665 + $1))")
            .bind(place)
            .fetch_one(&mut *connection);
        if place.await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Does one step, where it is not done yet.
async fn apply(connection: &mut PgConnection, at: &House, step: &Deferred) -> Result<(), ProvisionError> {
    let schema = at.schema.as_str();
    match step {
        Deferred::Index { name, .. } => match index_is_valid(connection, schema, name).await? {
            Some(true) => Ok(()),
            found => {
                if found.is_some() {
                    // What an attempt that was cut short has left: kept up to date by every write, used by no reader.
                    house::run(connection, format!("DROP INDEX CONCURRENTLY {schema}.{name}")).await?;
                }
                house::run(connection, house::index(schema, step, "CONCURRENTLY")).await
            }
        },
        Deferred::Validate { table, constraint } if at.placement == Placement::Shared => {
            house::validate_shared(connection, schema, table, constraint).await
        }
        Deferred::Validate { table, constraint } => {
            house::run(connection, house::validation(schema, table, constraint)).await
        }
    }
}

/// Whether the house's index can be used; `None` where there is no such index.
async fn index_is_valid(
    connection: &mut PgConnection,
    schema: &str,
    name: &str,
) -> Result<Option<bool>, ProvisionError> {
    let valid = sqlx::query_scalar(
        "SELECT indisvalid FROM pg_catalog.pg_index
         WHERE indexrelid = (SELECT oid FROM pg_catalog.pg_class
             WHERE relnamespace = to_regnamespace($1) AND relname = $2 AND relkind = 'i')",
    )
    .bind(schema)
    .bind(name)
    .fetch_optional(connection)
    .await?;
    Ok(valid)
}
