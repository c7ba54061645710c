//! A data server: a PostgreSQL that holds tenants' rows, as the directory knows it.

pub(crate) mod actions;
pub(crate) mod rpc;
pub(crate) mod store;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use rowhouse_types::{Etag, Placement, ServerName};

/// Tenants of a server where nobody says: what keeps PostgreSQL's catalogue of such tenants' tables in memory on a
/// machine of middling size.
const TENANTS_MAX_DEFAULT: i32 = 5_000;

/// Tenants of a server at most.
const TENANTS_MAX_MAX: i32 = 1_000_000;

/// Labels of a server, or asked for, at most.
const LABELS_MAX: usize = 16;

/// Characters of a label's key, and of its value, at most; as in Kubernetes.
const LABEL_CHARS_MAX: usize = 63;

/// Characters of an address at most: a host name has 253 (RFC 1035).
const ADDRESS_CHARS_MAX: usize = 255;

/// A registered data server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) traits: Traits,
    pub(crate) state: State,
    /// Tenants that it has.
    pub(crate) tenants: i32,
    pub(crate) etag: Etag,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// What an operator says of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Traits {
    pub(crate) name: ServerName,
    pub(crate) address: Address,
    pub(crate) labels: Labels,
    /// Never empty, each once, in the order of [`PLACEMENTS`].
    pub(crate) placements: Vec<Placement>,
    pub(crate) tenants_max: Capacity,
}

/// A change of a server: what is absent stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) name: ServerName,
    pub(crate) address: Option<Address>,
    pub(crate) labels: Option<Labels>,
    pub(crate) placements: Option<Vec<Placement>>,
    pub(crate) tenants_max: Option<Capacity>,
    /// The etag that the server must still have.
    pub(crate) etag: Option<Etag>,
}

/// What a tenant needs of its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) placement: Placement,
    pub(crate) labels: Labels,
}

/// What a server is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// New tenants are placed on it.
    Active,
    /// No new tenant is.
    Draining,
}

/// `host:port`, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Address {
    text: String,
}

/// What sets servers apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub(crate) struct Labels {
    pairs: BTreeMap<String, String>,
}

/// How many tenants a server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    tenants: i32,
}

/// Every placement, in the order in which they are kept.
pub(crate) const PLACEMENTS: [Placement; 3] = [Placement::Schema, Placement::Shared, Placement::Database];

// === impl State ===

impl State {
    /// The word for it in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
        }
    }
}

impl FromStr for State {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "active" => Ok(Self::Active),
            "draining" => Ok(Self::Draining),
            _ => Err("unknown state of a server"),
        }
    }
}

// === impl Address ===

impl Address {
    /// The text; empty where nobody said.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const FAULT: &str = "must be host:port, or empty";
        // Whatever could be a credential has no place here: operators read addresses.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        let is_address = match text.rsplit_once(':') {
            Some((host, port)) => !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0),
            None => text.is_empty(),
        };
        if is_address && text.len() <= ADDRESS_CHARS_MAX && text.chars().all(plain) {
            Ok(Self { text: text.to_owned() })
        } else {
            Err(FAULT)
        }
    }
}

// === impl Labels ===

impl Labels {
    /// Reads labels.
    ///
    /// # Errors
    /// What is wrong with the first that is.
    pub(crate) fn parse(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, &'static str> {
        let of = |text: &str, upper: bool| {
            let known = |c: char| {
                c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c) || upper && c.is_ascii_uppercase()
            };
            (1..=LABEL_CHARS_MAX).contains(&text.len()) && text.chars().all(known)
        };
        let pairs: BTreeMap<String, String> = pairs.into_iter().collect();
        if pairs.len() > LABELS_MAX {
            return Err("must be at most 16");
        }
        for (key, value) in &pairs {
            if !of(key, false) || !key.starts_with(|c: char| c.is_ascii_lowercase()) {
                return Err("must have keys of 1 to 63 of a-z, 0-9, '-', '_' and '.', beginning with a letter");
            }
            if !of(value, true) {
                return Err("must have values of 1 to 63 of a-z, A-Z, 0-9, '-', '_' and '.'");
            }
        }
        Ok(Self { pairs })
    }

    /// The labels, by key.
    pub(crate) fn pairs(&self) -> &BTreeMap<String, String> {
        &self.pairs
    }
}

// === impl Capacity ===

impl Default for Capacity {
    fn default() -> Self {
        Self {
            tenants: TENANTS_MAX_DEFAULT,
        }
    }
}

impl Capacity {
    /// Reads a number of tenants; the default for 0.
    ///
    /// # Errors
    /// When it is below 0 or above 1,000,000.
    pub(crate) fn parse_or_default(tenants: i32) -> Result<Self, &'static str> {
        if tenants == 0 {
            return Ok(Self::default());
        }
        Self::parse(tenants)
    }

    /// Reads a number of tenants.
    ///
    /// # Errors
    /// When it is below 1 or above 1,000,000.
    pub(crate) fn parse(tenants: i32) -> Result<Self, &'static str> {
        if (1..=TENANTS_MAX_MAX).contains(&tenants) {
            Ok(Self { tenants })
        } else {
            Err("must be 1 to 1,000,000")
        }
    }

    /// The number.
    pub(crate) fn tenants(self) -> i32 {
        self.tenants
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
