//! Codes of an authenticator app beside the password (TOTP, RFC 6238), and recovery codes for a device that is lost.
//!
//! A secret is made first, and asked for only once the person has shown that they can make codes of it. A code is good
//! once: the step of the last one that was taken is kept, and only later ones are. A session remembers whether the second
//! factor was shown in it; a tenant's policy (`login_policy`) may ask for that.

pub(crate) mod actions;
mod store;
#[cfg(test)]
mod tests;
mod totp;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use data_encoding::BASE32_NOPAD;
use rowhouse_config::Secret;

use crate::error::Error;
use crate::random;
pub(crate) use actions::{prove, reseal};
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::remove;
#[cfg(test)]
pub(crate) use totp::{code_at, now_s};

/// The field that holds a code of whoever is logged in.
pub(crate) const CODE: &str = "code";

/// Recovery codes that somebody gets at once.
const RECOVERY_CODES: usize = 10;

/// Random bytes of a recovery code: 80 bits, which nobody guesses, are 16 characters.
const RECOVERY_BYTES: usize = 10;

/// Random bytes of a secret: as long as the digest of the HMAC (RFC 4226, section 4, R6).
const SECRET_BYTES: usize = 20;

/// Something that may show the second factor.
#[derive(Clone)]
pub(crate) enum Code {
    /// Six digits from the app.
    App(Secret),
    /// A recovery code, as it is hashed: upper case, without dashes.
    Recovery(Secret),
}

/// The text cannot be a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be six digits or a recovery code")]
pub(crate) struct ParseCodeError;

/// What there is of somebody's second factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SecondFactor {
    /// Since when log-ins ask for it.
    pub(crate) enabled: Option<DateTime<Utc>>,
    pub(crate) recovery_codes_left: i64,
    /// Whether it was shown in the session that asks.
    pub(crate) shown: bool,
}

/// A secret for the app.
pub(crate) struct Setup {
    pub(crate) secret: Secret,
    pub(crate) uri: Secret,
}

/// Recovery codes for their person. They go nowhere else.
pub(crate) struct RecoveryCodes {
    codes: Vec<Secret>,
}

// === impl Code ===

impl FromStr for Code {
    type Err = ParseCodeError;

    fn from_str(text: &str) -> Result<Self, ParseCodeError> {
        let digits = text.len() == totp::DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits {
            return Ok(Self::App(Secret::new(text.to_owned())));
        }
        // People type what they have on paper.
        let folded: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
        let folded = folded.to_ascii_uppercase();
        let is_one = BASE32_NOPAD
            .decode(folded.as_bytes())
            .is_ok_and(|bytes| bytes.len() == RECOVERY_BYTES);
        is_one
            .then(|| Self::Recovery(Secret::new(folded)))
            .ok_or(ParseCodeError)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::App(_) => "App(..)",
            Self::Recovery(_) => "Recovery(..)",
        })
    }
}

// === impl RecoveryCodes ===

impl RecoveryCodes {
    fn generate() -> Result<Self, Error> {
        let code = |_| {
            let bytes = random::bytes().map_err(Error::fault)?;
            let bytes = bytes
                .get(..RECOVERY_BYTES)
                .ok_or_else(|| Error::fault("too few random bytes"))?;
            Ok(Secret::new(BASE32_NOPAD.encode(bytes)))
        };
        let codes: Result<Vec<Secret>, Error> = (0..RECOVERY_CODES).map(code).collect();
        Ok(Self { codes: codes? })
    }

    fn hashes(&self) -> Vec<Vec<u8>> {
        self.codes.iter().map(|code| random::sha256(code.expose())).collect()
    }

    /// The codes as they are shown: in groups of four.
    pub(crate) fn expose(&self) -> Vec<String> {
        let grouped = |code: &Secret| {
            let characters: Vec<char> = code.expose().to_ascii_lowercase().chars().collect();
            let groups: Vec<String> = characters.chunks(4).map(|group| group.iter().collect()).collect();
            groups.join("-")
        };
        self.codes.iter().map(grouped).collect()
    }
}

#[cfg(test)]
mod rules {
    use super::*;

    #[test]
    fn codes_are_read_as_people_type_them_and_do_not_print() {
        let codes = RecoveryCodes::generate().unwrap();
        let hashes = codes.hashes();
        assert_eq!(hashes.len(), RECOVERY_CODES);
        for (text, hash) in codes.expose().into_iter().zip(hashes) {
            for typed in [
                text.clone(),
                text.to_uppercase(),
                text.replace('-', " "),
                text.replace('-', ""),
            ] {
                let Ok(Code::Recovery(code)) = typed.parse::<Code>() else {
                    panic!("{typed}");
                };
                assert_eq!(random::sha256(code.expose()), hash);
            }
            let shown = format!("{:?}", text.parse::<Code>().unwrap());
            assert!(!shown.contains(&text[..4]), "{shown}");
        }
        assert!(matches!("012345".parse(), Ok(Code::App(_))));
        for wrong in [
            "",
            "12345",
            "1234567",
            "12345a",
            "\u{661}\u{662}\u{663}\u{664}\u{665}\u{666}",
            "aaaa-bbbb-cccc",
            "01",
        ] {
            assert!(wrong.parse::<Code>().is_err(), "{wrong:?}");
        }
    }
}
