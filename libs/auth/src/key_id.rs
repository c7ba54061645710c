//! Which key has signed a token.

use std::fmt;
use std::str::FromStr;

/// Longest key id, in bytes.
const BYTES_MAX: usize = 64;

/// The `kid` of a token's header (RFC 7515, section 4.1.4): at most 64 visible characters of ASCII. It is kept in place, so
/// that it is as cheap to pass on as a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId {
    length: u8,
    /// Zero behind `length`.
    bytes: [u8; BYTES_MAX],
}

/// The text cannot be a key's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {BYTES_MAX} visible characters of ASCII")]
pub struct ParseKeyIdError;

// === impl KeyId ===

impl KeyId {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let text = self.bytes.get(..usize::from(self.length));
        text.and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }
}

impl FromStr for KeyId {
    type Err = ParseKeyIdError;

    fn from_str(text: &str) -> Result<Self, ParseKeyIdError> {
        let mut bytes = [0; BYTES_MAX];
        let place = bytes.get_mut(..text.len()).ok_or(ParseKeyIdError)?;
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ParseKeyIdError);
        }
        place.copy_from_slice(text.as_bytes());
        let length = u8::try_from(text.len()).map_err(|_| ParseKeyIdError)?;
        Ok(Self { length, bytes })
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_visible_text_is_an_id_and_is_read_back() {
        let longest = "k".repeat(BYTES_MAX);
        for text in ["k", "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", &longest] {
            assert_eq!(text.parse::<KeyId>().map(|id| id.to_string()), Ok(text.to_owned()));
        }
        let long = "k".repeat(BYTES_MAX + 1);
        for text in ["", " ", "a b", "k\n", "\u{0}", "schl\u{fc}ssel", &long] {
            assert_eq!(text.parse::<KeyId>(), Err(ParseKeyIdError), "{text:?}");
        }
        assert_ne!("ab".parse::<KeyId>(), "a".parse::<KeyId>());
    }
}
