//! E-mail addresses.

use std::fmt;
use std::str::FromStr;

use email_address::{EmailAddress, Options};

/// Longest address that SMTP can carry between angle brackets (RFC 5321, section 4.5.3.1.3), in bytes.
pub const EMAIL_BYTES_MAX: usize = 254;

/// An e-mail address (RFC 5321 mailbox), as its owner writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Email {
    address: String,
}

/// The text is not an e-mail address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an e-mail address of at most {EMAIL_BYTES_MAX} bytes")]
pub struct ParseEmailError;

// === impl Email ===

impl Email {
    /// The address as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.address
    }

    /// The key by which two addresses are the same: lower case. RFC 5321 lets a host tell `A@x` from `a@x`; none does,
    /// and a person who types either means the same account.
    #[must_use]
    pub fn key(&self) -> String {
        self.address.to_lowercase()
    }

    /// What stands behind the `@`, in lower case.
    #[must_use]
    pub fn domain(&self) -> String {
        let (_, domain) = self.address.rsplit_once('@').unwrap_or_default();
        domain.to_lowercase()
    }
}

impl FromStr for Email {
    type Err = ParseEmailError;

    fn from_str(text: &str) -> Result<Self, ParseEmailError> {
        let options = Options::default()
            .without_display_text()
            .without_domain_literal()
            .with_required_tld();
        if text.len() > EMAIL_BYTES_MAX || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(ParseEmailError);
        }
        EmailAddress::parse_with_options(text, options).map_err(|_| ParseEmailError)?;
        Ok(Self {
            address: text.to_owned(),
        })
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_and_awkward_legal_addresses_are_read() {
        for text in [
            "ada@example.com",
            "a.b+tag@sub.example.co.uk",
            "o'hara@example.com",
            "\u{fc}ber@example.com",
        ] {
            assert!(text.parse::<Email>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn illegal_addresses_are_refused() {
        let long = format!("{}@example.com", "a".repeat(300));
        for text in [
            "",
            "ada",
            "@example.com",
            "ada@",
            "a b@example.com",
            "ada@example.com\r\nBcc: x@y.zz",
            "ada@localhost",
            "Ada <ada@example.com>",
            "ada@[127.0.0.1]",
            "a\0@example.com",
            &long,
        ] {
            assert!(text.parse::<Email>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_key_ignores_case() {
        let (one, two): (Email, Email) = ("Ada@Example.com".parse().unwrap(), "ada@example.COM".parse().unwrap());
        assert_eq!(one.key(), two.key());
        assert_ne!(one, two);
    }
}
