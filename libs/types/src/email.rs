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
        Self::key_of(&self.address)
    }

    /// The key of an address that is stored as text. Letter by letter, as PostgreSQL's `lower` makes it: by the rules of whole
    /// words (Unicode, `SpecialCasing`) a sigma at the end would be another letter than elsewhere, and so another account.
    #[must_use]
    pub fn key_of(address: &str) -> String {
        address.chars().flat_map(char::to_lowercase).collect()
    }

    /// What stands behind the `@`, in lower case.
    #[must_use]
    pub fn domain(&self) -> String {
        let (_, domain) = self.address.rsplit_once('@').unwrap_or_default();
        Self::key_of(domain)
    }
}

/// Whether a letter could make another mailbox's key: its lower case is a letter of ASCII, or several. Those are the dotted
/// capital I (U+0130), which PostgreSQL makes an `i` and IDNA another domain, and the sign of the kelvin (U+212A). An account is
/// found by the key, so whoever owned the domain that looks alike would be taken for the owner of the other.
fn could_pass_for_another(letter: char) -> bool {
    let mut lower = letter.to_lowercase();
    !letter.is_ascii() && (lower.len() > 1 || lower.any(|small| small.is_ascii()))
}

impl FromStr for Email {
    type Err = ParseEmailError;

    fn from_str(text: &str) -> Result<Self, ParseEmailError> {
        let options = Options::default()
            .without_display_text()
            .without_domain_literal()
            .with_required_tld();
        let unfit = |c: char| c.is_control() || c.is_whitespace() || could_pass_for_another(c);
        if text.len() > EMAIL_BYTES_MAX || text.chars().any(unfit) {
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
    fn an_address_that_could_pass_for_another_is_refused() {
        for text in [
            "ADM\u{130}N@example.com",
            "admin@MA\u{130}L.example.com",
            "\u{212a}im@example.com",
            "kim@\u{212a}iosk.example.com",
        ] {
            assert!(text.parse::<Email>().is_err(), "{text:?}");
        }
        // The control: letters whose lower case is no other's are taken.
        assert!("\u{dc}BER@example.com".parse::<Email>().is_ok());
    }

    #[test]
    fn two_letters_of_all_could_pass_for_another() {
        let found: Vec<char> = ('\0'..=char::MAX).filter(|c| could_pass_for_another(*c)).collect();
        assert_eq!(found, ['\u{130}', '\u{212a}']);
    }

    #[test]
    fn the_key_takes_each_letter_alone() {
        let email: Email = "\u{39f}\u{394}\u{39f}\u{3a3}@example.com".parse().unwrap();
        assert_eq!(email.key(), "\u{3bf}\u{3b4}\u{3bf}\u{3c3}@example.com");
    }

    #[test]
    fn the_key_ignores_case() {
        let (one, two): (Email, Email) = ("Ada@Example.com".parse().unwrap(), "ada@example.COM".parse().unwrap());
        assert_eq!(one.key(), two.key());
        assert_ne!(one, two);
    }
}
