//! Platform operators: the first, others, and their end. Each leaves its trace in the platform's audit log.
//!
//! `OperatorService` is for operators. `command` is for whoever may run the process beside its database: it makes the first one,
//! and is the way back on the day on which no operator can log in. Both do it by the same `actions`. An operator who makes another
//! shows the password again, and the second factor where they have one; the command asks for neither, since whoever runs it has the
//! database. Either way `notices` tells all operators.

mod actions;
pub(crate) mod command;
mod notices;
mod rpc;
mod store;
mod wire;

use chrono::{DateTime, Utc};
use rowhouse_types::{Email, SessionId, TenantId, Text, UserId};

use crate::handed_on::EndedEverywhere;
use crate::identity::OfferedPassword;
use crate::second_factor::Code;
pub(crate) use rpc::OperatorRpc;
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::{hold, is_operator};

#[cfg(test)]
mod tests;

/// Why somebody becomes an operator, or is one no more.
pub(crate) type Reason = Text<500>;

/// An account that has the role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operator {
    pub(crate) user: UserId,
    pub(crate) email: String,
    pub(crate) display_name: String,
    pub(crate) disabled: bool,
    pub(crate) granted: DateTime<Utc>,
}

/// Somebody whom an operator makes one, and what shows that it is the operator who asks and not a thief of their token.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) email: Email,
    pub(crate) reason: Reason,
    /// The caller's own password.
    pub(crate) current: OfferedPassword,
    /// Of the caller's second factor, where one was sent.
    pub(crate) code: Option<Code>,
}

/// What ended with the role.
struct Ended {
    handed_on: EndedEverywhere,
    sessions: Vec<EndedSession>,
}

/// A session that ended with the role.
struct EndedSession {
    session: SessionId,
    /// Whose it was, where the operator acted as a member.
    as_member: Option<(TenantId, UserId)>,
}
