//! Slugs: short unique names of tenants, for people.

use std::fmt;
use std::str::FromStr;

/// A tenant's slug: 3 to 63 of `a-z`, `0-9` and `-`, beginning with a letter, not ending with `-`, without `--`, and not
/// a reserved word. It could be a DNS label (RFC 1035, section 2.3.1); it never becomes part of an SQL identifier.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slug {
    name: String,
}

/// Why a text is not a slug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSlugError {
    /// Wrong length or characters.
    #[error("must be 3 to 63 of a-z, 0-9 and single hyphens, beginning with a letter and not ending with a hyphen")]
    Shape,
    /// A word that would mislead as a host name or path.
    #[error("is a reserved word")]
    Reserved,
}

/// Words that an operator, a proxy or a database would read as something else than a tenant.
const RESERVED: &[&str] = &[
    "admin",
    "api",
    "app",
    "assets",
    "auth",
    "billing",
    "cdn",
    "console",
    "control",
    "default",
    "dev",
    "docs",
    "help",
    "internal",
    "localhost",
    "login",
    "mail",
    "metrics",
    "null",
    "ops",
    "platform",
    "pooled",
    "postgres",
    "prod",
    "public",
    "root",
    "rowhouse",
    "smtp",
    "staging",
    "static",
    "status",
    "support",
    "system",
    "template0",
    "template1",
    "tenant",
    "test",
    "undefined",
    "worker",
    "www",
];

// === impl Slug ===

impl Slug {
    /// The slug as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl FromStr for Slug {
    type Err = ParseSlugError;

    fn from_str(text: &str) -> Result<Self, ParseSlugError> {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let shaped = (3..=63).contains(&text.len())
            && text.chars().all(known)
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-')
            && !text.contains("--");
        if !shaped {
            return Err(ParseSlugError::Shape);
        }
        if RESERVED.contains(&text) {
            return Err(ParseSlugError::Reserved);
        }
        Ok(Self { name: text.to_owned() })
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_slugs_are_read() {
        for text in ["acme", "acme-2", "a1b", &"a".repeat(63)] {
            assert!(text.parse::<Slug>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn hostile_slugs_are_refused() {
        let long = "a".repeat(64);
        for text in [
            "",
            "ab",
            "Acme",
            "1acme",
            "-acme",
            "acme-",
            "a--b",
            "pg_catalog",
            "acme;drop",
            "ac me",
            "acme\0",
            "\u{e4}cme",
            "acme\u{200b}",
            &long,
        ] {
            assert_eq!(text.parse::<Slug>(), Err(ParseSlugError::Shape), "{text:?}");
        }
        for text in ["public", "postgres", "admin", "pooled"] {
            assert_eq!(text.parse::<Slug>(), Err(ParseSlugError::Reserved), "{text:?}");
        }
    }
}
