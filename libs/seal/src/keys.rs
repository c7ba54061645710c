//! Master keys, of which one takes another's place while what the older one has sealed is still to be opened.
//!
//! Nothing says by which key a secret is sealed: only the key that has sealed it opens it.

use std::iter;

use rowhouse_config::secret::SecretKey;

use crate::{Error, Sealer};

/// A master key, and those in whose place it came.
#[derive(Clone, Debug)]
pub struct MasterKeys {
    /// Seals, and opens what it has sealed.
    pub present: SecretKey,
    /// Only open what they have sealed, before the present one took their place.
    pub previous: Vec<SecretKey>,
}

/// Seals secrets of one purpose by the present key, and opens what any of the keys has sealed.
#[derive(Debug)]
pub struct Sealers {
    present: Sealer,
    previous: Vec<Sealer>,
}

// === impl MasterKeys ===

impl From<SecretKey> for MasterKeys {
    /// The present one, without any previous ones.
    fn from(present: SecretKey) -> Self {
        Self {
            present,
            previous: Vec::new(),
        }
    }
}

impl MasterKeys {
    /// All of them, the present one first.
    pub fn each(&self) -> impl Iterator<Item = &SecretKey> {
        iter::once(&self.present).chain(&self.previous)
    }
}

// === impl Sealers ===

impl Sealers {
    /// For the secrets of one purpose; as of [`crate::derive`].
    ///
    /// # Errors
    /// [`Error::Derivation`].
    pub fn new(master: &MasterKeys, purpose: &'static [u8]) -> Result<Self, Error> {
        let previous = master.previous.iter().map(|key| Sealer::new(key, purpose));
        Ok(Self {
            present: Sealer::new(&master.present, purpose)?,
            previous: previous.collect::<Result<_, _>>()?,
        })
    }

    /// As of [`Sealer::seal`].
    ///
    /// # Errors
    /// [`Error::Sealing`].
    pub fn seal(&self, owner: &str, secret: &[u8]) -> Result<Vec<u8>, Error> {
        self.present.seal(owner, secret)
    }

    /// What was sealed for `owner`, by whichever key.
    ///
    /// # Errors
    /// [`Error::Opening`].
    pub fn open(&self, owner: &str, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let mut keys = iter::once(&self.present).chain(&self.previous);
        keys.find_map(|key| key.open(owner, sealed).ok()).ok_or(Error::Opening)
    }

    /// The same secret, sealed by the present key; `None` where it is so already.
    ///
    /// # Errors
    /// [`Error::Opening`], [`Error::Sealing`].
    pub fn reseal(&self, owner: &str, sealed: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        if self.is_present(owner, sealed) {
            return Ok(None);
        }
        Ok(Some(self.seal(owner, &self.open(owner, sealed)?)?))
    }

    /// Whether the present key has sealed it.
    pub fn is_present(&self, owner: &str, sealed: &[u8]) -> bool {
        self.present.open(owner, sealed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealers(present: u8, previous: &[u8]) -> Sealers {
        let key = |byte: u8| SecretKey::from([byte; 32]);
        let master = MasterKeys {
            present: key(present),
            previous: previous.iter().copied().map(key).collect(),
        };
        Sealers::new(&master, b"a purpose").unwrap()
    }

    #[test]
    fn a_previous_key_opens_and_never_seals() {
        let both = sealers(b'B', b"CA");
        let older = sealers(b'A', b"").seal("me", b"hush").unwrap();
        assert_eq!(both.open("me", &older).unwrap(), b"hush");
        assert!(!both.is_present("me", &older));
        assert_eq!(both.open("you", &older).unwrap_err(), Error::Opening);
        let newer = both.reseal("me", &older).unwrap().unwrap();
        assert!(both.is_present("me", &newer) && !both.is_present("you", &newer));
        assert_eq!(sealers(b'B', b"").open("me", &newer).unwrap(), b"hush");
        assert_eq!(sealers(b'A', b"").open("me", &newer).unwrap_err(), Error::Opening);
        assert!(both.reseal("me", &newer).unwrap().is_none(), "nothing is left to do");
        assert_eq!(sealers(b'D', b"").reseal("me", &newer).unwrap_err(), Error::Opening);
    }
}
