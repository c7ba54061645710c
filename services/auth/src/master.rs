//! Keys derived from the master key, one per purpose, so that none can stand in for another.

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use rowhouse_config::secret::SecretKey;

use crate::error::Error;

/// What a derived key is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// Seals the private halves of signing keys.
    SigningKeys,
    /// Derives the tokens of invitations.
    Invitations,
    /// Derives the tokens of links in mails about accounts.
    AccountLinks,
    /// Seals the secrets of second factors.
    SecondFactors,
}

// === impl Purpose ===

impl Purpose {
    /// The label that sets this purpose's key apart (RFC 5869, section 3.2). Changing one loses what it protects.
    fn label(self) -> &'static [u8] {
        match self {
            Self::SigningKeys => b"rowhouse auth signing keys 1",
            Self::Invitations => b"rowhouse auth invitations 1",
            Self::AccountLinks => b"rowhouse auth account links 1",
            Self::SecondFactors => b"rowhouse auth second factors 1",
        }
    }
}

/// The key for a purpose: HKDF with SHA-256 (RFC 5869). No salt: the master key is random already.
pub(crate) fn derive(master: &SecretKey, purpose: Purpose) -> Result<[u8; 32], Error> {
    let mut key = [0; 32];
    Salt::new(HKDF_SHA256, &[])
        .extract(master.expose())
        .expand(&[purpose.label()], HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key))
        .map_err(|_| Error::fault("a key cannot be derived"))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_and_master_keys_give_different_keys_and_the_same_ones_again() {
        let one = SecretKey::from_base64("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
        let two = SecretKey::from_base64("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
        let key = |master, purpose| derive(master, purpose).unwrap();
        assert_eq!(key(&one, Purpose::Invitations), key(&one, Purpose::Invitations));
        assert_ne!(key(&one, Purpose::Invitations), key(&one, Purpose::SigningKeys));
        assert_ne!(key(&one, Purpose::Invitations), key(&two, Purpose::Invitations));
    }
}
