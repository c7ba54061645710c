//! SQL of spares. Every change of one that is being built names the lease: a process that lost it changes nothing.

use std::time::Duration;

use rowhouse_types::TenantId;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{Spare, Stock};
use crate::error::{Error, Result};

/// How long a spare may be in the hands of one process: what a process that died was building is taken up that much
/// later. Longer than a build is waited for, so it need not be renewed; two that build the same one do no harm.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// How long a spare that is ready is taken to be at the participants' newest versions: what has changed since is noticed that
/// much later. A look is two queries at each participant, and one process after the other has some of them looked at.
const CURRENT: Duration = Duration::from_secs(300);

/// Begins a statement whose commit nobody waits for; it must name `unhurried` in its FROM. A builder would wait for two for each
/// home: the lease's, and the one that offers the home. What a server that falls takes along is built, or looked at, once more,
/// which does no harm: participants have finished a home before it is offered, and answer a repeated call with it. The commit that
/// issues an id is waited for, since homes are built for it elsewhere; and so is that of a sign-up.
macro_rules! unhurried {
    () => {
        "WITH unhurried AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)) "
    };
}

/// Longest error text that is kept, in characters.
const ERROR_CHARS_MAX: usize = 500;

#[derive(sqlx::FromRow)]
struct SpareRow {
    tenant_id: Uuid,
    attempts: i32,
}

/// How many spares there are of a stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Count {
    pub(crate) ready: i64,
    pub(crate) building: i64,
}

/// Issues the ids that a stock lacks. Nothing is locked while it is full.
pub(crate) async fn top_up(pool: &PgPool, stock: &Stock) -> Result<()> {
    let mut connection = pool.acquire().await?;
    let count = count(&mut connection, stock).await?;
    drop(connection);
    if count.ready + count.building >= stock.wanted {
        return Ok(());
    }
    let mut transaction = pool.begin().await?;
    lock(&mut transaction, stock).await?;
    add_missing(&mut transaction, stock).await?;
    transaction.commit().await?;
    Ok(())
}

/// Lets only one process at a time count a stock and add to it: two would add what both of them miss.
pub(super) async fn lock(connection: &mut PgConnection, stock: &Stock) -> Result<()> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('tenant.spares ' || $1 || ' ' || $2, 0))")
        .bind(stock.server.as_str())
        .bind(stock.placement.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Adds a line for each spare that is missing.
pub(super) async fn add_missing(connection: &mut PgConnection, stock: &Stock) -> Result<()> {
    let count = count(connection, stock).await?;
    let missing = stock.wanted - count.ready - count.building;
    let new: Vec<TenantId> = (0..missing).map(|_| TenantId::generate()).collect();
    sqlx::query(
        "INSERT INTO tenant.spares (tenant_id, typed_id, server, placement)
         SELECT new.tenant_id, new.typed_id, $3, $4 FROM unnest($1::uuid[], $2::text[]) AS new (tenant_id, typed_id)",
    )
    .bind(new.iter().map(|id| id.uuid()).collect::<Vec<_>>())
    .bind(new.iter().map(ToString::to_string).collect::<Vec<_>>())
    .bind(stock.server.as_str())
    .bind(stock.placement.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// How many spares there are of a stock.
pub(crate) async fn count(connection: &mut PgConnection, stock: &Stock) -> Result<Count> {
    let count = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE state = 'ready') AS ready, count(*) FILTER (WHERE state = 'building') AS building
         FROM tenant.spares WHERE server = $1 AND placement = $2",
    )
    .bind(stock.server.as_str())
    .bind(stock.placement.as_str())
    .fetch_one(connection)
    .await?;
    Ok(count)
}

/// Takes the lease of a spare that is to be built and that no living process builds.
pub(crate) async fn take(pool: &PgPool, stock: &Stock) -> Result<Option<Spare>> {
    let lease = Uuid::new_v4();
    let row: Option<SpareRow> = sqlx::query_as(concat!(
        unhurried!(),
        ", due AS (
             SELECT tenant_id FROM tenant.spares
             WHERE server = $1 AND placement = $2 AND state = 'building' AND next_at <= now()
                 AND (lease_until IS NULL OR lease_until <= now())
             ORDER BY next_at
             LIMIT 1
             FOR UPDATE SKIP LOCKED
         )
         UPDATE tenant.spares SET lease_id = $3, lease_until = now() + make_interval(secs => $4)
         FROM due, unhurried WHERE spares.tenant_id = due.tenant_id
         RETURNING spares.tenant_id, spares.attempts"
    ))
    .bind(stock.server.as_str())
    .bind(stock.placement.as_str())
    .bind(lease)
    .bind(LEASE.as_secs_f64())
    .fetch_optional(pool)
    .await?;
    row.map(|row| {
        Ok(Spare {
            tenant: TenantId::from_uuid(row.tenant_id),
            lease,
            server: stock.server.clone(),
            placement: stock.placement,
            attempts: u32::try_from(row.attempts).map_err(Error::unreadable)?,
        })
    })
    .transpose()
}

/// Whether [`take_ready`] would take one.
pub(crate) async fn is_one_due(pool: &PgPool, stock: &Stock) -> Result<bool> {
    let due = sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT FROM tenant.spares WHERE server = $1 AND placement = $2 AND state = 'ready' AND next_at <= now()
         )",
    )
    .bind(stock.server.as_str())
    .bind(stock.placement.as_str())
    .fetch_one(pool)
    .await?;
    Ok(due)
}

/// Takes a spare that is ready and that nobody has had looked at for as long as it is taken to be current: of several the one
/// that has waited longest. Whatever comes of it, the next look is as much later. It stays on offer meanwhile.
pub(crate) async fn take_ready(pool: &PgPool, stock: &Stock) -> Result<Option<TenantId>> {
    let id: Option<Uuid> = sqlx::query_scalar(concat!(
        unhurried!(),
        ", due AS (
             SELECT tenant_id FROM tenant.spares
             WHERE server = $1 AND placement = $2 AND state = 'ready' AND next_at <= now()
             ORDER BY next_at
             LIMIT 1
             FOR UPDATE SKIP LOCKED
         )
         UPDATE tenant.spares SET next_at = now() + make_interval(secs => $3)
         FROM due, unhurried WHERE spares.tenant_id = due.tenant_id
         RETURNING spares.tenant_id"
    ))
    .bind(stock.server.as_str())
    .bind(stock.placement.as_str())
    .bind(CURRENT.as_secs_f64())
    .fetch_optional(pool)
    .await?;
    Ok(id.map(TenantId::from_uuid))
}

/// Offers a spare to those who sign up; false where the lease is no longer ours.
pub(crate) async fn mark_ready(pool: &PgPool, spare: &Spare) -> Result<bool> {
    let done = sqlx::query(concat!(
        unhurried!(),
        "UPDATE tenant.spares
         SET state = 'ready', attempts = 0, last_error = NULL, lease_id = NULL, lease_until = NULL,
             next_at = now() + make_interval(secs => $3)
         FROM unhurried WHERE tenant_id = $1 AND lease_id = $2"
    ))
    .bind(spare.tenant.uuid())
    .bind(spare.lease)
    .bind(CURRENT.as_secs_f64())
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Records that building failed, and when to try again: between half of `pause` and all of it from now.
pub(crate) async fn postpone(pool: &PgPool, spare: &Spare, error: &str, pause: Duration) -> Result<()> {
    let error: String = error.chars().filter(|c| *c != '\0').take(ERROR_CHARS_MAX).collect();
    sqlx::query(
        "UPDATE tenant.spares
         SET attempts = attempts + 1, last_error = $3, lease_id = NULL, lease_until = NULL,
             next_at = now() + make_interval(secs => $4 * (0.5 + random() / 2))
         WHERE tenant_id = $1 AND lease_id = $2",
    )
    .bind(spare.tenant.uuid())
    .bind(spare.lease)
    .bind(error)
    .bind(pause.as_secs_f64())
    .execute(pool)
    .await?;
    Ok(())
}

/// Gives the lease back, so that another process may go on at once.
pub(crate) async fn release(pool: &PgPool, spare: &Spare) -> Result<()> {
    sqlx::query("UPDATE tenant.spares SET lease_id = NULL, lease_until = NULL WHERE tenant_id = $1 AND lease_id = $2")
        .bind(spare.tenant.uuid())
        .bind(spare.lease)
        .execute(pool)
        .await?;
    Ok(())
}
