//! Whether a new password is easy to guess.

use super::admission::Asker;
use super::{keyboard, opaque};

/// How easy a new password may be to guess, as zxcvbn scores it: 3 is "safely unguessable", more than a hundred million
/// guesses. It knows the passwords that leak most, words, names, dates, repetitions and runs of keys, as NIST SP 800-63B-4
/// (3.1.1.2) asks of a block list; there are no rules of composition. It scores the first hundred characters alone: what comes
/// after them makes no password easier, and none good that begins so badly.
const SCORE_MIN: zxcvbn::Score = zxcvbn::Score::Three;

/// What is known of the person who chooses a password: it must not be made of that.
#[derive(Clone, Debug)]
pub(crate) struct Chooser {
    /// Path of the field that holds the password.
    field: &'static str,
    words: Vec<String>,
    asker: Asker,
}

// === impl Chooser ===

impl Chooser {
    /// Somebody with this address and name. `field`: path of the field that holds the password.
    pub(crate) fn new(field: &'static str, email: &str, display_name: &str) -> Self {
        let names: Vec<&str> = display_name.split_whitespace().collect();
        let together = names.concat();
        let words = ["rowhouse", email, display_name, &together].into_iter();
        // `ada.lovelace@engine-works.example`: both sides, and what they consist of.
        let parts = email.split('@').chain(email.split(['@', '.', '+']));
        Self {
            field,
            words: words.chain(parts).chain(names).map(opaque::normal).collect(),
            asker: Asker::Stranger,
        }
    }

    /// The same person as a member of a tenant with this name, of others beside.
    pub(crate) fn within(mut self, tenant_name: &str) -> Self {
        let names: Vec<&str> = tenant_name.split_whitespace().collect();
        let together = names.concat();
        let words = [tenant_name, &together].into_iter().chain(names);
        self.words.extend(words.map(opaque::normal));
        self
    }

    /// The same, who is known to be an account's owner.
    pub(crate) fn known_as(self, asker: Asker) -> Self {
        Self { asker, ..self }
    }

    /// For whom the password is hashed.
    pub(super) fn asker(&self) -> &Asker {
        &self.asker
    }

    /// Path of the field that holds the password.
    pub(super) fn field(&self) -> &'static str {
        self.field
    }

    /// Whether a new password is easy to guess for who knows this of the person. `text`: in the normal form.
    pub(super) fn could_guess(&self, text: &str) -> bool {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let is_easy = |text: &str| zxcvbn::zxcvbn(text, &words).score() < SCORE_MIN;
        // The keys of other scripts as those that it knows; and walks over many keys as the one choice that they are.
        let keys = keyboard::latin(text);
        let walked = keyboard::without_walks(&keys);
        is_easy(text) || (keys != text && is_easy(&keys)) || (walked != keys && is_easy(&walked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_everybody_would_try_first_is_refused_and_any_sentence_taken() {
        let ada = Chooser::new("password", "ada.lovelace@engine-works.example", "Ada Lovelace");
        let guessable = |text: &str| ada.could_guess(text);
        for text in [
            "passwordpassword",
            "123456789012",
            "qwertyuiopas",
            "aaaaaaaaaaaa",
            "abcabcabcabc",
            "iloveyouforever",
            "rowhouse2026",
            "ada.lovelace@engine-works.example",
            "engine-works2026",
            "adalovelace1",
            // Walks over the keys, in whichever script.
            "qwertyuiop[]asdfghjkl;'zxcvbnm,./",
            "qwertyqwertyqwerty",
            "poiuytrewqlkjhgfdsamnbvcxz",
            "йцукенгшщзхъ",
            "ЙЦУКЕНГШЩЗХЪ",
            "йцукенгшщзхъйцукенгшщзхъ",
            "йцукенгшщзхъфывапролджэ",
            "йцукенгшщзхъфывапролджэячсмитьбю",
            "ъхзщшгнекуцйэждлорпавыф",
            "йфяцычувсмакипе",
            "йцукен2026фывапр",
            "ςερτυθιοπασδφγηξκλ",
            "\u{5e7}\u{5e8}\u{5d0}\u{5d8}\u{5d5}\u{5df}\u{5dd}\u{5e4}\u{5e9}\u{5d3}\u{5d2}\u{5db}\u{5e2}\u{5d9}\u{5d7}\u{5dc}",
            "\u{636}\u{635}\u{62b}\u{642}\u{641}\u{63a}\u{639}\u{647}\u{62e}\u{62d}\u{62c}\u{62f}\u{634}\u{633}\u{64a}\u{628}",
            // A Latin word that was typed with another layout.
            "зфыыцщквзфыыцщкв",
        ] {
            assert!(guessable(text), "{text}");
        }
        for text in [
            "correct horse battery",
            "zw\u{f6}lf kleine Zeichen",
            "the sea was grey that day",
            "море было серым в тот день",
            "η θάλασσα ήταν γκρίζα",
        ] {
            assert!(!guessable(text), "{text}");
        }
        let sequence: String = ('a'..='z').cycle().take(256).collect();
        assert!(guessable(&sequence));
    }

    #[test]
    fn the_name_of_the_own_tenant_is_no_password() {
        let ada = Chooser::new("password", "ada.lovelace@engine-works.example", "Ada Lovelace");
        let member = ada
            .clone()
            .within("Harbour Tea Company")
            .within("Lantern Cafe\u{301} Supplies");
        for text in ["Harbour Tea Company", "harbourteacompany", "lantern caf\u{e9} supplies"] {
            let guessable = |chooser: &Chooser| chooser.could_guess(text);
            assert!(guessable(&member), "{text}");
            // The control: to others it is any sentence.
            assert!(!guessable(&ada), "{text}");
        }
    }
}
