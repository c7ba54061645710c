//! What stands behind a subcommand: `--name value` pairs.

/// The words behind a subcommand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    words: Vec<String>,
}

/// The command line is wrong. Ends the process with [`super::EXIT_USAGE`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// An option is not there.
    #[error("{0} is required")]
    Missing(&'static str),
    /// Words are left that no option takes. They are not shown: one may be a secret at the wrong place.
    #[error("the command line has options that are not known, or one twice")]
    Unknown,
}

// === impl Arguments ===

impl Arguments {
    /// The given words.
    #[must_use]
    pub fn new(words: Vec<String>) -> Self {
        Self { words }
    }

    /// Takes the value of an option, written `--name value` or `--name=value`.
    pub fn take(&mut self, name: &'static str) -> Option<String> {
        let joined = format!("{name}=");
        let place = self
            .words
            .iter()
            .position(|word| word == name || word.starts_with(&joined))?;
        let word = self.words.remove(place);
        match word.strip_prefix(&joined) {
            Some(value) => Some(value.to_owned()),
            None if place < self.words.len() => Some(self.words.remove(place)),
            None => None,
        }
    }

    /// Takes the value of an option that must be there.
    ///
    /// # Errors
    /// [`UsageError::Missing`].
    pub fn require(&mut self, name: &'static str) -> Result<String, UsageError> {
        self.take(name).ok_or(UsageError::Missing(name))
    }

    /// Ends reading.
    ///
    /// # Errors
    /// [`UsageError::Unknown`] where words are left.
    pub fn finish(self) -> Result<(), UsageError> {
        if self.words.is_empty() {
            Ok(())
        } else {
            Err(UsageError::Unknown)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(words: &[&str]) -> Arguments {
        Arguments::new(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn options_are_taken_in_either_form_and_order() {
        for words in [
            ["--email", "a@b", "--secret-file=x"],
            ["--secret-file=x", "--email", "a@b"],
        ] {
            let mut given = arguments(&words);
            assert_eq!(given.require("--email"), Ok("a@b".to_owned()));
            assert_eq!(given.take("--secret-file"), Some("x".to_owned()));
            assert_eq!(given.finish(), Ok(()));
        }
    }

    #[test]
    fn what_is_missing_or_left_over_is_refused() {
        assert_eq!(
            arguments(&["--email"]).require("--email"),
            Err(UsageError::Missing("--email"))
        );
        assert_eq!(arguments(&["--emial", "a@b"]).finish(), Err(UsageError::Unknown));
    }
}
