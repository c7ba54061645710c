//! Request ids.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

/// Longest request id that is taken from a client, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 64;

/// The id of a request: 1 to 64 of `A-Z a-z 0-9 . _ : -`. Nothing in it can break a log line or a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    /// Shared: whatever has to do with a call keeps a copy.
    id: Arc<str>,
}

/// The text is not a request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {REQUEST_ID_BYTES_MAX} of A-Z a-z 0-9 . _ : -")]
pub struct ParseRequestIdError;

// === impl RequestId ===

impl RequestId {
    /// A new id.
    #[must_use]
    pub fn generate() -> Self {
        let mut text = Uuid::encode_buffer();
        let text: &str = Uuid::now_v7().hyphenated().encode_lower(&mut text);
        Self { id: text.into() }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.id
    }
}

impl FromStr for RequestId {
    type Err = ParseRequestIdError;

    fn from_str(text: &str) -> Result<Self, ParseRequestIdError> {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
        if (1..=REQUEST_ID_BYTES_MAX).contains(&text.len()) && text.chars().all(known) {
            Ok(Self { id: text.into() })
        } else {
            Err(ParseRequestIdError)
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_break_a_log_line_is_refused() {
        for text in ["", "a b", "a\r\nb", "\u{1b}[31m", "\u{e4}", &"a".repeat(65)] {
            assert_eq!(text.parse::<RequestId>(), Err(ParseRequestIdError), "{text:?}");
        }
        assert!("00-abc.DEF:1_2".parse::<RequestId>().is_ok());
    }
}
