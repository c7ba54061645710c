//! Roles that members of a tenant can have: the three that every tenant has, and those that it composes itself.

pub(crate) mod actions;
mod rpc;
mod store;
mod wire;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use rowhouse_auth_kit::{Grants, Role};
use rowhouse_types::{Etag, IdempotencyKey, Text};

use crate::error::Error;
pub(crate) use rpc::RoleRpc;
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::{grants, held_by_members};

/// Roles that a tenant has beside the built-in ones: more than anybody keeps in their head, few enough to be read at once.
pub(crate) const OWN_ROLES_MAX: u32 = 100;

/// Permissions that one role lists.
pub(crate) const PERMISSIONS_MAX: usize = 100;

/// Shortest and longest name of a tenant's own role, in bytes.
const NAME_BYTES: std::ops::RangeInclusive<usize> = 2..=63;

/// A role's name for people.
pub(crate) type RoleTitle = Text<200>;

/// A role that can be held in a tenant, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TenantRole {
    BuiltIn(Role),
    Own(RoleName),
}

/// The name of a tenant's own role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(crate) struct RoleName {
    text: String,
}

/// The text cannot be the name of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be tenant_admin, manager, user or the name of one of the tenant's own roles")]
pub(crate) struct ParseTenantRoleError;

/// The text cannot be the name of a role of a tenant's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 2 to 63 characters of a-z, 0-9 and _, the first a letter, and not the name of a built-in role")]
pub(crate) struct ParseRoleNameError;

/// A tenant's own role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnRole {
    pub(crate) name: RoleName,
    pub(crate) title: String,
    pub(crate) grants: Grants,
    pub(crate) created: DateTime<Utc>,
    pub(crate) updated: DateTime<Utc>,
    pub(crate) etag: Etag,
}

/// A role, and who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) role: Known,
    pub(crate) holders: Holders,
}

/// How many have a role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holders {
    /// Members, disabled ones too.
    pub(crate) members: i64,
    pub(crate) service_accounts: i64,
}

/// A role of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    BuiltIn(Role),
    Own(OwnRole),
}

/// A role that is to be added.
#[derive(Clone, Debug)]
pub(crate) struct NewRole {
    pub(crate) name: RoleName,
    pub(crate) title: RoleTitle,
    pub(crate) grants: Grants,
    /// By what the call is recognised when it comes again.
    pub(crate) request: Option<IdempotencyKey>,
}

/// A change of a role.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) name: RoleName,
    pub(crate) title: Option<RoleTitle>,
    pub(crate) grants: Option<Grants>,
    pub(crate) etag: Option<Etag>,
    /// Only to see what would be.
    pub(crate) only_look: bool,
}

// === impl TenantRole ===

impl TenantRole {
    /// Administers a tenant, of whom it needs at least one.
    pub(crate) const ADMINISTRATOR: Self = Self::BuiltIn(Role::TenantAdmin);

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::BuiltIn(role) => role.as_str(),
            Self::Own(name) => name.as_str(),
        }
    }
}

impl FromStr for TenantRole {
    type Err = ParseTenantRoleError;

    fn from_str(text: &str) -> Result<Self, ParseTenantRoleError> {
        match text.parse::<Role>() {
            Ok(role) if role.is_of_tenant() => Ok(Self::BuiltIn(role)),
            Ok(_) => Err(ParseTenantRoleError),
            Err(_) => text.parse().map(Self::Own).map_err(|_| ParseTenantRoleError),
        }
    }
}

impl fmt::Display for TenantRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl RoleName ===

impl RoleName {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for RoleName {
    type Err = ParseRoleNameError;

    fn from_str(text: &str) -> Result<Self, ParseRoleNameError> {
        let letters = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
        let begins = text.bytes().next().is_some_and(|c| c.is_ascii_lowercase());
        let taken = text.parse::<Role>().is_ok();
        if !begins || taken || !NAME_BYTES.contains(&text.len()) || !text.bytes().all(letters) {
            return Err(ParseRoleNameError);
        }
        Ok(Self { text: text.to_owned() })
    }
}

// === impl Known ===

impl Known {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::BuiltIn(role) => role.as_str(),
            Self::Own(role) => role.name.as_str(),
        }
    }

    /// Where it stands in lists: what every tenant has first, the mightiest before the others, then its own by name.
    pub(crate) fn rank(&self) -> (u8, String) {
        match self {
            Self::BuiltIn(Role::SuperAdmin | Role::TenantAdmin) => (0, String::new()),
            Self::BuiltIn(Role::Manager) => (1, String::new()),
            Self::BuiltIn(Role::User) => (2, String::new()),
            Self::Own(role) => (3, role.name.text.clone()),
        }
    }
}

/// Refuses to pass on what one does not hold.
pub(crate) fn covers(held: &Grants, given: &Grants) -> Result<(), Error> {
    let lacking = given
        .iter()
        .find(|grant| !held.covers(&Grants::from_iter([(*grant).clone()])));
    lacking.map_or(Ok(()), |grant| {
        let permission = grant.to_string();
        Err(Error::RoleNotCovered { permission })
    })
}

#[cfg(test)]
mod rules {
    use super::*;

    #[test]
    fn names_are_short_words_and_those_of_built_in_roles_are_taken() {
        for good in ["sales_lead", "l2", "auditors"] {
            assert_eq!(
                good.parse::<TenantRole>().map(|role| role.to_string()),
                Ok(good.to_owned())
            );
        }
        let long = "a".repeat(64);
        for bad in [
            "",
            "a",
            "2nd",
            "_x",
            "Sales",
            "sales lead",
            "sales-lead",
            "s\u{e4}les",
            "super_admin",
            &long,
        ] {
            assert!(bad.parse::<RoleName>().is_err(), "{bad:?}");
            assert!(bad.parse::<TenantRole>().is_err(), "{bad:?}");
        }
        for built_in in ["tenant_admin", "manager", "user"] {
            assert!(built_in.parse::<RoleName>().is_err(), "{built_in}");
            assert!(matches!(built_in.parse(), Ok(TenantRole::BuiltIn(_))), "{built_in}");
        }
    }
}

#[cfg(test)]
mod tests;
