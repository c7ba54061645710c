//! SQL of purges.

use chrono::{DateTime, Utc};
use rowhouse_types::{OperationId, TenantId};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};

use super::{Purge, Removal};
use crate::error::Result;

#[derive(sqlx::FromRow)]
struct PurgeRow {
    actor: String,
    reason: String,
    removed: Json<Vec<Removal>>,
    began_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
}

/// Begins the record of a purge.
pub(crate) async fn begin(
    connection: &mut PgConnection,
    tenant: TenantId,
    operation: OperationId,
    actor: &str,
    reason: &str,
) -> Result<()> {
    sqlx::query("INSERT INTO tenant.purges (tenant_id, operation_id, actor, reason) VALUES ($1, $2, $3, $4)")
        .bind(tenant.uuid())
        .bind(operation.uuid())
        .bind(actor)
        .bind(reason)
        .execute(connection)
        .await?;
    Ok(())
}

/// Adds to the record what a step has removed.
pub(crate) async fn add(connection: &mut PgConnection, tenant: TenantId, removed: &[Removal]) -> Result<()> {
    sqlx::query("UPDATE tenant.purges SET removed = removed || $2 WHERE tenant_id = $1")
        .bind(tenant.uuid())
        .bind(Json(removed))
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends the record.
pub(crate) async fn finish(connection: &mut PgConnection, tenant: TenantId) -> Result<()> {
    sqlx::query("UPDATE tenant.purges SET finished_at = now() WHERE tenant_id = $1")
        .bind(tenant.uuid())
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes from the directory the homes that were dropped; answers whose they were.
pub(crate) async fn forget_homes(connection: &mut PgConnection, tenant: TenantId) -> Result<Vec<Removal>> {
    let participants: Vec<String> =
        sqlx::query_scalar("DELETE FROM tenant.homes WHERE tenant_id = $1 RETURNING participant")
            .bind(tenant.uuid())
            .fetch_all(connection)
            .await?;
    let removal = |holder| Removal {
        holder,
        kind: "homes".to_owned(),
        count: 1,
    };
    Ok(participants.into_iter().map(removal).collect())
}

/// The purge of a tenant; `None` where none was begun.
pub(crate) async fn get(pool: &PgPool, tenant: TenantId) -> Result<Option<Purge>> {
    let row: Option<PurgeRow> =
        sqlx::query_as("SELECT actor, reason, removed, began_at, finished_at FROM tenant.purges WHERE tenant_id = $1")
            .bind(tenant.uuid())
            .fetch_optional(pool)
            .await?;
    Ok(row.map(|row| Purge {
        tenant,
        actor: row.actor,
        reason: row.reason,
        removed: row.removed.0,
        began_at: row.began_at,
        finished_at: row.finished_at,
    }))
}
