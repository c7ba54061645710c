//! Bounded text: what people type into one-line fields, and into `x-reason`.

use std::fmt;

/// Tags behind a black flag at most: two of a country, four of its part (Unicode, LDML, `unicode_subdivision_id`), and the end.
const FLAG_TAGS_MAX: usize = 7;

/// One line of text, trimmed, of at most `MAX` characters, none of them one that [`is_unseen`], nor a tag outside a flag. What
/// shows nothing at all is the empty text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Text<const MAX: usize> {
    text: String,
}

/// Why a text is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseTextError {
    /// Nothing that can be seen where something is required.
    #[error("must not be empty")]
    Empty,
    /// Too many characters.
    #[error("must be at most {max} characters")]
    TooLong {
        /// The bound, in characters.
        max: usize,
    },
    /// A character that [`is_unseen`], or a tag outside a flag.
    #[error(
        "must not contain control characters, line breaks, changes of direction, U+200B, U+2060 to U+206F, U+FEFF, U+FFF9 to \
         U+FFFB, or tags (U+E0000 to U+E007F) outside a flag"
    )]
    Unseen,
}

// === impl Text ===

impl<const MAX: usize> Text<MAX> {
    /// Reads a text that may be empty.
    ///
    /// # Errors
    /// [`ParseTextError::TooLong`] over `MAX` characters; [`ParseTextError::Unseen`] for NUL, line breaks and other characters
    /// that [`is_unseen`], and for tags outside a flag, with which a name can pose as another.
    pub fn parse_optional(text: &str) -> Result<Self, ParseTextError> {
        let text = text.trim();
        if text.chars().any(is_unseen) || has_hidden_tags(text) {
            return Err(ParseTextError::Unseen);
        }
        if text.chars().count() > MAX {
            return Err(ParseTextError::TooLong { max: MAX });
        }
        let text = if text.chars().all(is_blank) { "" } else { text };
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

    /// Takes a text that was parsed before it was stored. It is not parsed again: what is refused since then stays what was
    /// entered, and can be read.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self { text }
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

/// Whether a line with this character can read other than it is: controls, breaks of lines (U+2028 and U+2029 are no controls),
/// changes of direction (`Bidi_Control` of Unicode UAX 9), marks of annotations, which some fonts do not show (U+FFF9 to U+FFFB),
/// and what has no width and no task within a line (U+200B, U+2060 to U+206F, U+FEFF).
///
/// Not all that has no width is of these. Joiners (U+200C, U+200D), selectors of variants, soft hyphens and fillers stay: Persian,
/// Mongolian, old Korean and many emoji are not written without. So two names may still differ in what nobody sees.
#[must_use]
pub fn is_unseen(character: char) -> bool {
    let is_format = matches!(
        character,
        '\u{61c}'
            | '\u{200b}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
    );
    character.is_control() || is_format
}

/// Whether a text has tags (U+E0000 to U+E007F), in which a second text can stand that nobody sees, other than behind a black flag,
/// of which they make England's, Scotland's or Wales's (UTS 51, emoji tag sequences).
fn has_hidden_tags(text: &str) -> bool {
    let mut left = 0_usize;
    text.chars().any(|character| {
        let is_tag = matches!(character, '\u{e0000}'..='\u{e007f}');
        let is_hidden = is_tag && left == 0;
        left = match character {
            '\u{1f3f4}' => FLAG_TAGS_MAX,
            _ if is_tag => left.saturating_sub(1),
            _ => 0,
        };
        is_hidden
    })
}

/// Whether a character alone leaves the paper white: white space, what Unicode has fonts ignore (`Default_Ignorable_Code_Point`:
/// joiners, fillers, selectors of variants, tags), and the pattern of Braille without dots. Beside others each has its task.
fn is_blank(character: char) -> bool {
    let is_ignorable = matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200c}'..='\u{200d}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    );
    character.is_whitespace() || is_ignorable
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
    fn what_a_line_does_not_show_is_refused() {
        let controls = ["a\0b", "a\nb", "a\u{1b}[1mb", "a\u{85}b"].map(str::to_owned);
        let breaks = ['\u{2028}', '\u{2029}'];
        let directions = [
            '\u{61c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}',
        ];
        let no_width = ['\u{200b}', '\u{2060}', '\u{2065}', '\u{206f}', '\u{feff}'];
        let annotations = ['\u{fff9}', '\u{fffa}', '\u{fffb}'];
        let tags = ['\u{e0000}', '\u{e0041}', '\u{e007f}'];
        let unseen = breaks.into_iter().chain(directions).chain(no_width);
        let unseen = unseen.chain(annotations).chain(tags);
        for text in controls.into_iter().chain(unseen.map(|c| format!("a{c}b"))) {
            assert_eq!(
                Text::<9>::parse_optional(&text),
                Err(ParseTextError::Unseen),
                "{text:?}"
            );
            assert_eq!(
                Text::<9>::parse_required(&text),
                Err(ParseTextError::Unseen),
                "{text:?}"
            );
        }
        for alone in ["\u{200b}", "\u{feff}", "\u{202e}", "\u{fffb}", "\u{e0041}"] {
            assert_eq!(
                Text::<9>::parse_required(alone),
                Err(ParseTextError::Unseen),
                "{alone:?}"
            );
        }
    }

    #[test]
    fn tags_stand_in_a_flag_and_nowhere_else() {
        let scotland = "\u{1f3f4}\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}";
        for text in [scotland.to_owned(), format!("{scotland}{scotland} a")] {
            assert_eq!(Text::<40>::parse_required(&text).unwrap().as_str(), text);
        }
        let long = format!("\u{1f3f4}{}", "\u{e0061}".repeat(FLAG_TAGS_MAX + 1));
        for text in ["\u{1f3f4}a\u{e0067}".to_owned(), format!("{scotland}a\u{e0067}"), long] {
            assert_eq!(
                Text::<40>::parse_required(&text),
                Err(ParseTextError::Unseen),
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_has_a_task_within_a_line_stays() {
        for text in [
            "\u{645}\u{6cc}\u{200c}\u{631}\u{648}\u{645}",
            "\u{1f469}\u{200d}\u{1f4bb}",
            "\u{2764}\u{fe0f}",
            "Haupt\u{ad}bahn\u{ad}hof",
            "e\u{301}",
            "\u{182d}\u{180e}\u{1820}",
            "\u{115f}\u{1161}",
            "\u{845b}\u{e0100}",
        ] {
            assert_eq!(Text::<20>::parse_required(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_shows_nothing_is_empty() {
        for text in [
            "",
            "  ",
            "\u{a0}",
            "\u{200d}",
            "\u{200c} \u{fe0f}",
            "\u{3164}",
            "\u{2800}\u{ad}",
            "\u{e0100}",
        ] {
            assert_eq!(Text::<9>::parse_required(text), Err(ParseTextError::Empty), "{text:?}");
            assert_eq!(Text::<9>::parse_optional(text).unwrap().as_str(), "", "{text:?}");
        }
    }

    #[test]
    fn what_was_stored_is_read_as_it_was() {
        for text in ["a\u{200b}b", "a\u{e0041}", "\u{200d}", "abcdefghij"] {
            assert_eq!(Text::<9>::stored(text.to_owned()).as_str(), text);
        }
    }
}
