//! Answers to "may they?" and "why?": what the services would decide now, from the same facts and the same rules.

mod actions;
mod rpc;
mod wire;

use rowhouse_auth_kit::Grant;
use rowhouse_client::reach;
use rowhouse_proto::policy::Permission;
use rowhouse_types::UserId;

use crate::member::{Member, MemberState};
use crate::rights::Facts;
use crate::tenant::Access;
pub(crate) use rpc::AuthzRpc;

/// Permissions that are checked at once.
pub(crate) const BATCH_MAX: usize = 1_000;

/// What decides whether a member has a permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// This grant of the role gives it, and reaches the record that is asked about.
    Allowed(Grant),
    /// This grant of the role gives it, and does not reach the record.
    OutOfScope(Grant),
    NotGranted,
    MemberDisabled,
    AccountDisabled,
    TenantClosed,
}

/// A member, and what is known of their rights, of one moment.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) member: Member,
    pub(crate) facts: Facts,
}

// === impl Known ===

impl Known {
    /// What stands in the way of everything; the account before the membership, the membership before the tenant, as
    /// who is out is not told what state the tenant is in.
    pub(crate) fn obstacle(&self) -> Option<Decision> {
        if !self.facts.identity_active {
            Some(Decision::AccountDisabled)
        } else if self.member.state == MemberState::Disabled {
            Some(Decision::MemberDisabled)
        } else if self.facts.access != Some(Access::Allowed) {
            Some(Decision::TenantClosed)
        } else {
            None
        }
    }

    /// What the member's role lists.
    pub(crate) fn grants(&self) -> Vec<String> {
        let held = self.facts.member.as_ref();
        held.map(|held| held.grants.to_strings()).unwrap_or_default()
    }

    /// What decides about a permission. `owner`: of the record that it is about, where it is about one.
    pub(crate) fn decide(&self, permission: &Permission, owner: Option<UserId>) -> Decision {
        if let Some(obstacle) = self.obstacle() {
            return obstacle;
        }
        let given = self.facts.member.as_ref().and_then(|held| {
            let wanted = permission.name.parse().ok()?;
            let grant = held.grants.giving(&wanted)?.clone();
            let reach = reach(&held.grants, self.member.user, &self.facts.team, permission)?;
            Some((grant, reach))
        });
        match given {
            None => Decision::NotGranted,
            Some((grant, reach)) if owner.is_none_or(|owner| reach.includes(owner)) => Decision::Allowed(grant),
            Some((grant, _)) => Decision::OutOfScope(grant),
        }
    }
}

#[cfg(test)]
mod tests;
