//! Walks over a keyboard, in whichever script its keys are labelled.
//!
//! zxcvbn sees walks on the keys of QWERTY alone, and takes a walk over three rows for three that were chosen. So a password is
//! looked at once more as the Latin letters of the same keys, and once more with its walks cut short.

/// The keys of a keyboard, row by row, as they are labelled in the United States. Each row begins half a key to the right of the
/// one above it: `q` is below `1`. The grave accent lies outside.
const KEYS: [&str; 4] = ["`1234567890-=", "qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./"];

/// The three lower rows as other scripts label them, key by key; a blank stands for a key that gives none of the script's letters.
const LAYOUTS: [[&str; 3]; 5] = [
    // Russian.
    ["йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю "],
    // Ukrainian.
    ["йцукенгшщзхї", "фівапролджє", "ячсмитьбю "],
    // Greek.
    [" ςερτυθιοπ  ", "ασδφγηξκλ  ", "ζχψωβνμ   "],
    // Hebrew, the first key to the left in the text too.
    [
        "  \u{5e7}\u{5e8}\u{5d0}\u{5d8}\u{5d5}\u{5df}\u{5dd}\u{5e4}  ",
        "\u{5e9}\u{5d3}\u{5d2}\u{5db}\u{5e2}\u{5d9}\u{5d7}\u{5dc}\u{5da}\u{5e3} ",
        "\u{5d6}\u{5e1}\u{5d1}\u{5d4}\u{5e0}\u{5de}\u{5e6}\u{5ea}\u{5e5} ",
    ],
    // Arabic. Its key of two letters gives what two others give.
    [
        "\u{636}\u{635}\u{62b}\u{642}\u{641}\u{63a}\u{639}\u{647}\u{62e}\u{62d}\u{62c}\u{62f}",
        "\u{634}\u{633}\u{64a}\u{628}\u{644}\u{627}\u{62a}\u{646}\u{645}\u{643}\u{637}",
        "\u{626}\u{621}\u{624}\u{631} \u{649}\u{629}\u{648}\u{632}\u{638}",
    ],
];

/// Letters on the key of the grave accent: Russian and Arabic.
const BESIDE_ONE: [char; 2] = ['ё', '\u{630}'];

/// From a key to its neighbours, in rows and in columns: along a row, and along both slants of the keys.
const STEPS: [(i32, i32); 6] = [(0, 1), (0, -1), (1, 0), (-1, 0), (1, -1), (-1, 1)];

/// The text with each letter of another script as the Latin letter of the same key. What is on no such key stays.
pub(super) fn latin(text: &str) -> String {
    text.chars().map(|letter| key(letter).unwrap_or(letter)).collect()
}

fn key(letter: char) -> Option<char> {
    // Whoever walks with the shift key held down has walked.
    let letter = letter.to_lowercase().next().filter(|small| !small.is_ascii())?;
    if BESIDE_ONE.contains(&letter) {
        return Some('`');
    }
    let rows = LAYOUTS.iter().flat_map(|rows| rows.iter().zip(KEYS.iter().skip(1)));
    let mut keys = rows.flat_map(|(labels, keys)| labels.chars().zip(keys.chars()));
    keys.find_map(|(label, key)| (label == letter).then_some(key))
}

/// The text with each walk over three keys or more as its first key; walks that follow each other are one. A walk goes in one
/// direction. `keys`: as [`latin`] gives them.
pub(super) fn without_walks(keys: &str) -> String {
    let places: Vec<_> = keys.chars().map(place).collect();
    let steps: Vec<_> = places.windows(2).map(step).collect();
    let straight = |pair: &[Option<(i32, i32)>]| matches!(pair, [Some(one), Some(next)] if one == next);
    let straight: Vec<bool> = steps.windows(2).map(straight).collect();
    // Of three keys in a line, each is part of the walk.
    let walked = |at: usize| (at.saturating_sub(2)..=at).any(|from| straight.get(from) == Some(&true));
    let goes_on = |at: usize| at.checked_sub(1).is_some_and(|before| walked(before) && walked(at));
    let keys = keys.chars().enumerate();
    keys.filter(|(at, _)| !goes_on(*at)).map(|(_, key)| key).collect()
}

/// In which row and column a key lies.
fn place(key: char) -> Option<(i32, i32)> {
    let key = key.to_ascii_lowercase();
    (0..).zip(KEYS).find_map(|(row, keys)| {
        let found = (0..).zip(keys.chars()).find(|(_, known)| *known == key);
        found.map(|(column, _)| (row, column - i32::from(row == 0)))
    })
}

/// From one key to the next, where they are neighbours.
fn step(places: &[Option<(i32, i32)>]) -> Option<(i32, i32)> {
    match places {
        [Some((row, column)), Some((next_row, next_column))] => {
            let step = (next_row - row, next_column - column);
            STEPS.contains(&step).then_some(step)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_have_a_label_for_each_key_and_no_letter_lies_on_two() {
        for rows in LAYOUTS {
            for (labels, keys) in rows.iter().zip(&KEYS[1..]) {
                assert_eq!(labels.chars().count(), keys.chars().count(), "{labels}");
            }
            let mut letters: Vec<char> = rows.concat().chars().filter(|label| *label != ' ').collect();
            letters.sort_unstable();
            let count = letters.len();
            letters.dedup();
            assert_eq!(letters.len(), count, "{rows:?}");
        }
    }

    #[test]
    fn letters_are_those_of_their_keys() {
        for (typed, keys) in [
            ("йцукенгшщзхъ", "qwertyuiop[]"),
            ("ЙЦУКЕН", "qwerty"),
            ("фівапролджє", "asdfghjkl;'"),
            ("Ёё1", "``1"),
            ("ςερτυθιοπ", "wertyuiop"),
            ("\u{5e9}\u{5d3}\u{5d2}\u{5db}", "asdf"),
            ("\u{636}\u{635}\u{62b}\u{642}", "qwer"),
            // What is Latin stays as it is.
            ("Qwerty 12", "Qwerty 12"),
            ("zw\u{f6}lf", "zw\u{f6}lf"),
        ] {
            assert_eq!(latin(typed), keys, "{typed}");
        }
    }

    #[test]
    fn walks_in_any_direction_are_one_key_each() {
        for (keys, left) in [
            ("qwertyuiop[]", "q"),
            ("poiuytrewq", "p"),
            ("QWERTY", "Q"),
            ("1234567890", "1"),
            // Along the slants, up and down.
            ("qaz", "q"),
            ("zaq", "z"),
            ("esz", "e"),
            ("zse", "z"),
            ("`12", "`"),
            // One after the other, doubled, there and back.
            ("qwertyuiopasdfghjklzxcvbnm", "q"),
            ("1qaz2wsx3edc", "1"),
            ("qwertyqwerty", "q"),
            ("qwertytrewq", "q"),
            // With something between.
            ("qwerty2026asdf", "q2026a"),
            ("my qwerty", "my q"),
            // Too short, or in no direction.
            ("qw", "qw"),
            ("qwq", "qwq"),
            ("was", "was"),
            ("aaaa", "aaaa"),
            ("", ""),
        ] {
            assert_eq!(without_walks(keys), left, "{keys}");
        }
    }
}
