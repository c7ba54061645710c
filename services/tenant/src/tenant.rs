//! A tenant: one organisation that uses the suite.

pub(crate) mod actions;
pub(crate) mod rpc;
pub(crate) mod store;
pub(crate) mod wire;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use rowhouse_types::{Email, Etag, IdempotencyKey, Placement, ServerName, Slug, TenantId, Text};

use crate::error::{Error, Result};
use crate::plan::PlanName;
use crate::server::Wish;

/// Name of an organisation.
pub(crate) type DisplayName = Text<200>;

/// Why an operator does something, for the audit log.
pub(crate) type Reason = Text<500>;

/// One organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    /// As it was accepted once; not parsed again, so that a word reserved later makes no tenant unreadable.
    pub(crate) slug: String,
    /// As it was accepted once, like the slug.
    pub(crate) display_name: String,
    pub(crate) state: State,
    pub(crate) placement: Placement,
    pub(crate) server: ServerName,
    pub(crate) etag: Etag,
    /// Set from the moment its deletion is accepted, until it is undeleted.
    pub(crate) deletion: Option<Deletion>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// That a tenant was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deletion {
    pub(crate) deleted_at: DateTime<Utc>,
    /// Until when it can be undeleted.
    pub(crate) purge_at: DateTime<Utc>,
}

/// A tenant to be created.
#[derive(Clone, Debug)]
pub(crate) struct NewTenant {
    pub(crate) slug: Slug,
    pub(crate) display_name: DisplayName,
    pub(crate) server: Wish,
    pub(crate) plan: PlanName,
    pub(crate) administrator: Email,
    /// Chosen by the client; makes the call repeatable.
    pub(crate) request: Option<IdempotencyKey>,
}

/// A change of a tenant.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) id: TenantId,
    pub(crate) display_name: DisplayName,
    /// The etag that the tenant must still have.
    pub(crate) etag: Option<Etag>,
}

/// Where a tenant is in its life. The README draws it; a trigger of the database holds it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its home is being built.
    Provisioning,
    /// In use.
    Active,
    /// Being suspended.
    Suspending,
    /// Refused everywhere.
    Suspended,
    /// Being resumed.
    Resuming,
    /// Becoming read-only.
    Restricting,
    /// Its data can be read and not changed.
    ReadOnly,
    /// Being deleted.
    Deleting,
    /// Refused everywhere, until it is undeleted.
    Deleted,
    /// Being undeleted.
    Undeleting,
    /// What there is of it is being removed.
    Purging,
    /// Only its name and the record of its purge are left.
    Purged,
}

/// The text is not a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown state")]
pub(crate) struct ParseStateError;

// === impl Tenant ===

impl Tenant {
    /// Refuses a change of a tenant that is going or gone.
    pub(crate) fn must_be_kept(&self) -> Result<()> {
        if !matches!(self.state, State::Purging | State::Purged) {
            return Ok(());
        }
        Err(Error::StateForbids {
            id: self.id,
            state: self.state,
            wanted: "changed",
        })
    }
}

// === impl State ===

impl State {
    /// All of them.
    pub(crate) const ALL: [Self; 12] = [
        Self::Provisioning,
        Self::Active,
        Self::Suspending,
        Self::Suspended,
        Self::Resuming,
        Self::Restricting,
        Self::ReadOnly,
        Self::Deleting,
        Self::Deleted,
        Self::Undeleting,
        Self::Purging,
        Self::Purged,
    ];

    /// Whether a tenant may go from this state to `next`.
    #[cfg(test)]
    pub(crate) fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Provisioning | Self::Resuming | Self::Undeleting, Self::Active)
                | (Self::Active, Self::Restricting)
                | (Self::Restricting, Self::ReadOnly)
                | (Self::Active | Self::ReadOnly, Self::Suspending)
                | (Self::Suspending, Self::Suspended)
                | (Self::ReadOnly | Self::Suspended, Self::Resuming)
                | (Self::Active | Self::ReadOnly | Self::Suspended, Self::Deleting)
                | (Self::Deleting, Self::Deleted)
                | (Self::Deleted, Self::Undeleting | Self::Purging)
                | (Self::Purging, Self::Purged)
        )
    }

    /// The word for it in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Active => "active",
            Self::Suspending => "suspending",
            Self::Suspended => "suspended",
            Self::Resuming => "resuming",
            Self::Restricting => "restricting",
            Self::ReadOnly => "read_only",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
            Self::Undeleting => "undeleting",
            Self::Purging => "purging",
            Self::Purged => "purged",
        }
    }
}

impl FromStr for State {
    type Err = ParseStateError;

    fn from_str(text: &str) -> Result<Self, ParseStateError> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(ParseStateError)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
