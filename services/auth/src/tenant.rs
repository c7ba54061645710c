//! What auth knows of a tenant: its name for mails, and whether anybody may act in it.

pub(crate) mod actions;
mod rpc;
mod store;
mod wire;

use std::str::FromStr;

use rowhouse_types::{Email, OperationId, TenantId, Text};

pub(crate) use rpc::ProvisioningRpc;
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::{access, lock, lock_of};

/// Name of an organisation.
pub(crate) type TenantName = Text<200>;

/// Whether anybody may act in a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Still being provisioned.
    Pending,
    /// Its members may act.
    Allowed,
    /// Nobody may act in it.
    Suspended,
}

/// The text is not an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an access of a tenant")]
pub(crate) struct ParseAccessError;

/// A tenant that is being provisioned, and whom to invite as its first administrator.
#[derive(Clone, Debug)]
pub(crate) struct Founding {
    pub(crate) tenant: TenantId,
    pub(crate) name: TenantName,
    pub(crate) email: Email,
    pub(crate) operation: OperationId,
}

/// A change of a tenant's access.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccessChange {
    pub(crate) tenant: TenantId,
    pub(crate) access: Access,
    pub(crate) operation: OperationId,
}

/// The access as it stands, and what set it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applied {
    pub(crate) access: Access,
    pub(crate) operation: Option<OperationId>,
    pub(crate) version: i64,
}

// === impl Access ===

impl Access {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Allowed => "allowed",
            Self::Suspended => "suspended",
        }
    }
}

impl FromStr for Access {
    type Err = ParseAccessError;

    fn from_str(text: &str) -> Result<Self, ParseAccessError> {
        [Self::Pending, Self::Allowed, Self::Suspended]
            .into_iter()
            .find(|access| access.as_str() == text)
            .ok_or(ParseAccessError)
    }
}

// === impl Applied ===

impl Applied {
    /// Whether `operation` comes after the one that set the access. Ids hold the time at which they were made, so an
    /// operation that was overtaken by a newer one, or was applied before, changes nothing.
    pub(crate) fn is_followed_by(&self, operation: OperationId) -> bool {
        self.operation.is_none_or(|last| operation > last)
    }
}

#[cfg(test)]
mod rules {
    use super::*;

    #[test]
    fn older_and_repeated_operations_change_nothing() {
        let (first, second) = (OperationId::generate(), OperationId::generate());
        let applied = |operation| Applied {
            access: Access::Allowed,
            operation,
            version: 1,
        };
        assert!(applied(None).is_followed_by(first));
        assert!(applied(Some(first)).is_followed_by(second));
        assert!(!applied(Some(second)).is_followed_by(first));
        assert!(!applied(Some(second)).is_followed_by(second));
    }
}

#[cfg(test)]
mod tests;
