//! The end of a deleted tenant: what is removed of it, and the record of that.
//!
//! `operation` leads through it like through every other change of a state; this room keeps the record, and begins the
//! purges whose grace is over.

pub(crate) mod runner;
pub(crate) mod store;
pub(crate) mod wire;

#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use rowhouse_types::TenantId;
use serde::{Deserialize, Serialize};

/// What was removed of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Removal {
    /// Who held it: a service by its name, or `cache`.
    pub(crate) holder: String,
    /// What it was: `memberships`.
    pub(crate) kind: String,
    /// How many.
    pub(crate) count: i64,
}

/// The purge of a tenant, under way or done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Purge {
    pub(crate) tenant: TenantId,
    /// Who ordered it.
    pub(crate) actor: String,
    /// Why.
    pub(crate) reason: String,
    pub(crate) removed: Vec<Removal>,
    pub(crate) began_at: DateTime<Utc>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
}
