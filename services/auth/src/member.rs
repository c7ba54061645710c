//! Members of a tenant: persons with a role there.

pub(crate) mod actions;
mod rpc;
mod store;
mod wire;

use std::str::FromStr;

use chrono::{DateTime, Utc};
use rowhouse_types::{Email, Etag, IdempotencyKey, TenantId, UserId};

use crate::error::Error;
use crate::role::TenantRole;
use crate::tenant::Access;
pub(crate) use rpc::MemberRpc;
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::{join, logs_of, tenants_of};

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) user: UserId,
    pub(crate) email: String,
    pub(crate) display_name: String,
    pub(crate) role: TenantRole,
    pub(crate) state: MemberState,
    pub(crate) created: DateTime<Utc>,
    pub(crate) etag: Etag,
}

/// Whether a member has access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberState {
    Active,
    Disabled,
}

/// A tenant that somebody is an active member of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) tenant: TenantId,
    pub(crate) tenant_name: String,
    pub(crate) role: TenantRole,
    pub(crate) access: Access,
}

/// The text is not a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a member's state")]
pub(crate) struct ParseMemberStateError;

/// What to invite somebody to.
#[derive(Clone, Debug)]
pub(crate) struct Invite {
    pub(crate) email: Email,
    pub(crate) role: TenantRole,
    pub(crate) request: Option<IdempotencyKey>,
}

/// A change of a membership.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) user: UserId,
    pub(crate) role: Option<TenantRole>,
    pub(crate) state: Option<MemberState>,
    pub(crate) etag: Option<Etag>,
}

/// Where a page of members begins: after this one.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Cursor {
    pub(crate) created: DateTime<Utc>,
    pub(crate) user: UserId,
}

// === impl Member ===

impl Member {
    /// Whether the member is one of those of whom a tenant needs at least one.
    pub(crate) fn administers(&self) -> bool {
        self.role == TenantRole::ADMINISTRATOR && self.state == MemberState::Active
    }

    /// The member after a change.
    ///
    /// `others`: how many other active administrators the tenant has.
    pub(crate) fn changed(&self, change: &Change, others: i64) -> Result<Self, Error> {
        if change.etag.is_some_and(|etag| etag != self.etag) {
            return Err(Error::EtagMismatch);
        }
        let changed = Self {
            role: change.role.clone().unwrap_or_else(|| self.role.clone()),
            state: change.state.unwrap_or(self.state),
            ..self.clone()
        };
        if !changed.administers() {
            self.may_stop_administering(others)?;
        }
        Ok(changed)
    }

    /// Refuses where a tenant would be left without an administrator.
    ///
    /// `others`: how many other active administrators the tenant has.
    pub(crate) fn may_stop_administering(&self, others: i64) -> Result<(), Error> {
        if self.administers() && others == 0 {
            return Err(Error::LastAdministrator);
        }
        Ok(())
    }
}

// === impl MemberState ===

impl MemberState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
        }
    }
}

impl FromStr for MemberState {
    type Err = ParseMemberStateError;

    fn from_str(text: &str) -> Result<Self, ParseMemberStateError> {
        [Self::Active, Self::Disabled]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(ParseMemberStateError)
    }
}

#[cfg(test)]
mod rules {
    use rowhouse_auth_kit::Role;

    use super::*;

    fn administrator() -> Member {
        Member {
            user: UserId::generate(),
            email: "ada@example.com".to_owned(),
            display_name: "Ada".to_owned(),
            role: TenantRole::ADMINISTRATOR,
            state: MemberState::Active,
            created: Utc::now(),
            etag: Etag::from_revision(3),
        }
    }

    fn change(role: Option<Role>, state: Option<MemberState>) -> Change {
        Change {
            user: UserId::generate(),
            role: role.map(TenantRole::BuiltIn),
            state,
            etag: None,
        }
    }

    #[test]
    fn the_last_active_administrator_stays_one() {
        let last = administrator();
        for change in [
            change(Some(Role::User), None),
            change(None, Some(MemberState::Disabled)),
        ] {
            assert!(matches!(last.changed(&change, 0), Err(Error::LastAdministrator)));
            assert!(last.changed(&change, 1).is_ok());
        }
        assert!(
            last.changed(&change(Some(Role::TenantAdmin), Some(MemberState::Active)), 0)
                .is_ok()
        );
    }

    #[test]
    fn a_disabled_administrator_counts_for_nothing() {
        let disabled = Member {
            state: MemberState::Disabled,
            ..administrator()
        };
        assert!(disabled.changed(&change(Some(Role::User), None), 0).is_ok());
    }

    #[test]
    fn a_stale_etag_is_refused() {
        let stale = Change {
            etag: Some(Etag::from_revision(2)),
            ..change(Some(Role::User), None)
        };
        assert!(matches!(administrator().changed(&stale, 9), Err(Error::EtagMismatch)));
    }
}

#[cfg(test)]
mod tests;
