//! Passwords of the logins that tenants' own databases have, sealed: who makes one and who uses one share a master key.

use rowhouse_config::Secret;
use rowhouse_config::secret::SecretKey;
use rowhouse_seal::{Error, Sealer};

/// The label of the key. Changing it loses every such password.
const PURPOSE: &[u8] = b"rowhouse db own logins 1";

/// Seals and opens the passwords.
#[derive(Debug)]
pub(crate) struct OwnLogins {
    sealer: Sealer,
}

// === impl OwnLogins ===

impl OwnLogins {
    pub(crate) fn new(master: &SecretKey) -> Result<Self, Error> {
        let sealer = Sealer::new(master, PURPOSE)?;
        Ok(Self { sealer })
    }

    /// `name`: the login's and its database's; the sealed password fits no other.
    pub(crate) fn seal(&self, name: &str, password: &Secret) -> Result<Vec<u8>, Error> {
        self.sealer.seal(name, password.expose().as_bytes())
    }

    pub(crate) fn open(&self, name: &str, sealed: &[u8]) -> Result<Secret, Error> {
        let password = self.sealer.open(name, sealed)?;
        String::from_utf8(password).map(Secret::new).map_err(|_| Error::Opening)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins(first: &str) -> OwnLogins {
        OwnLogins::new(&SecretKey::from_base64(&format!("{first}{}=", "A".repeat(42))).unwrap()).unwrap()
    }

    #[test]
    fn a_password_is_opened_by_its_master_key_for_its_database_alone() {
        let password = Secret::new("hush".to_owned());
        let sealed = logins("A").seal("t_1", &password).unwrap();
        assert_eq!(logins("A").open("t_1", &sealed).unwrap().expose(), "hush");
        assert_eq!(logins("A").open("t_2", &sealed).unwrap_err(), Error::Opening);
        assert_eq!(logins("B").open("t_1", &sealed).unwrap_err(), Error::Opening);
    }
}
