//! Operators who act as a member: a session of the member's that names who has opened it, and why.
//!
//! Its tokens say so too (`act`), and whoever judges them asks for the operator and the operator's own session besides: their
//! end is a change of these rights like any other, so it holds at once.

pub(crate) mod actions;
mod rpc;
mod store;
mod wire;

use std::time::Duration;

use chrono::{DateTime, Utc};
use rowhouse_context::Impersonator;
use rowhouse_types::{SessionId, TenantId, Text, UserId};

pub(crate) use rpc::ImpersonationRpc;
#[cfg(test)]
pub(crate) use store::STATEMENTS;

#[cfg(test)]
mod tests;

/// How long it lasts where nothing is said, at least, and at most: long enough to look into a complaint.
const LASTS: Duration = Duration::from_secs(15 * 60);
const LASTS_MIN: Duration = Duration::from_secs(60);
const LASTS_MAX: Duration = Duration::from_secs(60 * 60);

/// Why.
pub(crate) type Reason = Text<500>;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) reason: Reason,
    pub(crate) lasts: Duration,
}

/// A session as a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) session: SessionId,
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) by: Impersonator,
    pub(crate) ends: DateTime<Utc>,
}

/// A session as a member that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) session: SessionId,
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) operator: UserId,
    pub(crate) address: Option<String>,
    pub(crate) began: DateTime<Utc>,
    pub(crate) ends: DateTime<Utc>,
}

/// A session that was opened, with a token.
pub(crate) struct Impersonation {
    pub(crate) opened: Opened,
    pub(crate) access_token: String,
    pub(crate) expires: DateTime<Utc>,
}
