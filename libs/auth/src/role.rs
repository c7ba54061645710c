//! The built-in roles.

use std::fmt;
use std::str::FromStr;

use crate::permission::Grants;

/// A built-in role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Operates the platform.
    SuperAdmin,
    /// Administers one tenant.
    TenantAdmin,
    /// Leads the work of teams in one tenant.
    Manager,
    /// Works in one tenant, with records of their own.
    User,
}

/// The text is not the name of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a role")]
pub struct ParseRoleError;

// === impl Role ===

impl Role {
    /// All of them, the mightiest first.
    pub const ALL: [Self; 4] = [Self::SuperAdmin, Self::TenantAdmin, Self::Manager, Self::User];

    /// The name as in databases and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SuperAdmin => "super_admin",
            Self::TenantAdmin => "tenant_admin",
            Self::Manager => "manager",
            Self::User => "user",
        }
    }

    /// Whether it is held in a tenant, and not on the platform.
    #[must_use]
    pub fn is_of_tenant(self) -> bool {
        !matches!(self, Self::SuperAdmin)
    }

    /// What the role gives.
    #[must_use]
    pub fn grants(self) -> Grants {
        let texts: &[&str] = match self {
            Self::SuperAdmin => &["*:*"],
            Self::TenantAdmin => &[
                "audit:*",
                "contacts:*",
                "login_policy:*",
                "members:*",
                "reports:*",
                "roles:*",
                "service_accounts:*",
                "teams:*",
            ],
            Self::Manager => &[
                "contacts:*@team",
                "members:read",
                "reports:*@team",
                "roles:read",
                "teams:read",
            ],
            Self::User => &["contacts:create@own", "contacts:read@own", "contacts:update@own"],
        };
        Grants::read(texts)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = ParseRoleError;

    fn from_str(text: &str) -> Result<Self, ParseRoleError> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(ParseRoleError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_covers_the_next_and_none_the_one_before() {
        for pair in Role::ALL.windows(2) {
            assert!(pair[0].grants().covers(&pair[1].grants()), "{pair:?}");
            assert!(!pair[1].grants().covers(&pair[0].grants()), "{pair:?}");
        }
    }

    #[test]
    fn names_are_read_back_and_all_grants_can_be_read() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert_eq!(Role::User.grants().iter().count(), 3);
        assert_eq!(Role::Manager.grants().iter().count(), 5);
        assert!("SUPER_ADMIN".parse::<Role>().is_err());
    }

    #[test]
    fn no_role_of_a_tenant_reaches_the_platform() {
        for role in Role::ALL.into_iter().filter(|role| role.is_of_tenant()) {
            for permission in ["tenants:create", "tenants:read", "tenants:suspend", "tenants:delete"] {
                assert_eq!(role.grants().scope(permission), None, "{role} {permission}");
            }
        }
    }
}
