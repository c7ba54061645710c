//! Sealing: AES-256-GCM under a key derived from the master key, one key per purpose, so that none can stand in for another;
//! each secret bound to what it belongs to.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use rowhouse_config::secret::SecretKey;

use crate::Error;

/// Seals and opens secrets of one purpose.
#[derive(Debug)]
pub struct Sealer {
    key: RandomizedNonceKey,
}

/// The key for a purpose: HKDF with SHA-256 (RFC 5869). No salt: the master key is random already.
///
/// `purpose`: the label that sets this purpose's key apart (RFC 5869, section 3.2).
///
/// # Errors
/// [`Error::Derivation`].
pub fn derive(master: &SecretKey, purpose: &'static [u8]) -> Result<[u8; 32], Error> {
    let mut key = [0; 32];
    Salt::new(HKDF_SHA256, &[])
        .extract(master.expose())
        .expand(&[purpose], HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key))
        .map_err(|_| Error::Derivation)?;
    Ok(key)
}

// === impl Sealer ===

impl Sealer {
    /// For the secrets of one purpose; as of [`derive`].
    ///
    /// # Errors
    /// [`Error::Derivation`].
    pub fn new(master: &SecretKey, purpose: &'static [u8]) -> Result<Self, Error> {
        let key = derive(master, purpose)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| Error::Derivation)?;
        Ok(Self { key })
    }

    /// Nonce, ciphertext and tag in one piece. `owner` is authenticated along: a row's sealed part fits no other row.
    ///
    /// # Errors
    /// [`Error::Sealing`].
    pub fn seal(&self, owner: &str, secret: &[u8]) -> Result<Vec<u8>, Error> {
        let mut sealed = secret.to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(owner.as_bytes()), &mut sealed)
            .map_err(|_| Error::Sealing)?;
        Ok([nonce.as_ref().as_slice(), sealed.as_slice()].concat())
    }

    /// What was sealed for `owner`.
    ///
    /// # Errors
    /// [`Error::Opening`].
    pub fn open(&self, owner: &str, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or(Error::Opening)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Error::Opening)?;
        let mut opened = sealed.to_vec();
        let secret = self
            .key
            .open_in_place(nonce, Aad::from(owner.as_bytes()), &mut opened)
            .map_err(|_| Error::Opening)?;
        Ok(secret.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(first: &str) -> Sealer {
        sealer_for(first, b"one")
    }

    fn sealer_for(first: &str, purpose: &'static [u8]) -> Sealer {
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
        assert!(sealer_for("A", b"two").open("kid", &sealed).is_err());
        assert!(!sealed.windows(8).any(|window| window == [7; 8]));
    }
}
