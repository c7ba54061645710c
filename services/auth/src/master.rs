//! Keys derived from the master key, one per purpose, so that none can stand in for another.

use rowhouse_config::secret::SecretKey;
use rowhouse_seal::Sealer;

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

/// The key for a purpose.
pub(crate) fn derive(master: &SecretKey, purpose: Purpose) -> Result<[u8; 32], Error> {
    Ok(rowhouse_seal::derive(master, purpose.label())?)
}

/// Seals and opens the secrets of a purpose.
pub(crate) fn sealer(master: &SecretKey, purpose: Purpose) -> Result<Sealer, Error> {
    Ok(Sealer::new(master, purpose.label())?)
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
