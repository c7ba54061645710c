//! The end of a tenant: what auth keeps of it is removed, some rows at a time, and never comes back.
//!
//! A function of the database does it, and only for a tenant that is suspended: this service's own login may delete nobody's
//! account. Audit entries stay; they hold ids.

mod rpc;
mod store;

#[cfg(test)]
mod tests;

use rowhouse_context::Ctx;
use rowhouse_types::{OperationId, TenantId};
use serde_json::json;

use crate::audit::{self, Entry};
use crate::error::Error;
use crate::state::State;

pub(crate) use rpc::RecordsRpc;
#[cfg(test)]
pub(crate) use store::STATEMENTS;

/// Rows that one transaction removes; of members a tenth as many, for what goes with an account. Nobody logs in or joins anywhere
/// else meanwhile who needs one of them.
const ROWS_MAX: i64 = 1_000;

/// How far the purge of a tenant is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Purged {
    /// How many rows of each kind, by this call and by those before.
    pub(crate) removed: Vec<(String, i64)>,
    /// Whether nothing is left.
    pub(crate) done: bool,
}

/// Removes at most [`ROWS_MAX`] rows of a suspended tenant. A repeated call goes on, or answers what was removed.
pub(crate) async fn purge(ctx: &Ctx, state: &State, tenant: TenantId, operation: OperationId) -> Result<Purged, Error> {
    purge_some(ctx, state, tenant, operation, ROWS_MAX).await
}

async fn purge_some(
    ctx: &Ctx,
    state: &State,
    tenant: TenantId,
    operation: OperationId,
    rows_max: i64,
) -> Result<Purged, Error> {
    let mut tx = state.begin().await?;
    let (purged, ended) = store::purge(&mut tx, tenant, operation, rows_max).await?;
    if ended {
        let entry = Entry::new("tenant.purge", tenant)
            .within(Some(tenant))
            .after(json!({ "operation": operation.to_string() }));
        audit::record(&mut tx, ctx, entry).await?;
    }
    tx.commit().await?;
    Ok(purged)
}
