//! A report: a file made of a tenant's records, in the background.

pub(crate) mod actions;
pub(crate) mod contacts;
mod csv;
mod owners;
pub(crate) mod rpc;
pub(crate) mod store;
mod wire;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use rowhouse_types::{IdempotencyKey, ReportId, TenantId, UserId};

pub(crate) use owners::FileOwners;

/// What a report contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All contacts that are not deleted.
    Contacts,
}

/// How far a report is. It goes down this list and never back, except from running to running by another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Queued,
    Running,
    Succeeded,
    Failed,
}

/// A report.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    pub(crate) tenant: TenantId,
    pub(crate) id: ReportId,
    pub(crate) kind: Kind,
    pub(crate) state: State,
    pub(crate) requester: UserId,
    /// Whether the requester acted as a platform operator.
    pub(crate) platform: bool,
    /// Why an operator did.
    pub(crate) reason: Option<String>,
    pub(crate) progress_percent: i32,
    pub(crate) row_count: i64,
    pub(crate) size_bytes: i64,
    /// Where the file is, once it is there.
    pub(crate) file: Option<String>,
    /// Why it failed, for people.
    pub(crate) failure: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
}

/// What the requester reads where every attempt failed. Why they did is for operators.
pub(crate) const GIVEN_UP: &str = "the report could not be made; please try again later";

/// A report that somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NewReport {
    pub(crate) kind: Kind,
    /// Makes the call repeatable.
    pub(crate) request: Option<IdempotencyKey>,
}

/// A stored word that this code does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {0} of a report")]
pub(crate) struct ParseWordError(&'static str);

// === impl Kind ===

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Contacts => "contacts",
        }
    }
}

impl FromStr for Kind {
    type Err = ParseWordError;

    fn from_str(word: &str) -> Result<Self, ParseWordError> {
        match word {
            "contacts" => Ok(Self::Contacts),
            _ => Err(ParseWordError("kind")),
        }
    }
}

// === impl State ===

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

impl FromStr for State {
    type Err = ParseWordError;

    fn from_str(word: &str) -> Result<Self, ParseWordError> {
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or(ParseWordError("state"))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
