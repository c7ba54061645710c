//! SQL of the audit log.

use rowhouse_context::Ctx;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Entry;
use crate::error::Result;

const INSERT: &str = "INSERT INTO worker.audit \
    (id, tenant_id, actor, on_behalf_of, action, target, after, reason, address, request_id, outcome) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

/// Records what the call or job of `ctx` has done.
pub(crate) async fn record(connection: &mut PgConnection, ctx: &Ctx, entry: &Entry) -> Result<()> {
    sqlx::query(INSERT)
        .bind(Uuid::now_v7())
        .bind(ctx.tenant_opt().map(|tenant| tenant.uuid()))
        .bind(ctx.principal().actor())
        .bind(ctx.principal().on_behalf_of())
        .bind(entry.action)
        .bind(&entry.target)
        .bind(&entry.after)
        .bind(ctx.reason())
        .bind(ctx.address())
        .bind(ctx.request_id().as_str())
        .bind(entry.outcome)
        .execute(connection)
        .await?;
    Ok(())
}
