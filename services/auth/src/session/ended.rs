//! Sessions that have ended, and what the audit logs are told of it: each of those that were in its tenant, and of no other's.

mod store;

use std::collections::BTreeMap;

use rowhouse_context::Ctx;
use rowhouse_types::{SessionId, TenantId, UserId};
use serde_json::json;
use sqlx::PgConnection;

use super::EndReason;
use crate::audit::{self, Entry};
use crate::error::Error;
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::end_of_account;
pub(super) use store::{end, end_beyond};

/// A session that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(super) session: SessionId,
    pub(super) user: UserId,
    /// `None` for a platform operator's own.
    pub(super) tenant: Option<TenantId>,
    /// A platform operator had opened it, to act as the person.
    pub(super) impersonated: bool,
}

// === impl Ended ===

impl Ended {
    /// What the log of where it was is told of its end by a call: `action`, or that an operator acts as the member no more.
    pub(super) fn entry(&self, ctx: &Ctx, action: &'static str) -> Entry {
        let entry = if self.impersonated {
            let session = json!({ "session": self.session.to_string() });
            Entry::new("impersonation.end", self.user).after(session)
        } else {
            Entry::new(action, self.session)
        };
        entry.within(self.tenant).done_by(ctx, self.user)
    }
}

/// How many there are of each tenant's and of the platform's, but for those of operators who acted as the person.
pub(crate) fn counted(ended: &[Ended]) -> BTreeMap<Option<TenantId>, u64> {
    let mut counts = BTreeMap::new();
    for ended in ended.iter().filter(|ended| !ended.impersonated) {
        *counts.entry(ended.tenant).or_default() += 1;
    }
    counts
}

/// That operators act as the person no more, each for the log of where they did.
pub(crate) fn impersonations(ctx: &Ctx, ended: &[Ended]) -> Vec<Entry> {
    let impersonated = ended.iter().filter(|ended| ended.impersonated);
    impersonated.map(|ended| ended.entry(ctx, "session.end")).collect()
}

/// Ends all sessions of a member in a tenant. Its log hears of operators who acted as them; of the others, the entry about the
/// member says enough.
pub(crate) async fn end_of_member(
    conn: &mut PgConnection,
    ctx: &Ctx,
    user: UserId,
    tenant: TenantId,
    reason: EndReason,
) -> Result<(), Error> {
    let ended = store::end_of_member(conn, user, tenant, reason).await?;
    audit::record_all(conn, ctx, impersonations(ctx, &ended)).await
}
