//! What operators did as a member, and what the tenant's log says of it.

use anyhow::Result;
use rowhouse_devkit::cluster;
use rowhouse_types::{TenantId, UserId};
use uuid::Uuid;

use super::home;
use crate::support::world::World;

/// What the operator was told: the oracle stands outside the log and the tables.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) created: usize,
    /// Changes, and contacts that were handed over: a change of each.
    pub(super) changed: usize,
    /// Contacts that were deleted, and those of them that were brought back.
    pub(super) deleted: Vec<Uuid>,
    pub(super) undeleted: Vec<Uuid>,
}

/// What an operator did as a member, and what the log says of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// What was done to the tenant's contacts, and what of it the log names once, with the operator as actor.
    pub(super) effects: i64,
    logged_effects: i64,
    /// The effects by their kinds, as in [`Told`].
    kinds: [i64; 4],
    /// Sessions that were opened, and those of them that the log names once.
    pub(super) sessions: i64,
    logged_sessions: i64,
    /// Of these, those that were ended without an entry that says so.
    ended_unsaid: i64,
}

// === impl Told ===

impl Told {
    pub(super) fn add(&mut self, more: Self) {
        self.created += more.created;
        self.changed += more.changed;
        self.deleted.extend(more.deleted);
        self.undeleted.extend(more.undeleted);
    }

    fn kinds(&self) -> [usize; 4] {
        [self.created, self.changed, self.deleted.len(), self.undeleted.len()]
    }
}

// === impl Account ===

impl Account {
    /// Reads it: nobody else has done anything to the tenant's contacts.
    pub(super) async fn read(
        world: &World,
        tenant: TenantId,
        member: UserId,
        operator: &str,
        told: &Told,
    ) -> Result<Self> {
        let home = home(tenant);
        let data = cluster::connect(&world.suite.databases().data_superuser_url()).await?;
        // Whatever is done to a contact raises its revision by one, whoever has it by now. What the second and the third of a
        // contact were, who was told of it knows: one that is deleted was only created before.
        let logged = format!(
            "WITH effect AS (
                 SELECT contact.id, step.revision, CASE
                     WHEN step.revision = 1 THEN 'contacts:create'
                     WHEN step.revision = 2 AND contact.id = ANY ($1) THEN 'contacts:delete'
                     WHEN step.revision = 3 AND contact.id = ANY ($2) THEN 'contacts:undelete'
                     ELSE 'contacts:update' END AS action
                 FROM {home}.contacts AS contact
                 CROSS JOIN LATERAL generate_series(1::bigint, contact.revision) AS step (revision)
             )
             SELECT count(*), count(*) FILTER (WHERE 1 = (SELECT count(*) FROM {home}.audit_entries AS entry
                     WHERE entry.target = effect.id AND (entry.after ->> 'revision')::bigint = effect.revision
                         AND entry.action = effect.action AND entry.actor = '{operator}'
                         AND entry.on_behalf_of = '{member}' AND entry.outcome = 'succeeded')),
                 count(*) FILTER (WHERE action = 'contacts:create'), count(*) FILTER (WHERE action = 'contacts:update'),
                 count(*) FILTER (WHERE action = 'contacts:delete'), count(*) FILTER (WHERE action = 'contacts:undelete')
             FROM effect"
        );
        let effects = data.query_one(&logged, &[&told.deleted, &told.undeleted]).await?;
        let control = cluster::connect(&world.suite.databases().control_superuser_url()).await?;
        // Ids in the log are as the API writes them: sessions are told apart by when they end.
        let sessions = format!(
            "SELECT count(*), count(*) FILTER (WHERE 1 = (SELECT count(*) FROM auth.audit AS entry
                 WHERE entry.action = 'impersonation.start' AND entry.actor = '{operator}' AND entry.target = '{member}'
                     AND (entry.after ->> 'ends')::timestamptz = session.expires_at)),
                 count(*) FILTER (WHERE revoked_at IS NOT NULL) - (SELECT count(*) FROM auth.audit
                     WHERE action = 'impersonation.end' AND actor = '{operator}' AND target = '{member}')
             FROM auth.sessions AS session WHERE session.impersonator_id IS NOT NULL AND session.identity_id = '{}'",
            member.uuid()
        );
        let sessions = control.query_one(&sessions, &[]).await?;
        Ok(Self {
            effects: effects.get(0),
            logged_effects: effects.get(1),
            kinds: [effects.get(2), effects.get(3), effects.get(4), effects.get(5)],
            sessions: sessions.get(0),
            logged_sessions: sessions.get(1),
            ended_unsaid: sessions.get(2),
        })
    }

    pub(super) fn unaudited(&self) -> i64 {
        self.effects - self.logged_effects + self.sessions - self.logged_sessions + self.ended_unsaid.abs()
    }

    /// Whether everything is there that was acknowledged. More may be: what was cut off and had happened.
    pub(super) fn has_all(&self, told: &Told) -> Result<bool> {
        for (done, told) in self.kinds.iter().zip(told.kinds()) {
            if *done < i64::try_from(told)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
