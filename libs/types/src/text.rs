//! Bounded text: what people type into one-line fields.

use std::fmt;

/// One line of text without control characters, trimmed, of at most `MAX` characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Text<const MAX: usize> {
    text: String,
}

/// Why a text is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseTextError {
    /// Nothing but white space where something is required.
    #[error("must not be empty")]
    Empty,
    /// Too many characters.
    #[error("must be at most {max} characters")]
    TooLong {
        /// The bound, in characters.
        max: usize,
    },
    /// A control character, a line break, or a character that reverses the direction of what follows.
    #[error("must not contain control characters")]
    Control,
}

// === impl Text ===

impl<const MAX: usize> Text<MAX> {
    /// Reads a text that may be empty.
    ///
    /// # Errors
    /// [`ParseTextError::TooLong`] over `MAX` characters; [`ParseTextError::Control`] for NUL, line breaks, other
    /// control characters and bidirectional overrides (Unicode UAX 9), with which a name can pose as another.
    pub fn parse_optional(text: &str) -> Result<Self, ParseTextError> {
        let text = text.trim();
        let overrides = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if text.chars().any(|c| c.is_control() || overrides(c)) {
            return Err(ParseTextError::Control);
        }
        if text.chars().count() > MAX {
            return Err(ParseTextError::TooLong { max: MAX });
        }
        Ok(Self { text: text.to_owned() })
    }

    /// Reads a text that must not be empty.
    ///
    /// # Errors
    /// As [`Text::parse_optional`], and [`ParseTextError::Empty`].
    pub fn parse_required(text: &str) -> Result<Self, ParseTextError> {
        let text = Self::parse_optional(text)?;
        if text.text.is_empty() {
            Err(ParseTextError::Empty)
        } else {
            Ok(text)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_and_not_bytes() {
        assert!(Text::<3>::parse_required("\u{e4}\u{f6}\u{fc}").is_ok());
        assert_eq!(
            Text::<3>::parse_required("abcd"),
            Err(ParseTextError::TooLong { max: 3 })
        );
    }

    #[test]
    fn empty_and_control_are_refused() {
        assert_eq!(Text::<9>::parse_required("  "), Err(ParseTextError::Empty));
        for text in ["a\0b", "a\nb", "a\u{202e}b", "\u{1b}[1m"] {
            assert_eq!(
                Text::<9>::parse_optional(text),
                Err(ParseTextError::Control),
                "{text:?}"
            );
        }
    }
}
