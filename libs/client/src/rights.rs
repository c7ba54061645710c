//! What a principal may do now.
//!
//! [`RightsSource`] is what the stack in front of a service asks: [`client::RightsClient`], the holder's side of the lease
//! protocol. Whom that asks in turn is [`authority::RightsAuthority`]: auth's own processes read their database.

pub mod authority;
pub mod client;
mod entry;
mod ledger;

use std::sync::Arc;

use async_trait::async_trait;
use rowhouse_auth_kit::{Grants, KeyId, Scope};
use rowhouse_context::{Ctx, Impersonator, Owners, Reach};
use rowhouse_proto::policy::Permission;
use rowhouse_types::{SessionId, TenantId, UserId};

/// Whose rights are asked for, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RightsQuery {
    /// The person.
    pub user: UserId,
    /// Their log-in; none for a delegated token.
    pub session: Option<SessionId>,
    /// The tenant to act in; none for the platform.
    pub tenant: Option<TenantId>,
    /// The token is a platform operator's, and `tenant` came from `x-tenant-id`.
    pub platform: bool,
    /// The key that has signed the token; `None` where no token is asked about.
    pub key: Option<KeyId>,
    /// The operator who acts as the person: their rights to do so count too.
    pub by: Option<Impersonator>,
}

/// What a principal may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The version of the rights at which auth read this.
    pub version: i64,
    /// Whether the principal may act at all. Check it before `grants`.
    pub standing: Standing,
    /// Names of the roles held.
    pub roles: Vec<String>,
    /// What the roles give.
    pub grants: Grants,
    /// Whose records a grant with `@team` reaches beside the principal's own.
    pub team: Owners,
}

/// Whose records somebody reaches with a permission; `None` where they do not have it.
///
/// `team`: whose a grant with `@team` reaches beside `user`'s own. A permission that is not about records with owners is
/// given by no grant with a scope: part of what has no parts is nothing.
#[must_use]
pub fn reach(grants: &Grants, user: UserId, team: &Owners, permission: &Permission) -> Option<Reach> {
    Some(match scope(grants, permission)? {
        Scope::All => Reach::All,
        Scope::Team => Reach::owners(team.iter().chain([user])),
        Scope::Own => Reach::owners([user]),
    })
}

/// Whether somebody's [`reach`] has the records of `owner` in it; without one, whether they have the permission at all. It puts no
/// set of people together for an answer about one.
#[must_use]
pub fn reaches(grants: &Grants, user: UserId, team: &Owners, permission: &Permission, owner: Option<UserId>) -> bool {
    let Some(scope) = scope(grants, permission) else {
        return false;
    };
    owner.is_none_or(|owner| match scope {
        Scope::All => true,
        Scope::Team => owner == user || team.include(owner),
        Scope::Own => owner == user,
    })
}

/// How far the grants give a permission.
fn scope(grants: &Grants, permission: &Permission) -> Option<Scope> {
    let scope = grants.scope(permission.name)?;
    (permission.scoped || scope == Scope::All).then_some(scope)
}

/// Whether a principal may act at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Within its permissions.
    Good,
    /// The session, the account or the membership was ended.
    Revoked,
    /// The tenant is suspended.
    TenantSuspended,
    /// The tenant is not known, or not yet active.
    TenantUnknown,
    /// The tenant's policy asks for a second factor, which was not shown in the session: only what is about the
    /// principal's own account is allowed.
    SecondFactorNotShown,
    /// The key that has signed the token was revoked.
    KeyRevoked,
}

/// The rights could not be read, so the call must be refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RightsError {
    /// Auth did not answer. The text is for logs.
    #[error("the rights cannot be read: {0}")]
    Unavailable(String),
    /// The caller's deadline passed.
    #[error("the deadline passed before the rights were read")]
    DeadlineExceeded,
}

/// Answers what a principal may do now.
#[async_trait]
pub trait RightsSource: Send + Sync {
    /// The rights of a principal: never older than any change that was acknowledged before this was called.
    ///
    /// # Errors
    /// [`RightsError`]; the call must then be refused.
    async fn rights(&self, ctx: &Ctx, query: &RightsQuery) -> Result<Arc<Rights>, RightsError>;
}

#[cfg(test)]
mod tests {
    use rowhouse_proto::policy;

    use super::*;

    #[test]
    fn a_grant_reaches_as_far_as_its_scope_says() {
        let [user, mate, other] = [(); 3].map(|()| UserId::generate());
        let team = Owners::from_iter([mate]);
        let reached = |grant: &str, permission: &str| {
            let permission = policy::permission(permission).unwrap();
            let grants = Grants::read([grant]);
            let reach = reach(&grants, user, &team, permission);
            let reaches = |owner| reaches(&grants, user, &team, permission, owner);
            // Both ways of asking are one rule.
            assert_eq!(reaches(None), reach.is_some(), "{grant}");
            let included = [user, mate, other].map(|owner| reach.as_ref().is_some_and(|reach| reach.includes(owner)));
            assert_eq!(
                [user, mate, other].map(|owner| reaches(Some(owner))),
                included,
                "{grant}"
            );
            reach.map(|_| included)
        };
        for (grant, owners) in [
            ("contacts:read@own", Some([true, false, false])),
            ("contacts:*@team", Some([true, true, false])),
            ("*:read", Some([true, true, true])),
            ("contacts:update", None),
        ] {
            assert_eq!(reached(grant, "contacts:read"), owners, "{grant}");
        }
    }

    #[test]
    fn what_has_no_owner_is_given_by_no_grant_with_a_scope() {
        let user = UserId::generate();
        let none = Owners::from_iter([]);
        let members = policy::permission("members:read").unwrap();
        for (grant, given) in [
            ("members:read", true),
            ("*:*", true),
            ("members:read@own", false),
            ("*:*@team", false),
        ] {
            let grants = Grants::read([grant]);
            let reach = reach(&grants, user, &none, members);
            assert_eq!(reach.is_some(), given, "{grant}");
            assert_eq!(reaches(&grants, user, &none, members, None), given, "{grant}");
            assert_eq!(reaches(&grants, user, &none, members, Some(user)), given, "{grant}");
        }
    }
}
