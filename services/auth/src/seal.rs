//! Secrets at rest: AES-256-GCM under a key derived from the master key, bound to what they belong to.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rowhouse_config::secret::SecretKey;

use crate::error::Error;
use crate::master::{self, Purpose};

/// Seals and opens secrets of one purpose.
#[derive(Debug)]
pub(crate) struct Sealer {
    key: RandomizedNonceKey,
}

// === impl Sealer ===

impl Sealer {
    pub(crate) fn new(master: &SecretKey, purpose: Purpose) -> Result<Self, Error> {
        let key = master::derive(master, purpose)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| Error::fault("a key cannot be used"))?;
        Ok(Self { key })
    }

    /// Nonce, ciphertext and tag in one piece. `owner` is authenticated along: a row's sealed part fits no other row.
    pub(crate) fn seal(&self, owner: &str, secret: &[u8]) -> Result<Vec<u8>, Error> {
        let mut sealed = secret.to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(owner.as_bytes()), &mut sealed)
            .map_err(|_| Error::fault("a secret cannot be sealed"))?;
        Ok([nonce.as_ref().as_slice(), sealed.as_slice()].concat())
    }

    pub(crate) fn open(&self, owner: &str, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let fault = || Error::fault("a secret cannot be opened: was the master key changed?");
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or_else(fault)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| fault())?;
        let mut opened = sealed.to_vec();
        let secret = self
            .key
            .open_in_place(nonce, Aad::from(owner.as_bytes()), &mut opened)
            .map_err(|_| fault())?;
        Ok(secret.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(first: &str) -> Sealer {
        sealer_for(first, Purpose::SigningKeys)
    }

    fn sealer_for(first: &str, purpose: Purpose) -> Sealer {
        let master = SecretKey::from_base64(&format!("{first}{}=", "A".repeat(42))).unwrap();
        Sealer::new(&master, purpose).unwrap()
    }

    #[test]
    fn only_the_same_master_key_purpose_and_owner_open_what_was_sealed() {
        let sealed = sealer("A").seal("kid", &[7; 32]).unwrap();
        assert_eq!(sealer("A").open("kid", &sealed).unwrap(), [7; 32]);
        assert!(sealer("B").open("kid", &sealed).is_err());
        assert!(sealer("A").open("dik", &sealed).is_err());
        assert!(sealer("A").open("kid", &sealed[..20]).is_err());
        assert!(sealer("A").open("kid", &[]).is_err());
        assert!(sealer_for("A", Purpose::SecondFactors).open("kid", &sealed).is_err());
        assert!(!sealed.windows(8).any(|window| window == [7; 8]));
    }
}
