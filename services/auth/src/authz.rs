//! Answers to "may they?" and "why?": what the services would decide now, from the same facts and the same rules.
//!
//! An explanation is about a member or a service account and not about a session. What hangs on the session is whether a second
//! factor was shown in it, where the tenant asks for one: who has shown it in none gets nothing.

pub(crate) mod actions;
mod rpc;
mod store;
mod wire;

use rowhouse_auth_kit::Grant;
use rowhouse_client::reach;
use rowhouse_proto::policy::Permission;
use rowhouse_types::UserId;

use crate::rights::Facts;
use crate::role::TenantRole;
use crate::tenant::Access;
pub(crate) use rpc::AuthzRpc;
#[cfg(test)]
pub(crate) use store::STATEMENTS;

/// Permissions that are checked at once.
pub(crate) const BATCH_MAX: usize = 1_000;

/// What decides whether a member or a service account has a permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// This grant of the role gives it, and reaches the record that is asked about.
    Allowed(Grant),
    /// This grant of the role gives it, and does not reach the record.
    OutOfScope(Grant),
    NotGranted,
    /// The membership, or the service account.
    MemberDisabled,
    AccountDisabled,
    TenantClosed,
    /// The tenant asks for a second factor, and none was shown in any session.
    SecondFactorNotShown,
}

/// A member or a service account, and what is known of their rights, of one moment.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) who: Holder,
    pub(crate) facts: Facts,
    /// Where the tenant asks a person for one.
    pub(crate) second_factor: Option<SecondFactor>,
}

/// Who has a role in a tenant.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) user: UserId,
    pub(crate) role: TenantRole,
    pub(crate) is_disabled: bool,
    pub(crate) is_program: bool,
}

/// What there is of somebody's second factor in a tenant that asks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SecondFactor {
    /// The account has one, so that the next log-in shows it.
    pub(crate) exists: bool,
    /// In how many of their sessions in the tenant it was shown, and in how many it was not.
    pub(crate) shown_in: i64,
    pub(crate) not_shown_in: i64,
}

// === impl Known ===

impl Known {
    /// What stands in the way of everything; the account before the membership, the membership before the tenant, as
    /// who is out is not told what state the tenant is in; the second factor last, as where calls are judged.
    pub(crate) fn obstacle(&self) -> Option<Decision> {
        // A service account that is disabled has no other account.
        if !self.facts.identity_active && !self.who.is_program {
            Some(Decision::AccountDisabled)
        } else if self.who.is_disabled {
            Some(Decision::MemberDisabled)
        } else if self.facts.access != Some(Access::Allowed) {
            Some(Decision::TenantClosed)
        } else if self.second_factor.is_some_and(SecondFactor::lacks) {
            Some(Decision::SecondFactorNotShown)
        } else {
            None
        }
    }

    /// In how many of their sessions they are refused for want of a second factor.
    pub(crate) fn sessions_refused(&self) -> i64 {
        self.second_factor.map_or(0, |known| known.not_shown_in)
    }

    /// What the role lists.
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
            let wanted = rowhouse_auth_kit::Permission::try_from(permission.name).ok()?;
            let grant = held.grants.giving(wanted)?.clone();
            let reach = reach(&held.grants, self.who.user, &self.facts.team, permission)?;
            Some((grant, reach))
        });
        match given {
            None => Decision::NotGranted,
            Some((grant, reach)) if owner.is_none_or(|owner| reach.includes(owner)) => Decision::Allowed(grant),
            Some((grant, _)) => Decision::OutOfScope(grant),
        }
    }
}

// === impl SecondFactor ===

impl SecondFactor {
    /// Whether none of their calls is let in: the account has none to show, or only sessions in which it was not.
    fn lacks(self) -> bool {
        self.shown_in == 0 && (self.not_shown_in > 0 || !self.exists)
    }
}

#[cfg(test)]
mod tests;
