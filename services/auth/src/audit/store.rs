//! SQL of the audit log.

use rowhouse_context::Ctx;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Entry;
use crate::error::Error;

const INSERT: &str = "INSERT INTO auth.audit (id, tenant_id, actor, on_behalf_of, action, target, before, after, \
    reason, address, request_id, outcome) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'done')";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[INSERT];

pub(super) async fn insert(conn: &mut PgConnection, ctx: &Ctx, entry: Entry) -> Result<(), Error> {
    let actor = entry
        .actor
        .map_or_else(|| ctx.principal().actor(), |user| user.to_string());
    sqlx::query(INSERT)
        .bind(Uuid::now_v7())
        .bind(entry.tenant.or(ctx.tenant_opt()).map(|tenant| tenant.uuid()))
        .bind(actor)
        .bind(ctx.principal().on_behalf_of())
        .bind(entry.action)
        .bind(entry.target)
        .bind(entry.before)
        .bind(entry.after)
        .bind(ctx.reason())
        .bind(ctx.address())
        .bind(ctx.request_id().as_str())
        .execute(conn)
        .await?;
    Ok(())
}
