//! The end of a tenant: its reports with their files, mails and events are removed, some rows at a time.
//!
//! Messages that still lie in queues name a report that is not there, and are done with when they are reached. Audit entries
//! stay; they hold ids.

mod rpc;
pub(crate) mod store;

#[cfg(test)]
mod tests;

use rowhouse_context::Ctx;
use rowhouse_types::{OperationId, TenantId};
use serde_json::json;
use sqlx::PgPool;

use crate::audit::{self, Entry};
use crate::error::Result;
use crate::files::Files;

pub(crate) use rpc::RecordsRpc;

/// Rows that one transaction removes.
const ROWS_MAX: i64 = 1_000;

/// How far the purge of a tenant is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Purged {
    /// How many of each kind, by this call and by those before.
    pub(crate) removed: Vec<(String, i64)>,
    /// Whether nothing is left.
    pub(crate) done: bool,
}

/// Removes tenants' records. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    pool: PgPool,
    files: Files,
}

// === impl Records ===

impl Records {
    pub(crate) fn new(pool: PgPool, files: Files) -> Self {
        Self { pool, files }
    }

    /// Removes at most [`ROWS_MAX`] rows of a tenant, and the files when no row is left. A repeated call goes on, or answers
    /// what was removed.
    pub(crate) async fn purge(&self, ctx: &Ctx, tenant: TenantId, operation: OperationId) -> Result<Purged> {
        let mut transaction = self.pool.begin().await?;
        let (purged, ended) = store::purge(&mut transaction, tenant, operation, ROWS_MAX).await?;
        if ended {
            let entry = Entry {
                action: "tenant.purge",
                target: tenant.to_string(),
                after: json!({ "operation": operation }),
                outcome: "done",
            };
            audit::record(&mut transaction, ctx, &entry).await?;
        }
        transaction.commit().await?;
        if purged.done {
            // After the rows: an attempt that is at work finds its report gone when it ends, and removes what it wrote.
            self.files.discard_all(tenant).await?;
        }
        Ok(purged)
    }
}
