//! The record of every change, written in the change's own transaction.
//!
//! Entries hold ids, roles and states; never a secret and never a person's address.

mod actions;
pub(crate) mod logs;
pub(crate) mod peer;
pub(crate) mod rpc;
mod wire;

use rowhouse_audit::Table;
use rowhouse_context::{Ctx, Principal, ServiceName};
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
    /// Whose log, where it is not the one of the call's tenant.
    log: Option<Option<TenantId>>,
    /// Where whoever did it is logged in, where they are: the tenant, or none for the platform.
    place: Option<Option<TenantId>>,
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
            log: None,
            place: None,
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

    /// In the log of this tenant, or the platform's, whichever the call is in.
    pub(crate) fn within(mut self, log: Option<TenantId>) -> Self {
        self.log = Some(log);
        self
    }

    /// Done where `place` is, and told elsewhere too. From which address somebody acts, the log of that tenant has and the
    /// platform's; another tenant's has not.
    pub(crate) fn done_in(mut self, place: Option<TenantId>) -> Self {
        self.place = Some(place);
        self
    }

    /// Done by the caller, where they are logged in. Who is logged in nowhere, as whoever follows a link, is `user`: then every log
    /// has the address, as of a log-in that has failed.
    pub(crate) fn done_by(self, ctx: &Ctx, user: UserId) -> Self {
        match ctx.principal() {
            Principal::Anonymous => self.by(user),
            _ => self.done_in(ctx.tenant_opt()),
        }
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

    /// As it stands in its log.
    fn of(self, ctx: &Ctx) -> rowhouse_audit::Entry {
        let mut done = rowhouse_audit::Entry::done(TABLE.service, ctx, self.action, self.target);
        if let Some(actor) = self.actor {
            done.actor = actor.to_string();
        }
        done.tenant = self.log.unwrap_or(done.tenant);
        if done.tenant.is_some() && self.place.is_some_and(|place| place != done.tenant) {
            done.address = None;
        }
        done.reason = self.reason.or(done.reason);
        done.before = self.before;
        done.after = self.after;
        done
    }
}

/// Records what the call has done.
pub(crate) async fn record(conn: &mut PgConnection, ctx: &Ctx, entry: Entry) -> Result<(), Error> {
    record_all(conn, ctx, vec![entry]).await
}

/// Records what the call has done, in one log or in several, by one statement.
pub(crate) async fn record_all(conn: &mut PgConnection, ctx: &Ctx, entries: Vec<Entry>) -> Result<(), Error> {
    let done: Vec<rowhouse_audit::Entry> = entries.into_iter().map(|entry| entry.of(ctx)).collect();
    Ok(TABLE.record_all(conn, &done).await?)
}
