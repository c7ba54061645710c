//! E-mail addresses.

use std::fmt;
use std::str::FromStr;

use email_address::{EmailAddress, Options};
use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use unicode_normalization::is_nfc;

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

/// The text is not an address at which something can begin, such as an account or an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseNewEmailError {
    /// It is no address at all.
    #[error(transparent)]
    Address(#[from] ParseEmailError),
    /// The domain is none that there can be.
    #[error("must have a domain that can be a name on the Internet")]
    Domain,
    /// People would write the same address otherwise.
    #[error(
        "must be spelled as people write it: no quotation marks or backslashes that are not needed, no letters of another \
         width, composed letters, and a domain in its own script and not as xn--"
    )]
    Spelling,
}

// === impl Email ===

impl Email {
    /// Reads an address at which something is to begin.
    ///
    /// Two spellings of one address would be two accounts, and two counts of attempts: the key is made by PostgreSQL (`lower`) and
    /// knows of case alone. So of each address one spelling is taken where something begins. What began under another spelling is
    /// read by [`str::parse`], keeps it, and is found by it.
    ///
    /// The spelling is: a local part without quotation marks where RFC 5321 (4.1.2) needs none, in NFC (RFC 6532, 3.1) and in the
    /// usual width (as RFC 8265, 3.3.1, maps it); and a domain of U-labels (RFC 5890, 2.3.2.1), as UTS 46 maps it.
    ///
    /// # Errors
    /// [`ParseNewEmailError::Address`] where it is no address; [`ParseNewEmailError::Domain`] where the domain cannot be one: no
    /// letters, digits and hyphens (RFC 1123, 2.1), no IDNA, too long as DNS carries it, or numbers at its end, as of an IP address
    /// (RFC 3696, 2); [`ParseNewEmailError::Spelling`] where it has another spelling.
    pub fn parse_new(text: &str) -> Result<Self, ParseNewEmailError> {
        let email: Self = text.parse()?;
        let key = email.key();
        let (local, domain) = parts(&key);
        let ascii = Uts46::new()
            .to_ascii(
                domain.as_bytes(),
                AsciiDenyList::STD3,
                Hyphens::CheckFirstLast,
                DnsLength::Verify,
            )
            .map_err(|_| ParseNewEmailError::Domain)?;
        let is_numeric = |label: &str| label.bytes().all(|digit| digit.is_ascii_digit());
        // A Unicode domain grows where SMTP carries it as ASCII, and the bound is SMTP's.
        if local.len() + 1 + ascii.len() > EMAIL_BYTES_MAX || ascii.rsplit('.').next().is_none_or(is_numeric) {
            return Err(ParseNewEmailError::Domain);
        }
        if email.domain() != domain || !is_plain(local) {
            return Err(ParseNewEmailError::Spelling);
        }
        Ok(email)
    }

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

    /// What stands behind the `@`, in the one spelling in which domains are compared: lower case and, of a name in another script
    /// than ASCII, its own letters (UTS 46) and not their encoding. What is no such name is in lower case.
    #[must_use]
    pub fn domain(&self) -> String {
        let domain = Self::key_of(parts(&self.address).1);
        match idna::domain_to_ascii(&domain).map(|ascii| idna::domain_to_unicode(&ascii)) {
            Ok((spelling, Ok(()))) => spelling,
            _ => domain,
        }
    }

    /// The address as every mail server takes it, as long as the local part is ASCII: with the domain as DNS has it (RFC 5890,
    /// 2.3.2.1, A-labels). A domain in its own script needs a server that knows SMTPUTF8 (RFC 6531).
    #[must_use]
    pub fn to_send(&self) -> String {
        let (local, domain) = parts(&self.address);
        match idna::domain_to_ascii(domain) {
            Ok(ascii) if !domain.is_ascii() => format!("{local}@{ascii}"),
            _ => self.address.clone(),
        }
    }
}

/// What stands before and behind the `@`: the last one, since others are in quotation marks.
fn parts(address: &str) -> (&str, &str) {
    address.rsplit_once('@').unwrap_or_default()
}

/// Whether a local part, in lower case, is as people write it.
fn is_plain(local: &str) -> bool {
    let quoted = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    is_nfc(local) && !local.chars().any(is_of_another_width) && quoted.is_none_or(needs_quotes)
}

/// Whether what is in quotation marks has to be: it is no `Dot-string` (RFC 5321, 4.1.2), and nothing is escaped but `"` and `\`.
fn needs_quotes(content: &str) -> bool {
    let mut text = String::new();
    let mut letters = content.chars();
    while let Some(letter) = letters.next() {
        let meant = if letter == '\\' { letters.next() } else { Some(letter) };
        if letter == '\\' && !matches!(meant, Some('"' | '\\')) {
            return false;
        }
        text.extend(meant);
    }
    let is_atext = |letter: char| letter.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(letter);
    !text
        .split('.')
        .all(|atom| !atom.is_empty() && atom.chars().all(|letter| is_atext(letter) || !letter.is_ascii()))
}

/// The block of letters that are another letter in half or full width, and the letters of Hangul that are not seen.
fn is_of_another_width(letter: char) -> bool {
    matches!(letter, '\u{ff00}'..='\u{ffef}' | '\u{115f}' | '\u{1160}' | '\u{3164}')
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
mod table;

#[cfg(test)]
mod tests {
    use super::table::{Row, Verdict, addresses};
    use super::*;

    /// The awkward ones are in `email/table.rs`, to which anybody can add.
    #[test]
    fn every_address_of_the_table_is_read_as_it_says() {
        for Row { verdict, address, why } in addresses() {
            let (read, new) = (address.parse::<Email>(), Email::parse_new(&address));
            let found = match (read, new) {
                (Ok(read), Ok(new)) if read == new => Verdict::Taken,
                (Ok(_), Err(_)) => Verdict::Kept,
                (Err(read), Err(new)) if new == ParseNewEmailError::Address(read) => Verdict::Refused,
                odd => panic!("{why}: {address:?}: {odd:?}"),
            };
            assert_eq!(found, verdict, "{why}: {address:?}");
        }
    }

    #[test]
    fn what_is_taken_is_kept_letter_by_letter() {
        for row in addresses().iter().filter(|row| row.verdict == Verdict::Taken) {
            let email = Email::parse_new(&row.address).unwrap();
            assert_eq!(email.as_str(), row.address);
            // And so is its key: an account is found by the spelling that began it.
            assert!(Email::parse_new(&email.key()).is_ok(), "{}: {:?}", row.why, email.key());
        }
    }

    /// Spellings of one address: of each group only the first can begin anything.
    #[test]
    fn of_each_address_one_spelling_is_taken() {
        for spellings in [
            [
                "ada@b\u{fc}cher.example",
                "ada@xn--bcher-kva.example",
                "ada@XN--BCHER-KVA.example",
            ],
            ["ada@example.com", "\"ada\"@example.com", "\"a\\da\"@example.com"],
            ["ada@example.com", "\u{ff41}da@example.com", "ada@\u{ff45}xample.com"],
            ["\"a@b\"@example.com", "\"a\\@b\"@example.com", "\"\\a@b\"@example.com"],
        ] {
            let [first, others @ ..] = &spellings;
            assert!(Email::parse_new(first).is_ok(), "{first:?}");
            for other in others {
                assert!(Email::parse_new(other).is_err(), "{other:?}");
            }
        }
    }

    #[test]
    fn a_fault_of_a_new_address_says_what_is_wrong() {
        let fault = |text: &str| Email::parse_new(text).unwrap_err();
        assert_eq!(fault("ada"), ParseNewEmailError::Address(ParseEmailError));
        for text in [
            "ada@127.0.0.1",
            "ada@example.123",
            "ada@ex_ample.com",
            "ada@xn--a.example",
        ] {
            assert_eq!(fault(text), ParseNewEmailError::Domain, "{text}");
        }
        for text in [
            "\"ada\"@example.com",
            "ada@xn--bcher-kva.example",
            "\u{ff41}da@example.com",
        ] {
            assert_eq!(fault(text), ParseNewEmailError::Spelling, "{text}");
        }
    }

    #[test]
    fn domains_have_one_spelling_and_are_sent_as_dns_has_them() {
        for (address, domain, sent) in [
            ("Ada@Example.COM", "example.com", "Ada@Example.COM"),
            (
                "ada@B\u{dc}CHER.example",
                "b\u{fc}cher.example",
                "ada@xn--bcher-kva.example",
            ),
            (
                "ada@XN--BCHER-KVA.example",
                "b\u{fc}cher.example",
                "ada@XN--BCHER-KVA.example",
            ),
            ("ada@\u{ff45}xample.com", "example.com", "ada@example.com"),
            // No name in another script: as it is.
            ("ada@xn--a.example", "xn--a.example", "ada@xn--a.example"),
            ("\"a@b\"@example.com", "example.com", "\"a@b\"@example.com"),
        ] {
            let email: Email = address.parse().unwrap();
            assert_eq!((email.domain().as_str(), email.to_send().as_str()), (domain, sent));
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
