//! Etags: a resource's revision as text that clients send back unread.

use std::fmt;
use std::str::FromStr;

/// The revision of a resource. It grows by one with every change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Etag {
    revision: i64,
}

/// The text is not an etag that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an etag as returned with the resource")]
pub struct ParseEtagError;

// === impl Etag ===

impl Etag {
    /// The etag of a revision, as read from a database.
    #[must_use]
    pub fn from_revision(revision: i64) -> Self {
        Self { revision }
    }

    /// The revision, as stored in a database.
    #[must_use]
    pub fn revision(self) -> i64 {
        self.revision
    }
}

impl FromStr for Etag {
    type Err = ParseEtagError;

    fn from_str(text: &str) -> Result<Self, ParseEtagError> {
        let digits = text.strip_prefix("r").ok_or(ParseEtagError)?;
        let revision = i64::from_str_radix(digits, 16).map_err(|_| ParseEtagError)?;
        let etag = Self { revision };
        if revision >= 0 && etag.to_string() == text {
            Ok(etag)
        } else {
            Err(ParseEtagError)
        }
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{:x}", self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back_and_nothing_else_is() {
        assert_eq!("r1f".parse(), Ok(Etag::from_revision(31)));
        for text in ["", "r", "31", "r01", "r-1", "R1", "r1F", "rffffffffffffffff"] {
            assert_eq!(text.parse::<Etag>(), Err(ParseEtagError), "{text:?}");
        }
    }
}
