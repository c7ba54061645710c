//! The audit logs that are told of a change of an account: those of the tenants whose member its person is, which all let them in
//! by it, and the platform's where it is an operator's or nobody's member. No tenant is told of another: neither of its sessions,
//! nor from where somebody acts in it.

use std::collections::BTreeMap;

use rowhouse_context::Ctx;
use rowhouse_types::{TenantId, UserId};
use serde_json::json;
use sqlx::PgConnection;

use crate::audit::{self, Entry};
use crate::error::Error;
use crate::member;
use crate::session::Ended;
use crate::session::ended::{counted, impersonations};

/// What was done to an account.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    action: &'static str,
    user: UserId,
    /// The sessions that have ended with it, where it is a change that ends any.
    ended: Option<&'a [Ended]>,
}

// === impl Change ===

impl<'a> Change<'a> {
    /// A change of the account of `user`. `action`: such as `email.change`.
    pub(crate) fn new(action: &'static str, user: UserId) -> Self {
        let ended = None;
        Self { action, user, ended }
    }

    /// With the sessions that have ended.
    pub(crate) fn ending(self, ended: &'a [Ended]) -> Self {
        let ended = Some(ended);
        Self { ended, ..self }
    }

    /// Whose logs are told, and how many sessions have ended there. The caller's tenant is among them, in however many they are.
    async fn logs(&self, conn: &mut PgConnection, ctx: &Ctx) -> Result<BTreeMap<Option<TenantId>, u64>, Error> {
        let logs = member::logs_of(conn, self.user).await?;
        let logs = logs.into_iter().chain(ctx.tenant_opt().map(Some));
        let mut logs: BTreeMap<Option<TenantId>, u64> = logs.map(|log| (log, 0)).collect();
        logs.extend(counted(self.ended.unwrap_or_default()));
        if logs.is_empty() {
            logs.insert(None, 0);
        }
        Ok(logs)
    }

    /// What they are told, each of its own; and those in which operators acted as the person, that they do no more.
    fn entries(&self, ctx: &Ctx, logs: BTreeMap<Option<TenantId>, u64>) -> Vec<Entry> {
        let told = logs.into_iter().map(|(log, sessions)| {
            let entry = Entry::new(self.action, self.user).within(log).done_by(ctx, self.user);
            match self.ended {
                Some(_) => entry.after(json!({ "sessions_ended": sessions })),
                None => entry,
            }
        });
        let impersonations = impersonations(ctx, self.ended.unwrap_or_default());
        told.chain(impersonations).collect()
    }
}

/// Tells them of a change, in its transaction and by one statement.
pub(crate) async fn tell(conn: &mut PgConnection, ctx: &Ctx, change: &Change<'_>) -> Result<(), Error> {
    let logs = change.logs(conn, ctx).await?;
    audit::record_all(conn, ctx, change.entries(ctx, logs)).await
}

/// The same of what somebody does on the platform, whose log has `platform`: why it was done is nobody else's matter.
pub(crate) async fn tell_beside(
    conn: &mut PgConnection,
    ctx: &Ctx,
    change: &Change<'_>,
    platform: Entry,
) -> Result<(), Error> {
    let mut logs = change.logs(conn, ctx).await?;
    logs.remove(&None);
    let mut entries = change.entries(ctx, logs);
    entries.push(platform);
    audit::record_all(conn, ctx, entries).await
}
