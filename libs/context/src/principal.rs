//! The caller, as verified by the stack in front of the services.

use std::fmt;
use std::str::FromStr;

use rowhouse_types::{SessionId, TenantId, UserId};

/// The caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Nobody in particular: a public RPC.
    Anonymous,
    /// A member of a tenant, with a token for that tenant.
    Member {
        /// The person.
        user: UserId,
        /// Their log-in.
        session: SessionId,
        /// The tenant that the token names.
        tenant: TenantId,
    },
    /// A platform operator.
    Operator {
        /// The person.
        user: UserId,
        /// Their log-in.
        session: SessionId,
    },
    /// A platform operator who acts as a member of a tenant, for a bounded time (RFC 8693: `sub` the member, `act` the
    /// operator). Opens what is for tenants and nothing about anybody's account.
    Impersonated {
        /// The member.
        user: UserId,
        /// The session that was opened for this.
        session: SessionId,
        /// The tenant that the token names.
        tenant: TenantId,
        /// Who acts.
        by: Impersonator,
    },
    /// A service that works for a user after their call (RFC 8693: `sub` the user, `act` the service).
    Delegate {
        /// The user behind the work.
        user: UserId,
        /// The tenant that the token names.
        tenant: TenantId,
        /// Whether the user is a platform operator.
        operator: bool,
        /// The service that acts.
        service: ServiceName,
        /// The job it acts for.
        job: String,
    },
    /// A service on its own behalf: provisioning, migrations, relays.
    Service {
        /// The service.
        name: ServiceName,
    },
}

/// The platform operator who acts as somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Impersonator {
    /// The person.
    pub operator: UserId,
    /// Their own log-in: when it ends, this does.
    pub session: SessionId,
}

/// Name of a service of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceName {
    /// Tenants and the directory.
    Tenant,
    /// Identities and rights.
    Auth,
    /// Contacts.
    Crm,
    /// Reports and e-mails.
    Worker,
}

/// The text is not the name of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a service of the suite")]
pub struct ParseServiceNameError;

// === impl Principal ===

impl Principal {
    /// The person behind the call, where there is one.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        match self {
            Self::Member { user, .. }
            | Self::Operator { user, .. }
            | Self::Impersonated { user, .. }
            | Self::Delegate { user, .. } => Some(*user),
            Self::Anonymous | Self::Service { .. } => None,
        }
    }

    /// How audit entries name the caller: `user_...`, `service:crm` or `anonymous`.
    #[must_use]
    pub fn actor(&self) -> String {
        match self {
            Self::Anonymous => "anonymous".to_owned(),
            Self::Member { user, .. } | Self::Operator { user, .. } => user.to_string(),
            Self::Impersonated { by, .. } => by.operator.to_string(),
            Self::Delegate { service, .. } | Self::Service { name: service } => format!("service:{service}"),
        }
    }

    /// On whose behalf the caller acts, where that is somebody else.
    #[must_use]
    pub fn on_behalf_of(&self) -> Option<String> {
        match self {
            Self::Delegate { user, .. } | Self::Impersonated { user, .. } => Some(user.to_string()),
            _ => None,
        }
    }
}

// === impl ServiceName ===

impl ServiceName {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tenant, Self::Auth, Self::Crm, Self::Worker];

    /// The name as in tokens and policies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Auth => "auth",
            Self::Crm => "crm",
            Self::Worker => "worker",
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ServiceName {
    type Err = ParseServiceNameError;

    fn from_str(text: &str) -> Result<Self, ParseServiceNameError> {
        Self::ALL
            .into_iter()
            .find(|name| name.as_str() == text)
            .ok_or(ParseServiceNameError)
    }
}
