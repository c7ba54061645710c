//! A plan: what tenants of one kind may use.

pub(crate) mod actions;
pub(crate) mod rpc;
pub(crate) mod spread;
pub(crate) mod store;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use rowhouse_types::{Etag, Limits, TenantId, Text};

/// Characters of a plan's name at most.
const NAME_CHARS_MAX: usize = 40;

/// The plan that is there from the beginning.
const STANDARD: &str = "standard";

/// Name of a plan for people.
pub(crate) type DisplayName = Text<200>;

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) name: PlanName,
    /// As it was accepted once.
    pub(crate) display_name: String,
    pub(crate) limits: Limits,
    pub(crate) etag: Etag,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// A plan to be created.
#[derive(Clone, Debug)]
pub(crate) struct NewPlan {
    pub(crate) name: PlanName,
    pub(crate) display_name: DisplayName,
    pub(crate) limits: Limits,
}

/// A change of a plan: what is absent stays.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) name: PlanName,
    pub(crate) display_name: Option<DisplayName>,
    pub(crate) limits: Option<Limits>,
    /// The etag that the plan must still have.
    pub(crate) etag: Option<Etag>,
}

/// Which plan a tenant has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TenantPlan {
    pub(crate) tenant: TenantId,
    pub(crate) plan: PlanName,
    pub(crate) overrides: Limits,
    /// What holds.
    pub(crate) limits: Limits,
}

/// Name of a plan: 1 to 40 of `a-z`, `0-9` and `-`, beginning with a letter.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct PlanName {
    name: String,
}

// === impl PlanName ===

impl PlanName {
    /// The plan of a tenant for which none is named.
    pub(crate) fn standard() -> Self {
        let name = STANDARD.to_owned();
        Self { name }
    }

    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.name
    }
}

impl FromStr for PlanName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
        if starts && text.len() <= NAME_CHARS_MAX && text.chars().all(known) {
            Ok(Self { name: text.to_owned() })
        } else {
            Err("must be 1 to 40 of a-z, 0-9 and '-', beginning with a letter")
        }
    }
}

impl fmt::Display for PlanName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
