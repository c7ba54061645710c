//! Passwords of the logins that tenants' own databases have, sealed: who makes one and who uses one share a master key.
//!
//! While that is replaced both have the older one too, until [`crate::Provisioner::reseal_logins`] has sealed every password by
//! the new one.

use rowhouse_config::Secret;
use rowhouse_seal::{Error, MasterKeys, Sealers};

/// The label of the key. Changing it loses every such password.
const PURPOSE: &[u8] = b"rowhouse db own logins 1";

/// Seals and opens the passwords.
#[derive(Debug)]
pub(crate) struct OwnLogins {
    sealers: Sealers,
}

// === impl OwnLogins ===

impl OwnLogins {
    pub(crate) fn new(master: &MasterKeys) -> Result<Self, Error> {
        let sealers = Sealers::new(master, PURPOSE)?;
        Ok(Self { sealers })
    }

    /// `name`: the login's and its database's; the sealed password fits no other.
    pub(crate) fn seal(&self, name: &str, password: &Secret) -> Result<Vec<u8>, Error> {
        self.sealers.seal(name, password.expose().as_bytes())
    }

    /// By whichever key has sealed it.
    pub(crate) fn open(&self, name: &str, sealed: &[u8]) -> Result<Secret, Error> {
        let password = self.sealers.open(name, sealed)?;
        String::from_utf8(password).map(Secret::new).map_err(|_| Error::Opening)
    }

    /// Whether the present key has sealed it.
    pub(crate) fn is_present(&self, name: &str, sealed: &[u8]) -> bool {
        self.sealers.is_present(name, sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::master_keys;

    fn logins(key: u8) -> OwnLogins {
        OwnLogins::new(&master_keys(key, b"")).unwrap()
    }

    #[test]
    fn a_password_is_opened_by_its_master_key_for_its_database_alone() {
        let password = Secret::new("hush".to_owned());
        let sealed = logins(b'A').seal("t_1", &password).unwrap();
        assert_eq!(logins(b'A').open("t_1", &sealed).unwrap().expose(), "hush");
        assert_eq!(logins(b'A').open("t_2", &sealed).unwrap_err(), Error::Opening);
        assert_eq!(logins(b'B').open("t_1", &sealed).unwrap_err(), Error::Opening);
    }

    #[test]
    fn a_previous_key_opens_and_never_seals() {
        let password = Secret::new("hush".to_owned());
        let both = OwnLogins::new(&master_keys(b'B', b"CA")).unwrap();
        let older = logins(b'A').seal("t_1", &password).unwrap();
        assert_eq!(both.open("t_1", &older).unwrap().expose(), "hush");
        assert!(!both.is_present("t_1", &older));
        assert_eq!(both.open("t_2", &older).unwrap_err(), Error::Opening);
        let newer = both.seal("t_1", &password).unwrap();
        assert!(both.is_present("t_1", &newer) && !both.is_present("t_2", &newer));
        assert_eq!(logins(b'B').open("t_1", &newer).unwrap().expose(), "hush");
        assert_eq!(logins(b'A').open("t_1", &newer).unwrap_err(), Error::Opening);
    }
}
