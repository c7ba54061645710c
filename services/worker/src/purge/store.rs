//! SQL of the purge.

use std::collections::BTreeMap;

use rowhouse_types::{OperationId, TenantId};
use sqlx::PgConnection;
use sqlx::types::Json;

use super::Purged;
use crate::error::Result;

const PURGE: &str = "SELECT removed, done, ended FROM worker.purge_tenant($1, $2, $3)";

/// Until the transaction ends, the tenant's purge does not begin.
const HOLD_OFF: &str = "SELECT pg_advisory_xact_lock_shared(hashtextextended($1::text, 4802))";

const IS_PURGED: &str = "SELECT EXISTS (SELECT FROM worker.purges WHERE tenant_id = $1)";

/// Those of the above that do nothing when they are explained.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[PURGE, HOLD_OFF, IS_PURGED];

/// Removes at most `rows_max` rows; also whether this was the call that removed the last.
pub(super) async fn purge(
    connection: &mut PgConnection,
    tenant: TenantId,
    operation: OperationId,
    rows_max: i64,
) -> Result<(Purged, bool)> {
    let (Json(removed), done, ended): (Json<BTreeMap<String, i64>>, bool, bool) = sqlx::query_as(PURGE)
        .bind(tenant.uuid())
        .bind(operation.uuid())
        .bind(rows_max)
        .fetch_one(connection)
        .await?;
    let removed = removed.into_iter().collect();
    Ok((Purged { removed, done }, ended))
}

/// Whether the tenant takes new rows; it stays so until the transaction ends.
pub(crate) async fn admits(connection: &mut PgConnection, tenant: TenantId) -> Result<bool> {
    sqlx::query(HOLD_OFF)
        .bind(tenant.uuid())
        .execute(&mut *connection)
        .await?;
    // After the lock: what a purge has committed meanwhile is seen.
    let purged: bool = sqlx::query_scalar(IS_PURGED)
        .bind(tenant.uuid())
        .fetch_one(connection)
        .await?;
    Ok(!purged)
}
