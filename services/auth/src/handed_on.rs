//! What somebody has handed on while they could: API keys that they have made, and invitations that they have sent. It ends when
//! their rights do, and the audit log says what ended: whoever made a key or waits for an invitation finds out by whose end.

use rowhouse_context::Ctx;
use rowhouse_types::{ApiKeyId, Id, InvitationId, TenantId, UserId};
use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::audit::{self, Entry};
use crate::error::Error;
use crate::rights::Subject;
use crate::{invitation, service_account};

/// Ids of a kind that one entry names. A tenant's service accounts have a thousand good keys at most, and those that have expired
/// beside them: an entry stays some kilobytes long, and says how many there were.
const NAMED_MAX: usize = 100;

/// What ended in one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) invitations: Vec<InvitationId>,
    pub(crate) keys: Vec<ApiKeyId>,
}

/// What ended in all tenants.
#[derive(Debug)]
pub(crate) struct EndedEverywhere {
    pub(crate) invitations: Vec<(TenantId, InvitationId)>,
    pub(crate) keys: Vec<(TenantId, ApiKeyId)>,
}

/// The ids that a statement has changed, in the order in which they were made.
pub(crate) fn in_order<K>(mut ids: Vec<Uuid>) -> Vec<Id<K>> {
    ids.sort_unstable();
    ids.into_iter().map(Id::from_uuid).collect()
}

// === impl Ended ===

impl Ended {
    /// What an entry says after a change: these facts, and what ended with it.
    pub(crate) fn beside(&self, facts: Map<String, Value>) -> Value {
        let mut after = facts;
        name(&mut after, "keys_ended", &self.keys);
        name(&mut after, "invitations_ended", &self.invitations);
        Value::Object(after)
    }

    /// The same of something that is gone.
    pub(crate) fn alone(&self) -> Value {
        self.beside(Map::new())
    }
}

/// Names so many ids as one entry holds, and says how many there are.
fn name<T: ToString>(after: &mut Map<String, Value>, what: &str, ids: &[T]) {
    let named: Vec<String> = ids.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    after.insert(what.to_owned(), json!(named));
    after.insert(format!("{what}_count"), json!(ids.len()));
}

// === impl EndedEverywhere ===

impl EndedEverywhere {
    /// Ends what somebody has handed on, and what was made with keys that they know, in all tenants. Whoever could hand something
    /// on meanwhile must be held by the caller's locks.
    pub(crate) async fn end(conn: &mut PgConnection, user: UserId) -> Result<Self, Error> {
        // In the order in which everybody locks them.
        Ok(Self {
            invitations: invitation::revoke_all_of_sender(conn, user).await?,
            keys: service_account::revoke_all_keys_made_by(conn, user).await?,
        })
    }

    /// Tells the tenants' logs, each of its own. `because`: what the tenants may know of why.
    pub(crate) async fn tell(&self, conn: &mut PgConnection, ctx: &Ctx, because: &str) -> Result<(), Error> {
        let invitations = self.invitations.iter();
        let invitations = invitations.map(|(tenant, id)| (*tenant, Entry::new("invitation.revoke", id)));
        let keys = self.keys.iter();
        let keys = keys.map(|(tenant, id)| (*tenant, Entry::new("api_key.revoke", id)));
        let told = invitations
            .chain(keys)
            .map(|(tenant, entry)| entry.within(Some(tenant)).because(because));
        audit::record_all(conn, ctx, told.collect()).await
    }

    /// The tokens of the keys, which end with them.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = Subject> {
        let keys = self.keys.iter();
        keys.map(|(_, key)| Subject::Session(service_account::session_of(*key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_so_many_and_counts_them_all() {
        let keys: Vec<ApiKeyId> = (0..=NAMED_MAX).map(|_| ApiKeyId::generate()).collect();
        let ended = Ended {
            invitations: Vec::new(),
            keys: keys.clone(),
        };
        let told = ended.alone();
        let named: Vec<String> = keys.iter().take(NAMED_MAX).map(ToString::to_string).collect();
        assert_eq!(
            told,
            json!({
                "keys_ended": named,
                "keys_ended_count": NAMED_MAX + 1,
                "invitations_ended": [],
                "invitations_ended_count": 0,
            })
        );
    }
}
