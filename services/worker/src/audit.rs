//! The record of every change, written in the change's own transaction.
//!
//! Entries hold ids, kinds and states; never a secret, an address or a cell of a report.

use rowhouse_audit::Table;
use rowhouse_context::{Ctx, ServiceName};
use serde_json::Value;
use sqlx::PgConnection;

use crate::error::Result;

/// Where the log stands.
pub(crate) const TABLE: Table = Table {
    service: ServiceName::Worker,
    schema: "worker",
    id: "id",
};

/// What was done.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Such as `report.run`.
    pub(crate) action: &'static str,
    /// Id of what it was done to.
    pub(crate) target: String,
    pub(crate) after: Value,
    /// `done` or `failed`.
    pub(crate) outcome: &'static str,
}

/// Records what the call or job of `ctx` has done.
pub(crate) async fn record(connection: &mut PgConnection, ctx: &Ctx, entry: &Entry) -> Result<()> {
    let done = rowhouse_audit::Entry {
        // The end of a tenant is ordered by a service, whose call is for none.
        tenant: entry.target.parse().ok().or(ctx.tenant_opt()),
        after: Some(entry.after.clone()),
        outcome: entry.outcome.to_owned(),
        ..rowhouse_audit::Entry::done(TABLE.service, ctx, entry.action, &entry.target)
    };
    Ok(TABLE.record(connection, &done).await?)
}
