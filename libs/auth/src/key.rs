//! Ed25519 keys (RFC 8032), as seeds and public keys, and signing (RFC 7515, RFC 8037).

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::Serialize;

/// A private key.
pub struct SigningKey {
    key: EncodingKey,
    public: PublicKey,
}

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey {
    bytes: [u8; 32],
}

/// A key cannot be used. Nothing of the key is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The seed is not 32 bytes.
    #[error("the seed of a key must be 32 bytes")]
    Seed,
    /// The public key is not 32 bytes in base64url without padding.
    #[error("a public key must be 32 bytes in base64url without padding")]
    Public,
    /// A service has no key.
    #[error("a service has no public key")]
    ServiceWithoutKey,
    /// A name is not that of a service.
    #[error("a key is named for no service of the suite")]
    ServiceUnknown,
    /// The claims could not be signed.
    #[error("the claims cannot be signed")]
    Sign,
}

// === impl SigningKey ===

impl SigningKey {
    /// The key with this seed of 32 bytes.
    ///
    /// # Errors
    /// [`KeyError::Seed`] for another length.
    pub fn from_seed(seed: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::Seed)?;
        let bytes = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Seed)?;
        let document = pair.to_pkcs8().map_err(|_| KeyError::Seed)?;
        Ok(Self {
            key: EncodingKey::from_ed_der(document.as_ref()),
            public: PublicKey { bytes },
        })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// A signed token in compact form.
    ///
    /// `typ`: the type in its header, [`crate::token::ACCESS_TOKEN_TYPE`] for access tokens. `kid`: the key's id there.
    ///
    /// # Errors
    /// [`KeyError::Sign`] where the claims cannot be written as JSON.
    pub fn sign<C: Serialize>(&self, typ: &str, kid: &str, claims: &C) -> Result<String, KeyError> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(typ.to_owned());
        header.kid = Some(kid.to_owned());
        jsonwebtoken::encode(&header, claims, &self.key).map_err(|_| KeyError::Sign)
    }

    /// The signature of any bytes, base64url: for tokens that `sign` would not write.
    pub(crate) fn signature(&self, message: &str) -> Result<String, KeyError> {
        jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, Algorithm::EdDSA).map_err(|_| KeyError::Sign)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

// === impl PublicKey ===

impl PublicKey {
    /// The key with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self { bytes }
    }

    /// Reads the `x` of a JSON Web Key (RFC 8037, section 2): base64url without padding.
    ///
    /// # Errors
    /// [`KeyError::Public`] for anything but 32 bytes.
    pub fn from_base64url(text: &str) -> Result<Self, KeyError> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| KeyError::Public)?;
        Ok(Self {
            bytes: bytes.try_into().map_err(|_| KeyError::Public)?,
        })
    }

    /// The key as the `x` of a JSON Web Key.
    #[must_use]
    pub fn to_base64url(self) -> String {
        URL_SAFE_NO_PAD.encode(self.bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    pub(crate) fn decoding_key(self) -> DecodingKey {
        DecodingKey::from_ed_der(&self.bytes)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64url())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_seeds_and_public_keys_of_32_bytes_are_taken() {
        assert!(SigningKey::from_seed(&[7; 31]).is_err());
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        assert_eq!(
            PublicKey::from_base64url(&key.public().to_base64url()),
            Ok(key.public())
        );
        for text in ["", "AAAA", "not base64!", &"A".repeat(44)] {
            assert_eq!(PublicKey::from_base64url(text), Err(KeyError::Public), "{text:?}");
        }
    }

    #[test]
    fn a_private_key_does_not_print() {
        let shown = format!("{:?}", SigningKey::from_seed(&[7; 32]).unwrap());
        assert!(!shown.contains("7, 7") && !shown.contains("BwcH"), "{shown}");
    }
}
