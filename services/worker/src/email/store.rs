//! SQL of mails.

use rowhouse_mq::Delivery;
use rowhouse_types::TenantId;
use sqlx::{PgConnection, PgPool};

use crate::error::Result;

/// A tenant that was purged is not named any more; its mail finds no recipient.
const OPEN: &str = "INSERT INTO worker.mails (message_id, tenant_id, kind) \
    VALUES ($1, CASE WHEN NOT EXISTS (SELECT FROM worker.purges WHERE tenant_id = $2) THEN $2::uuid END, $3) \
    ON CONFLICT (message_id) DO NOTHING";

/// Whoever holds the row sends the mail. It is let go at once when that process dies, as no lease in a column would be.
const HOLD: &str = "UPDATE worker.mails SET attempts = attempts + 1, updated_at = now() WHERE message_id = \
    (SELECT message_id FROM worker.mails WHERE message_id = $1 AND state = 'open' FOR UPDATE SKIP LOCKED)";

const CLOSE: &str = "UPDATE worker.mails SET state = $2, updated_at = now() WHERE message_id = $1 AND state = 'open'";

const IS_CLOSED: &str = "SELECT EXISTS (SELECT FROM worker.mails WHERE message_id = $1 AND state <> 'open')";

const PRUNE: &str = "DELETE FROM worker.mails WHERE message_id IN \
    (SELECT message_id FROM worker.mails WHERE state <> 'open' AND updated_at < now() - interval '90 days' LIMIT 1000)";

const WITHIN_A_DAY: &str = "SELECT count(*) FROM worker.mails \
    WHERE tenant_id = $1 AND state <> 'void' AND created_at > now() - interval '24 hours'";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[OPEN, HOLD, CLOSE, IS_CLOSED, PRUNE, WITHIN_A_DAY];

/// Notes that a message asks for a mail, before anything is sent.
pub(crate) async fn open(pool: &PgPool, delivery: &Delivery) -> Result<()> {
    sqlx::query(OPEN)
        .bind(delivery.id)
        .bind(delivery.tenant.map(|tenant| tenant.uuid()))
        .bind(&delivery.kind)
        .execute(pool)
        .await?;
    Ok(())
}

/// Takes an open mail for this transaction; `false` where it is closed or somebody else holds it.
pub(super) async fn hold(connection: &mut PgConnection, delivery: &Delivery) -> Result<bool> {
    let held = sqlx::query(HOLD).bind(delivery.id).execute(connection).await?;
    Ok(held.rows_affected() == 1)
}

/// Closes a mail that this transaction holds. `state`: `sent`, or `void` where nothing was to be sent.
pub(super) async fn close(connection: &mut PgConnection, delivery: &Delivery, state: &'static str) -> Result<()> {
    sqlx::query(CLOSE)
        .bind(delivery.id)
        .bind(state)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether a mail was sent or is not to be sent.
pub(super) async fn is_closed(pool: &PgPool, delivery: &Delivery) -> Result<bool> {
    Ok(sqlx::query_scalar(IS_CLOSED).bind(delivery.id).fetch_one(pool).await?)
}

/// How many mails of a tenant were sent, or are to be, of the last 24 hours.
pub(crate) async fn within_a_day(pool: &PgPool, tenant: TenantId) -> Result<i64> {
    let sent = sqlx::query_scalar(WITHIN_A_DAY).bind(tenant.uuid());
    Ok(sent.fetch_one(pool).await?)
}

/// Forgets mails that were closed long ago.
pub(crate) async fn prune(pool: &PgPool) -> Result<u64> {
    Ok(sqlx::query(PRUNE).execute(pool).await?.rows_affected())
}
