//! What a principal may do, and the protocol by which a change of that is acknowledged only when nobody honours the
//! old rights any more.
//!
//! The protocol has three parts, all kept in the database, so that any number of auth processes play them together:
//!
//! - **The clock** is one row. A change of rights adds one to it in its own transaction, and notes whose rights changed.
//! - **Leases**: a process that verifies tokens may use cached rights only while its lease lasts (2 s). It renews the
//!   lease by saying up to which version it has dropped what changed.
//! - **The acknowledgement**: after its commit, a change at version `v` waits until every lease that has not run out has
//!   confirmed `v`.
//!
//! Why nothing slips through: a renewal reads the clock's row `FOR SHARE` in the statement that extends the lease. The
//! change updates that row, so the two exclude each other until one of them has committed. If the renewal commits
//! first, the change's wait begins after its own commit and sees the extended lease, with a version below `v`. If the
//! change commits first, the renewal reads `v` or more and hands out what changed. There is no third order.
//!
//! A lease that has run out in the snapshot of the wait may have been renewed since. That renewal came after the
//! change's commit, so its answer tells of the change; and until the answer arrives the holder, which counts from
//! before it asked, does not trust its cache. PostgreSQL's clock alone decides when a lease has run out here.
//!
//! SQL has no clock that only goes forward, so it is the calendar's (`clock_timestamp()`). Where that is set forward, leases run
//! out here that their holders still count on, for the rest of their two seconds. The README says what this asks of whoever
//! runs the database.

pub(crate) mod actions;
mod clock;
mod rpc;
mod source;
mod store;
mod wire;

use std::time::Duration;

use rowhouse_auth_kit::{Grants, KeyId, Role};
use rowhouse_context::{Impersonator, Owners, Principal};
use rowhouse_types::{SessionId, TenantId, UserId};
use uuid::Uuid;

use crate::tenant::Access;
pub(crate) use clock::{Clock, watch};
pub(crate) use rpc::RightsRpc;
pub(crate) use source::OwnRights;
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::{bump, prune, read};

/// How long a lease lasts.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// Longest long poll of a renewal.
pub(crate) const WAIT_MAX: Duration = Duration::from_millis(500);

/// Most changes told one by one; who is further behind drops everything.
pub(crate) const CHANGES_MAX: i64 = 1_000;

/// A version of the rights: position of a change in the order of commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) i64);

/// Whose rights are asked for, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query {
    pub(crate) user: UserId,
    /// The log-in; absent in delegated tokens.
    pub(crate) session: Option<SessionId>,
    /// The tenant to act in; absent on the platform itself.
    pub(crate) tenant: Option<TenantId>,
    /// Whether the person acts as a platform operator.
    pub(crate) platform: bool,
    /// The key that has signed the token; absent where no token is asked about.
    pub(crate) key: Option<KeyId>,
    /// The operator who acts as the person.
    pub(crate) by: Option<Impersonator>,
}

/// Whether a principal may act at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    Revoked,
    TenantSuspended,
    TenantUnknown,
    /// The tenant's policy asks for a second factor, which was not shown in the session.
    SecondFactorNotShown,
    /// The key that has signed the token was revoked; the session goes on with another token.
    KeyRevoked,
}

/// What a principal may do, as of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) version: Version,
    pub(crate) standing: Standing,
    /// Name of the role held; none without good standing.
    pub(crate) role: Option<String>,
    /// What the role gives; nothing without good standing.
    pub(crate) grants: Grants,
    /// Whose records a grant with `@team` reaches beside one's own.
    pub(crate) team: Owners,
}

/// A role that somebody holds, and what it gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) role: String,
    pub(crate) grants: Grants,
}

/// What the database says about a [`Query`], all read in one snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) version: Version,
    pub(crate) identity_active: bool,
    /// The session exists, belongs to this person and this tenant, was not revoked, and has not expired, by its own end or
    /// by the tenant's policy.
    pub(crate) session_live: bool,
    /// The tenant's policy asks for a second factor, which was not shown in the session.
    pub(crate) second_factor_lacks: bool,
    /// The key that has signed the token is one of ours and was not revoked; true where none is asked about.
    pub(crate) key_good: bool,
    /// Role of an active membership.
    pub(crate) member: Option<Held>,
    /// Role on the platform.
    pub(crate) operator: Option<Held>,
    pub(crate) access: Option<Access>,
    /// Who is in the member's teams and beneath those that they manage; nobody where the role gives nothing with `@team`.
    pub(crate) team: Owners,
}

/// Something whose rights changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Tenant(TenantId),
    User(UserId),
    Session(SessionId),
    /// What this key has signed.
    SigningKey(KeyId),
}

/// A renewal of a lease.
#[derive(Clone, Debug)]
pub(crate) struct Renewal {
    pub(crate) instance: Uuid,
    pub(crate) service: &'static str,
    pub(crate) confirmed: Version,
    pub(crate) wait: Duration,
}

/// What changed since a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) version: Version,
    pub(crate) subjects: Vec<String>,
    /// The changes are no longer known one by one.
    pub(crate) drop_all: bool,
}

// === impl Query ===

impl Query {
    /// The query about a caller. `within`: the tenant to act in, where an operator has named one; a member's and a
    /// delegate's is their token's. `None` for callers who are no person.
    pub(crate) fn of(principal: &Principal, within: Option<TenantId>) -> Option<Self> {
        match principal {
            Principal::Member { user, session, tenant } => Some(Self {
                user: *user,
                session: Some(*session),
                tenant: Some(*tenant),
                platform: false,
                key: None,
                by: None,
            }),
            Principal::Impersonated {
                user,
                session,
                tenant,
                by,
            } => Some(Self {
                user: *user,
                session: Some(*session),
                tenant: Some(*tenant),
                platform: false,
                key: None,
                by: Some(*by),
            }),
            Principal::Operator { user, session } => Some(Self {
                user: *user,
                session: Some(*session),
                tenant: within,
                platform: true,
                key: None,
                by: None,
            }),
            Principal::Delegate {
                user, tenant, operator, ..
            } => Some(Self {
                user: *user,
                session: None,
                tenant: Some(*tenant),
                platform: *operator,
                key: None,
                by: None,
            }),
            Principal::Anonymous | Principal::Service { .. } => None,
        }
    }
}

// === impl Rights ===

impl Rights {
    /// Judges the facts. Who is revoked is not told what state the tenant is in.
    pub(crate) fn judge(query: &Query, facts: &Facts) -> Self {
        let (held, access_needed) = if query.platform {
            (&facts.operator, query.tenant.is_some())
        } else {
            (&facts.member, true)
        };
        let ended = !facts.identity_active || (query.session.is_some() && !facts.session_live) || held.is_none();
        let standing = match facts.access {
            // Others may have signed by such a key whatever they like: nobody is held to what it says.
            _ if !facts.key_good => Standing::KeyRevoked,
            _ if ended => Standing::Revoked,
            Some(Access::Suspended) if access_needed => Standing::TenantSuspended,
            Some(Access::Pending) | None if access_needed => Standing::TenantUnknown,
            _ if facts.second_factor_lacks => Standing::SecondFactorNotShown,
            _ => Standing::Good,
        };
        let held = held.clone().filter(|_| standing == Standing::Good);
        let has_team = held.is_some() && !query.platform;
        let (role, grants) = held.map(|held| (held.role, held.grants)).unzip();
        Self {
            version: facts.version,
            standing,
            role,
            grants: grants.unwrap_or_default(),
            team: if has_team {
                facts.team.clone()
            } else {
                Owners::from_iter([])
            },
        }
    }
}

// === impl Held ===

impl From<Role> for Held {
    fn from(role: Role) -> Self {
        Self {
            role: role.to_string(),
            grants: role.grants(),
        }
    }
}

// === impl Subject ===

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tenant(id) => id.fmt(f),
            Self::User(id) => id.fmt(f),
            Self::Session(id) => id.fmt(f),
            Self::SigningKey(id) => write!(f, "signing_key:{id}"),
        }
    }
}

#[cfg(test)]
mod tests;
