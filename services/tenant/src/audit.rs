//! Who changed what, and why, written in the transaction of the change.

#[cfg(test)]
mod tests;

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
    /// Why, where the request has a field for it; else the call's `x-reason` is taken, where the operator has sent one.
    pub(crate) reason: Option<&'a str>,
    /// `done`, or `accepted` where an operation follows: its last record adds `done` (`operation/sql/finish.sql`).
    pub(crate) outcome: &'static str,
}

/// Adds an entry. What is about a tenant stands in that tenant's log, and what operators did in the platform's, so one may stand in
/// both: a tenant that is suspended or gone cannot be asked.
pub(crate) async fn record(connection: &mut PgConnection, ctx: &Ctx, entry: &Entry<'_>) -> Result<()> {
    let of_platform = || rowhouse_audit::Entry {
        tenant: None,
        before: Some(entry.before.clone()).filter(|before| !before.is_null()),
        after: Some(entry.after.clone()).filter(|after| !after.is_null()),
        reason: entry.reason.or(ctx.reason()).map(str::to_owned),
        outcome: entry.outcome.to_owned(),
        ..rowhouse_audit::Entry::done(TABLE.service, ctx, entry.action, entry.target)
    };
    TABLE.record(connection, &of_platform()).await?;
    // Servers, plans and participants have names; whatever has a tenant's id is about that tenant.
    if let Ok(tenant) = entry.target.parse() {
        let of_tenant = rowhouse_audit::Entry {
            tenant: Some(tenant),
            ..of_platform()
        };
        TABLE.record(connection, &of_tenant).await?;
    }
    Ok(())
}
