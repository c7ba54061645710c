//! The reader of environment variables.
//!
//! A config struct asks for each of its variables by one of the methods, then calls [`Env::finish`]. Until then a
//! fault is only noted and a harmless value is handed out, so that one run names everything that is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::secret::{Secret, SecretKey};

/// Reads environment variables and collects what is wrong with them.
#[derive(Debug, Default)]
pub struct Env {
    values: BTreeMap<String, String>,
    asked: Vec<Variable>,
    faults: Vec<String>,
}

/// A variable that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Whether the process refuses to start without it.
    pub required: bool,
    /// Whether it is a secret, and may be given as `<name>_FILE`.
    pub secret: bool,
    /// What holds where it is not set.
    pub default: Option<String>,
}

/// What is wrong with the environment: one line a fault, naming variables and never values.
#[derive(Debug, PartialEq, Eq)]
pub struct Faults {
    lines: Vec<String>,
}

// === impl Env ===

impl Env {
    /// Reads the process's environment.
    #[must_use]
    pub fn from_process() -> Self {
        Self::from_pairs(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// Reads the given pairs instead of the process's environment, for tests.
    #[must_use]
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            values: pairs.into_iter().collect(),
            ..Self::default()
        }
    }

    /// A required value of any type that can be read from text. A fault hands out `stand_in`.
    pub fn required<T: FromStr>(&mut self, name: &'static str, stand_in: T) -> T {
        self.note(name, true, false, None);
        match self.values.get(name).cloned() {
            None => self.fault(name, "is not set", stand_in),
            Some(text) => self.parse(name, &text, stand_in),
        }
    }

    /// A value with a default.
    pub fn or<T: FromStr + fmt::Display>(&mut self, name: &'static str, default: T) -> T {
        self.note(name, false, false, Some(default.to_string()));
        match self.values.get(name).cloned() {
            None => default,
            Some(text) => self.parse(name, &text, default),
        }
    }

    /// A text that may be absent. An empty one counts as absent.
    pub fn optional(&mut self, name: &'static str) -> Option<String> {
        self.note(name, false, false, None);
        self.values.get(name).filter(|text| !text.is_empty()).cloned()
    }

    /// A required secret, from the variable itself or from the file that `<name>_FILE` names.
    pub fn secret(&mut self, name: &'static str) -> Secret {
        self.note(name, true, true, None);
        match self.secret_if_set(name) {
            Some(secret) => secret,
            None => {
                let stand_in = Secret::new(String::new());
                self.fault(name, "is not set (nor is the same name with _FILE)", stand_in)
            }
        }
    }

    /// A required secret of 32 bytes in base64. A fault hands out `None`; after [`Env::finish`] it is there.
    pub fn secret_key(&mut self, name: &'static str) -> Option<SecretKey> {
        let faults = self.faults.len();
        let key = SecretKey::from_base64(self.secret(name).expose());
        if key.is_none() && self.faults.len() == faults {
            self.faults.push(format!("{name}: must be 32 bytes in base64"));
        }
        key
    }

    /// Secrets of 32 bytes in base64, separated by commas or line breaks; none where the variable is absent or empty. A file that
    /// is named has to be there: who misspells its name would have none, and not know.
    pub fn secret_keys(&mut self, name: &'static str) -> Vec<SecretKey> {
        self.note(name, false, true, None);
        let Some(secret) = self.secret_if_set(name) else {
            return Vec::new();
        };
        let texts = secret.expose().split([',', '\n']).map(str::trim);
        let keys = texts.filter(|text| !text.is_empty()).map(SecretKey::from_base64);
        match keys.collect::<Option<Vec<SecretKey>>>() {
            Some(keys) => keys,
            None => {
                const WHAT: &str = "must be keys of 32 bytes in base64, separated by commas or line breaks";
                self.fault(name, WHAT, Vec::new())
            }
        }
    }

    /// Notes a fault that a section found in a value of its own; never put the value into `what`.
    pub fn refuse(&mut self, name: &'static str, what: &str) {
        self.faults.push(format!("{name}: {what}"));
    }

    /// Ends reading.
    ///
    /// # Errors
    /// [`Faults`] with every fault that was found.
    pub fn finish<T>(self, config: T) -> Result<T, Faults> {
        if self.faults.is_empty() {
            Ok(config)
        } else {
            Err(Faults { lines: self.faults })
        }
    }

    /// The variables asked for so far.
    #[must_use]
    pub fn variables(&self) -> &[Variable] {
        &self.asked
    }

    /// The secret's text, from the variable itself or its file. A fault hands out an empty one.
    fn secret_if_set(&mut self, name: &'static str) -> Option<Secret> {
        let file = self.values.get(&format!("{name}_FILE")).cloned();
        let text = match (self.values.get(name).cloned(), file) {
            (Some(_), Some(_)) => self.fault(name, "is set both directly and by file", String::new()),
            (Some(text), None) => text,
            (None, Some(path)) => match std::fs::read_to_string(path) {
                Ok(text) => text.trim_end_matches(['\r', '\n']).to_owned(),
                Err(error) => self.fault(
                    name,
                    &format!("its file cannot be read: {}", error.kind()),
                    String::new(),
                ),
            },
            (None, None) => return None,
        };
        Some(Secret::new(text))
    }

    fn note(&mut self, name: &'static str, required: bool, secret: bool, default: Option<String>) {
        self.asked.push(Variable {
            name,
            required,
            secret,
            default,
        });
    }

    fn parse<T: FromStr>(&mut self, name: &'static str, text: &str, stand_in: T) -> T {
        match text.parse() {
            Ok(value) => value,
            Err(_) => self.fault(name, &format!("is not a valid {}", short_type_name::<T>()), stand_in),
        }
    }

    fn fault<T>(&mut self, name: &'static str, what: &str, stand_in: T) -> T {
        self.faults.push(format!("{name}: {what}"));
        stand_in
    }
}

fn short_type_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    name.rsplit("::").next().unwrap_or(name)
}

// === impl Variable ===

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let required = if self.required { "required" } else { "optional" };
        let secret = if self.secret { "secret" } else { "plain" };
        write!(
            f,
            "{} {required} {secret} {}",
            self.name,
            self.default.as_deref().unwrap_or("-")
        )
    }
}

// === impl Faults ===

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the environment has {} faults: {}",
            self.lines.len(),
            self.lines.join("; ")
        )
    }
}

impl std::error::Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        Env::from_pairs(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn all_faults_are_reported_at_once_and_no_value_is_shown() {
        let mut env = env(&[("PORT", "hunter2"), ("KEY", "hunter2")]);
        env.required("PORT", 0_u16);
        env.required("HOST", String::new());
        env.secret("PASSWORD");
        env.secret_key("KEY");
        let text = env.finish(()).unwrap_err().to_string();
        for name in ["PORT", "HOST", "PASSWORD", "KEY"] {
            assert!(text.contains(name), "{text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_secret_is_read_from_its_file_and_not_printed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        let mut env = env(&[("PASSWORD_FILE", file.path().to_str().unwrap())]);
        let secret = env.secret("PASSWORD");
        assert_eq!(secret.expose(), "hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert_eq!(env.finish(()), Ok(()));
    }

    #[test]
    fn keys_that_may_be_absent_are_none_or_all_as_they_should_be() {
        const KEYS: &str = "KEYS";
        let key = |first: &str| format!("{first}{}=", "A".repeat(42));
        for text in ["", "\n", " ,\n"] {
            let mut env = env(&[(KEYS, text)]);
            assert!(env.secret_keys(KEYS).is_empty(), "{text:?}");
            assert_eq!(env.finish(()), Ok(()), "{text:?}");
        }
        let mut two = env(&[(KEYS, &format!("{}, {}\n", key("A"), key("B")))]);
        let read = two.secret_keys(KEYS);
        let read: Vec<u8> = read.iter().map(|key| key.expose()[0]).collect();
        assert_eq!(read, [0, 4]);
        let shown: Vec<String> = two.variables().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["KEYS optional secret -"]);
        // One that is wrong among others is not left out.
        let mut wrong = env(&[(KEYS, &format!("{},hunter2", key("A")))]);
        assert!(wrong.secret_keys(KEYS).is_empty());
        let text = wrong.finish(()).unwrap_err().to_string();
        assert!(
            text.contains("KEYS: must be keys") && !text.contains("hunter2"),
            "{text}"
        );
        // Nor is a file that is not there.
        let folder = tempfile::tempdir().unwrap();
        let mut lost = env(&[("KEYS_FILE", folder.path().join("lost").to_str().unwrap())]);
        assert!(lost.secret_keys(KEYS).is_empty());
        let text = lost.finish(()).unwrap_err().to_string();
        assert!(text.contains("KEYS: its file cannot be read"), "{text}");
    }

    #[test]
    fn defaults_hold_where_nothing_is_set() {
        let mut env = env(&[]);
        assert_eq!(env.or("DRAIN_MS", 10_000_u64), 10_000);
        assert_eq!(env.optional("OTLP"), None);
        let shown: Vec<String> = env.variables().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["DRAIN_MS optional plain 10000", "OTLP optional plain -"]);
        assert_eq!(env.finish(()), Ok(()));
    }
}
