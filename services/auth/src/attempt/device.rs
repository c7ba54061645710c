//! Devices: whoever has logged in gets a secret to keep there, and is counted by it at the next log-in, apart from everybody else
//! (OWASP, Slow Down Online Guessing Attacks with Device Cookies).
//!
//! A secret opens nothing. It says that somebody who knew the password was there, so that the guesses of others, from anywhere and
//! from the same office, are not held against them. It has counts of its own: wrong passwords make it wait as everybody, and after
//! [`WRONG_MAX`] since the last right one it is no longer good. So a stolen one gives ten guesses in all, and whoever knew the
//! password and got as many as there may be has 200.
//!
//! - It is good for one account. One that is unknown, another account's, too old or used up counts as none, and is looked for by
//!   the same statement whatever there is: nobody learns from it whether there is such an account.
//! - A new password leaves it good. Whoever knew the old one may hold all of them and gets the 200 guesses, which find no new
//!   password; but were they forgotten, an owner whom others guess at would be locked out by changing the password. Only where it
//!   is known that somebody else may have been in, at `recover-account` and `disable-account`, are all forgotten ([`forget`]).
//! - A log-in that shows a good one answers the same secret: nothing is lost with an answer.
//! - An account has twenty. Those that were never shown again give way first, so that a program that logs in without
//!   one drives nobody's browser out.

mod store;

use rowhouse_config::Secret;
use rowhouse_types::UserId;
use sqlx::PgConnection;

use crate::error::Error;
use crate::random;
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::{forget, prune};
pub(super) use store::{give_back, look, was_right};

/// What every secret begins with, so that scanners find leaked ones.
const PREFIX: &str = "rhd_";

/// Longest secret that is looked at, in bytes; ours have 47.
const BYTES_MAX: usize = 128;

/// Devices of one account: browsers, telephones and programs of a person, and some to spare.
/// The statement has the number in it, and a test compares the two.
#[cfg(test)]
const DEVICES_MAX: u32 = 20;

/// How long a secret is good from its last use, which is noted to the hour, in days: as long as a session lasts.
const LIFETIME_DAYS: i32 = 90;

/// Wrong passwords since the last right one after which a secret is no longer good.
const WRONG_MAX: i32 = 10;

/// The secret of a device: opaque, 256 random bits.
#[derive(Clone, Debug)]
pub(crate) struct DeviceSecret {
    text: Secret,
}

// === impl DeviceSecret ===

impl DeviceSecret {
    fn generate() -> Result<Self, Error> {
        let secret = random::text().map_err(Error::fault)?;
        Ok(Self {
            text: Secret::new(format!("{PREFIX}{secret}")),
        })
    }

    /// Any text may be presented; one that cannot be ours counts as none.
    pub(crate) fn presented(text: &str) -> Option<Self> {
        let ours = text.starts_with(PREFIX) && text.len() <= BYTES_MAX;
        ours.then(|| Self {
            text: Secret::new(text.to_owned()),
        })
    }

    /// The text for its holder. It goes nowhere else.
    pub(crate) fn expose(&self) -> &str {
        self.text.expose()
    }

    fn hash(&self) -> Vec<u8> {
        random::sha256(self.text.expose())
    }
}

/// A secret for a device of an account that has logged in, in the transaction that holds the account. What was counted under
/// `attempts` is forgotten.
pub(super) async fn issue(conn: &mut PgConnection, user: UserId, attempts: &[u8]) -> Result<DeviceSecret, Error> {
    let secret = DeviceSecret::generate()?;
    store::insert(conn, user, &secret, attempts).await?;
    Ok(secret)
}

#[cfg(test)]
mod rules {
    use super::*;

    #[test]
    fn a_secret_does_not_print_and_foreign_texts_are_not_looked_up() {
        let secret = DeviceSecret::generate().unwrap();
        assert!(!format!("{secret:?}").contains(secret.expose()));
        assert_eq!(secret.expose().len(), 47);
        assert!(DeviceSecret::presented(secret.expose()).is_some());
        for foreign in ["", "x", "rhr_abc", "RHD_abc", &format!("rhd_{}", "a".repeat(200))] {
            assert!(DeviceSecret::presented(foreign).is_none(), "{foreign:?}");
        }
    }
}
