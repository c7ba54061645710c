//! Keys derived from the master key, one per purpose, so that none can stand in for another.

use rowhouse_config::Env;
use rowhouse_config::secret::SecretKey;
use rowhouse_db::ControlDb;
use rowhouse_seal::{MasterKeys, Sealers};
use serde_json::json;

use crate::audit::{self, Entry};
use crate::by_command;
use crate::error::Error;
use crate::{key, second_factor};

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
pub(crate) fn sealers(master: &MasterKeys, purpose: Purpose) -> Result<Sealers, Error> {
    Ok(Sealers::new(master, purpose.label())?)
}

/// What became of secrets whose master key was replaced.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Resealed {
    /// All that there are.
    pub(crate) secrets: usize,
    /// Those that a previous key had sealed.
    pub(crate) resealed: usize,
    /// Those that none of the keys opens; some by name.
    pub(crate) unopened: usize,
    pub(crate) examples: Vec<String>,
}

/// How many secrets that cannot be opened are named.
const EXAMPLES_MAX: usize = 10;

// === impl Resealed ===

impl Resealed {
    /// Counts a secret, and hands on what it is now where it was sealed anew.
    pub(crate) fn count(
        &mut self,
        secret: Result<Option<Vec<u8>>, rowhouse_seal::Error>,
        name: impl FnOnce() -> String,
    ) -> Option<Vec<u8>> {
        self.secrets += 1;
        match secret {
            Ok(anew) => {
                self.resealed += usize::from(anew.is_some());
                anew
            }
            Err(_) => {
                self.unopened += 1;
                if self.examples.len() < EXAMPLES_MAX {
                    self.examples.push(name());
                }
                None
            }
        }
    }
}

/// Seals by the present master key whatever a previous one has sealed, so that the previous ones can go. What none of the keys
/// opens keeps nothing else from being done.
pub(crate) async fn reseal(db: &ControlDb, master: &MasterKeys) -> Result<Resealed, Error> {
    let mut resealed = Resealed::default();
    let mut connection = db.pool().acquire().await?;
    key::actions::reseal(&mut connection, &sealers(master, Purpose::SigningKeys)?, &mut resealed).await?;
    second_factor::reseal(
        &mut connection,
        &sealers(master, Purpose::SecondFactors)?,
        &mut resealed,
    )
    .await?;
    let entry = Entry::new("master_key.reseal", "").after(json!({
        "secrets": resealed.secrets,
        "resealed": resealed.resealed,
        "unopened": resealed.unopened,
    }));
    audit::record(&mut connection, &by_command::ctx(), entry).await?;
    Ok(resealed)
}

/// Reads the master keys.
pub(crate) fn read(env: &mut Env) -> Option<MasterKeys> {
    let (present, previous) = (
        env.secret_key("ROWHOUSE_MASTER_KEY"),
        env.secret_keys("ROWHOUSE_MASTER_KEYS_PREVIOUS"),
    );
    present.map(|present| MasterKeys { present, previous })
}

/// Keys by the letters that they begin with in base64; the first is the present one.
#[cfg(test)]
pub(crate) fn master_keys(keys: &str) -> MasterKeys {
    let key = |first: char| SecretKey::from_base64(&format!("{first}{}=", "A".repeat(42))).unwrap();
    let mut keys = keys.chars().map(key);
    MasterKeys {
        present: keys.next().unwrap(),
        previous: keys.collect(),
    }
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
