//! SQL of the audit log.

use rowhouse_context::Ctx;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Entry;
use crate::error::Result;

/// Adds an entry.
pub(crate) async fn record(connection: &mut PgConnection, ctx: &Ctx, entry: &Entry<'_>) -> Result<()> {
    sqlx::query(
        "INSERT INTO tenant.audit
             (audit_id, actor, on_behalf_of, action, target, before, after, reason, address, request_id, outcome)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(Uuid::now_v7())
    .bind(ctx.principal().actor())
    .bind(ctx.principal().on_behalf_of())
    .bind(entry.action)
    .bind(entry.target)
    .bind(&entry.before)
    .bind(&entry.after)
    .bind(entry.reason)
    .bind(ctx.address())
    .bind(ctx.request_id().as_str())
    .bind(entry.outcome)
    .execute(connection)
    .await?;
    Ok(())
}
