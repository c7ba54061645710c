//! Who changed what, and why, written in the transaction of the change. What is about a tenant stands in its log, the rest
//! in the platform's.

use rowhouse_audit::Table;
use rowhouse_context::{Ctx, ServiceName};
use serde_json::Value;
use sqlx::PgConnection;

use crate::error::Result;

/// Where the log stands.
pub(crate) const TABLE: Table = Table {
    service: ServiceName::Tenant,
    schema: "tenant",
    id: "audit_id",
};

/// One entry.
pub(crate) struct Entry<'a> {
    /// What was done: `tenant.suspend`.
    pub(crate) action: &'static str,
    /// To what: a tenant's id, a server's name.
    pub(crate) target: &'a str,
    pub(crate) before: Value,
    pub(crate) after: Value,
    pub(crate) reason: Option<&'a str>,
    /// `done`, or `accepted` where an operation follows.
    pub(crate) outcome: &'static str,
}

/// Adds an entry.
pub(crate) async fn record(connection: &mut PgConnection, ctx: &Ctx, entry: &Entry<'_>) -> Result<()> {
    let done = rowhouse_audit::Entry {
        // Servers, plans and participants have names; whatever has a tenant's id is about that tenant.
        tenant: entry.target.parse().ok(),
        before: Some(entry.before.clone()).filter(|before| !before.is_null()),
        after: Some(entry.after.clone()).filter(|after| !after.is_null()),
        reason: entry.reason.map(str::to_owned),
        outcome: entry.outcome.to_owned(),
        ..rowhouse_audit::Entry::done(TABLE.service, ctx, entry.action, entry.target)
    };
    Ok(TABLE.record(connection, &done).await?)
}
