//! The record of every change, written in the change's own transaction.
//!
//! Entries hold ids, roles and states; never a secret and never a person's address.

mod actions;
pub(crate) mod logs;
pub(crate) mod peer;
pub(crate) mod rpc;
mod wire;

use rowhouse_audit::Table;
use rowhouse_context::{Ctx, ServiceName};
use rowhouse_types::{TenantId, UserId};
use serde_json::Value;
use sqlx::PgConnection;

use crate::error::Error;

#[cfg(test)]
mod tests;

/// Where the log stands.
pub(crate) const TABLE: Table = Table {
    service: ServiceName::Auth,
    schema: "auth",
    id: "id",
};

/// What was done.
#[derive(Debug)]
pub(crate) struct Entry {
    action: &'static str,
    target: String,
    actor: Option<UserId>,
    tenant: Option<TenantId>,
    reason: Option<String>,
    before: Option<Value>,
    after: Option<Value>,
}

// === impl Entry ===

impl Entry {
    /// An entry about `target`. `action`: such as `member.update`.
    pub(crate) fn new(action: &'static str, target: impl ToString) -> Self {
        Self {
            action,
            target: target.to_string(),
            actor: None,
            tenant: None,
            reason: None,
            before: None,
            after: None,
        }
    }

    /// Who did it, where the call itself was anonymous: a log-in becomes somebody only by succeeding.
    pub(crate) fn by(mut self, actor: UserId) -> Self {
        self.actor = Some(actor);
        self
    }

    /// In which tenant, where the call itself names none.
    pub(crate) fn within(mut self, tenant: Option<TenantId>) -> Self {
        self.tenant = tenant;
        self
    }

    /// Why, where the call itself says so and not its metadata.
    pub(crate) fn because(mut self, reason: &str) -> Self {
        self.reason = Some(reason.to_owned());
        self
    }

    pub(crate) fn before(mut self, value: Value) -> Self {
        self.before = Some(value);
        self
    }

    pub(crate) fn after(mut self, value: Value) -> Self {
        self.after = Some(value);
        self
    }
}

/// Records what the call has done.
pub(crate) async fn record(conn: &mut PgConnection, ctx: &Ctx, entry: Entry) -> Result<(), Error> {
    let mut done = rowhouse_audit::Entry::done(TABLE.service, ctx, entry.action, entry.target);
    if let Some(actor) = entry.actor {
        done.actor = actor.to_string();
    }
    done.tenant = entry.tenant.or(done.tenant);
    done.reason = entry.reason.or(done.reason);
    done.before = entry.before;
    done.after = entry.after;
    Ok(TABLE.record(conn, &done).await?)
}
