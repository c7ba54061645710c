//! SQL of the purge.

use std::collections::BTreeMap;

use rowhouse_types::{OperationId, TenantId};
use sqlx::PgConnection;
use sqlx::types::Json;

use super::Purged;
use crate::error::Error;

const PURGE: &str = "SELECT removed, done, ended FROM auth.purge_tenant($1, $2, $3)";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[PURGE];

/// Removes at most `rows_max` rows; also whether this was the call that removed the last.
pub(super) async fn purge(
    conn: &mut PgConnection,
    tenant: TenantId,
    operation: OperationId,
    rows_max: i64,
) -> Result<(Purged, bool), Error> {
    let row: Result<(Json<BTreeMap<String, i64>>, bool, bool), sqlx::Error> = sqlx::query_as(PURGE)
        .bind(tenant.uuid())
        .bind(operation.uuid())
        .bind(rows_max)
        .fetch_one(conn)
        .await;
    let (Json(removed), done, ended) = row.map_err(refused)?;
    let removed = removed.into_iter().collect();
    Ok((Purged { removed, done }, ended))
}

fn refused(error: sqlx::Error) -> Error {
    let constraint = error.as_database_error().and_then(|fault| fault.constraint());
    match constraint {
        Some("purges_suspended") => Error::TenantOpen,
        _ => error.into(),
    }
}
