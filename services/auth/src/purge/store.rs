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

#[derive(sqlx::FromRow)]
struct PurgeRow {
    removed: Json<BTreeMap<String, i64>>,
    done: bool,
    ended: bool,
}

/// Removes at most `rows_max` rows; also whether this was the call that removed the last.
pub(super) async fn purge(
    conn: &mut PgConnection,
    tenant: TenantId,
    operation: OperationId,
    rows_max: i64,
) -> Result<(Purged, bool), Error> {
    let row = sqlx::query_as::<_, PurgeRow>(PURGE)
        .bind(tenant.uuid())
        .bind(operation.uuid())
        .bind(rows_max)
        .fetch_one(conn)
        .await
        .map_err(refused)?;
    let removed = row.removed.0.into_iter().collect();
    let purged = Purged {
        removed,
        done: row.done,
    };
    Ok((purged, row.ended))
}

fn refused(error: sqlx::Error) -> Error {
    let constraint = error.as_database_error().and_then(|fault| fault.constraint());
    match constraint {
        Some("purges_suspended") => Error::TenantOpen,
        _ => error.into(),
    }
}
