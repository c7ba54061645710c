//! Passwords in the form in which they are compared: `OpaqueString` of PRECIS (RFC 8265, 4.2), so that it makes no difference with
//! which keyboard or system somebody types theirs. Its NFC is the one that NIST SP 800-63B-4 (3.1.1.2) asks for.
//!
//! A letter that is in no Unicode yet may have another form some day. What was typed is then compared as it is, as older texts are.

use unicode_normalization::UnicodeNormalization as _;

/// The text as RFC 8265 (4.2.2) has it: each white space is a blank, and letters are composed (NFC). Neither case nor width is
/// changed, which would make passwords easier to guess.
pub(super) fn normal(text: &str) -> String {
    let blank = |letter: char| if is_space(letter) { ' ' } else { letter };
    text.chars().map(blank).nfc().collect()
}

/// Whether a character is of Unicode's category Zs. Tabs and ends of lines are not.
fn is_space(letter: char) -> bool {
    matches!(
        letter,
        ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_password_has_one_form_however_it_is_typed() {
        for (typed, form) in [
            ("zwo\u{308}lf", "zw\u{f6}lf"),
            ("a\u{a0}b\u{3000}c\u{2003}d", "a b c d"),
            // The sign of the angstrom, and marks in another order.
            ("\u{212b}", "\u{c5}"),
            ("q\u{307}\u{323}", "q\u{323}\u{307}"),
            // Hangul, letter by letter.
            ("\u{1112}\u{1161}\u{11ab}", "\u{d55c}"),
        ] {
            assert_eq!(normal(typed), form, "{typed:?}");
        }
    }

    #[test]
    fn what_makes_a_password_another_stays() {
        for text in [
            "",
            "Zw\u{f6}lf",
            " two  blanks ",
            "a\tb\r\n",
            "\u{ff41}\u{fb01}",
            "\u{200b}\u{200d}",
            "\u{1f6aa}",
        ] {
            assert_eq!(normal(text), text, "{text:?}");
        }
    }

    #[test]
    fn forms_do_not_change_again() {
        for text in ["zwo\u{308}lf", "\u{2000}\u{308}", "\u{1d160}", "\u{3000}"] {
            assert_eq!(normal(&normal(text)), normal(text), "{text:?}");
        }
    }
}
