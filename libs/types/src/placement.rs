//! Where a tenant's rows live, and what its home allows.

use std::fmt;
use std::str::FromStr;

/// How a tenant's rows are kept apart from others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// A schema of its own in a database shared with other tenants.
    Schema,
    /// Rows beside other tenants' rows, behind forced row-level security.
    Shared,
    /// A database of its own.
    Database,
}

/// What a tenant's home allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HomeState {
    /// Reads and writes.
    Active,
    /// Reads.
    #[serde(rename = "read_only")]
    ReadOnly,
    /// Nothing.
    Frozen,
    /// Nothing: it was built ahead and waits for its tenant.
    Spare,
}

/// Registered name of a data server: 1 to 40 of `a-z`, `0-9` and `-`, beginning with a letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ServerName {
    name: String,
}

/// The text is not one of the known words or names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what}")]
pub struct ParsePlacementError {
    what: &'static str,
}

// === impl Placement ===

impl Placement {
    /// The word for it in databases and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Shared => "shared",
            Self::Database => "database",
        }
    }
}

impl FromStr for Placement {
    type Err = ParsePlacementError;

    fn from_str(text: &str) -> Result<Self, ParsePlacementError> {
        match text {
            "schema" => Ok(Self::Schema),
            "shared" => Ok(Self::Shared),
            "database" => Ok(Self::Database),
            _ => Err(ParsePlacementError { what: "placement" }),
        }
    }
}

// === impl HomeState ===

impl HomeState {
    /// The word for it in databases and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::ReadOnly => "read_only",
            Self::Frozen => "frozen",
            Self::Spare => "spare",
        }
    }
}

impl FromStr for HomeState {
    type Err = ParsePlacementError;

    fn from_str(text: &str) -> Result<Self, ParsePlacementError> {
        match text {
            "active" => Ok(Self::Active),
            "read_only" => Ok(Self::ReadOnly),
            "frozen" => Ok(Self::Frozen),
            "spare" => Ok(Self::Spare),
            _ => Err(ParsePlacementError { what: "home state" }),
        }
    }
}

// === impl ServerName ===

impl ServerName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl FromStr for ServerName {
    type Err = ParsePlacementError;

    fn from_str(text: &str) -> Result<Self, ParsePlacementError> {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
        if starts && text.len() <= 40 && text.chars().all(known) {
            Ok(Self { name: text.to_owned() })
        } else {
            Err(ParsePlacementError { what: "server name" })
        }
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
