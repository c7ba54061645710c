//! Credentials in metadata: each is sent once, in one spelling, and short.

use http::{HeaderMap, HeaderName};
use rowhouse_context::metadata;
use rowhouse_status::{Failure, Reason};

/// Longest credential, in bytes. Tokens of the suite have less than 1 KiB; nobody gets to make us hash more.
pub(crate) const CREDENTIAL_BYTES_MAX: usize = 8 * 1024;

/// `authorization`.
static AUTHORIZATION: Key = Key::new(metadata::AUTHORIZATION, "authorization-bin");
/// `x-service-authorization`.
static SERVICE_AUTHORIZATION: Key = Key::new(metadata::SERVICE_AUTHORIZATION, "x-service-authorization-bin");

/// A name of metadata that may be sent once, and its binary form: read once and not for each call.
pub(crate) struct Key {
    text: HeaderName,
    binary: HeaderName,
}

/// The token of a user from `authorization: Bearer <token>`. The scheme has this one spelling.
///
/// # Errors
/// CREDENTIALS_MISSING or CREDENTIALS_MALFORMED.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, Failure> {
    match once(headers, &AUTHORIZATION) {
        Once::Absent => Err(Failure::new(
            Reason::CredentialsMissing,
            "authorization must be sent: Bearer <access token>",
        )),
        Once::Text(text) => {
            let token = text.strip_prefix("Bearer ").filter(|token| is_token(token));
            token.ok_or_else(malformed)
        }
        Once::Damaged => Err(malformed()),
    }
}

/// Whether a token of a service is sent, in whatever spelling.
pub(crate) fn sends_service(headers: &HeaderMap) -> bool {
    !matches!(once(headers, &SERVICE_AUTHORIZATION), Once::Absent)
}

/// The token of a service from `x-service-authorization: <token>`.
///
/// # Errors
/// SERVICE_IDENTITY_INVALID, whatever is wrong: a service that is set up right never sees it.
pub(crate) fn service(headers: &HeaderMap) -> Result<&str, Failure> {
    match once(headers, &SERVICE_AUTHORIZATION) {
        Once::Text(text) if is_token(text) => Ok(text),
        _ => Err(service_invalid()),
    }
}

pub(crate) fn malformed() -> Failure {
    Failure::new(
        Reason::CredentialsMalformed,
        "authorization must be sent once: Bearer <access token>",
    )
}

pub(crate) fn service_invalid() -> Failure {
    Failure::new(
        Reason::ServiceIdentityInvalid,
        "internal RPCs need the identity of a service of the suite",
    )
}

/// Metadata that may be sent once.
pub(crate) enum Once<'a> {
    /// It was not sent.
    Absent,
    /// It was sent once, as visible ASCII of bounded length.
    Text(&'a str),
    /// It was sent in any other way.
    Damaged,
}

/// Reads metadata that may be sent once. The binary form of the same name is another way to send it twice.
pub(crate) fn once<'a>(headers: &'a HeaderMap, key: &Key) -> Once<'a> {
    let mut values = headers.get_all(&key.text).iter();
    match (values.next(), values.next(), headers.contains_key(&key.binary)) {
        (None, _, false) => Once::Absent,
        (Some(value), None, false) if value.len() <= CREDENTIAL_BYTES_MAX => {
            visible(value.as_bytes()).map_or(Once::Damaged, Once::Text)
        }
        _ => Once::Damaged,
    }
}

/// The text where it is visible ASCII.
fn visible(bytes: &[u8]) -> Option<&str> {
    let is_visible = every(bytes, |byte| matches!(byte, b' '..=b'~' | b'\t'));
    is_visible.then(|| str::from_utf8(bytes).ok()).flatten()
}

/// Whether the text could be a token at all: base64url and dots.
fn is_token(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !text.is_empty() && every(text.as_bytes(), known)
}

/// Whether all bytes are so. `all` would stop at the first that is not, and therefore look at one at a time; nearly every token is
/// good, so that there is nothing to stop at.
fn every(bytes: &[u8], is: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |all, byte| all & is(*byte))
}

// === impl Key ===

impl Key {
    /// `binary`: the same name with `-bin` after it.
    pub(crate) const fn new(text: &'static str, binary: &'static str) -> Self {
        Self {
            text: HeaderName::from_static(text),
            binary: HeaderName::from_static(binary),
        }
    }

    /// Whether one name is the other's binary form.
    #[cfg(test)]
    pub(crate) fn is_pair(&self) -> bool {
        self.binary.as_str() == format!("{}-bin", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_that_is_none_of_a_token_is_found_wherever_it_stands() {
        let token = "aZ0.-_".repeat(20);
        assert!(is_token(&token) && !is_token(""));
        for at in 0..token.len() {
            for byte in [b' ', b'+', b'/', b'=', b'\t', 0x7f] {
                let mut damaged = token.clone().into_bytes();
                damaged[at] = byte;
                let text = str::from_utf8(&damaged).unwrap();
                assert!(!is_token(text), "{text:?}");
                assert_eq!(visible(&damaged).is_some(), byte != 0x7f, "{text:?}");
            }
        }
        assert_eq!(visible("é".as_bytes()), None);
    }

    #[test]
    fn both_forms_of_a_name_are_looked_for() {
        assert!(AUTHORIZATION.is_pair() && SERVICE_AUTHORIZATION.is_pair());
        assert!(!Key::new("x-one", "x-other-bin").is_pair());
    }
}
