//! Secrets: zeroed when dropped, never printed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

/// A secret text. `Debug` prints a placeholder; [`Secret::expose`] is the one way to the value, easy to search for.
#[derive(Clone, Debug)]
pub struct Secret {
    text: SecretString,
}

/// A secret of exactly 32 bytes: a key.
#[derive(Clone, Debug)]
pub struct SecretKey {
    bytes: SecretSlice<u8>,
}

// === impl Secret ===

impl Secret {
    /// Keeps `text` as a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self { text: text.into() }
    }

    /// The value. Do not log it, and do not put it into an error.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

// === impl SecretKey ===

impl SecretKey {
    /// Reads 32 bytes of standard base64 (RFC 4648, section 4). `None` for anything else.
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.trim()).ok()?;
        (bytes.len() == 32).then(|| Self { bytes: bytes.into() })
    }

    /// The 32 bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.bytes.expose_secret()
    }
}

impl From<[u8; 32]> for SecretKey {
    /// For keys that are no secret, as tests have them: what the caller had stays in its memory.
    fn from(bytes: [u8; 32]) -> Self {
        Self {
            bytes: bytes.to_vec().into(),
        }
    }
}
