//! Strangers who guess passwords, each from an address of their own: every other one stays at one account, the rest try one after
//! the other. They come at a steady pace, whatever they are told.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::resident::Resident;
use rowhouse_devkit::settings::{Listener, Process};
use rowhouse_proto::auth::v1::LoginRequest;
use rowhouse_proto::auth::v1::auth_service_client::AuthServiceClient;
use rowhouse_status::{Reason, wire};
use serde::Serialize;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use crate::bench::load::Measured;
use crate::bench::pace::paced;

/// Guesses for each that could be hashed. Those who stay at one account make half of them and are soon refused; so the others come
/// with twice as many as can be hashed, and auth refuses them for want of room as well.
const GUESSES_PER_HASH: f64 = 4.0;
/// Guesses that are hashed of each address that tries one account after the other. Auth hashes a hundred before such an address
/// waits; with half as many there is something to hash as long as the flood lasts.
const HASHES_EACH: f64 = 50.0;

/// Everybody who guesses.
pub(super) struct Strangers {
    all: Vec<Stranger>,
    per_second: f64,
    tally: Arc<Tally>,
}

#[derive(Clone)]
struct Stranger {
    auth: AuthServiceClient<Channel>,
    number: usize,
    guesses: Arc<[LoginRequest]>,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    wrong: AtomicUsize,
    too_many: AtomicUsize,
    no_room: AtomicUsize,
}

/// What they were told, how often.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    /// The password was hashed, and is wrong.
    pub(super) wrong: usize,
    /// They have guessed too often.
    pub(super) too_many: usize,
    /// As many hashes wait as may.
    pub(super) no_room: usize,
}

// === impl Strangers ===

impl Strangers {
    /// As many as keep auth busy for so long. `guesses`: at one account each. `hashes_per_second`: that auth can make.
    pub(super) fn new(
        resident: &Resident,
        guesses: &Arc<[LoginRequest]>,
        hashes_per_second: f64,
        duration: Duration,
    ) -> Result<Self> {
        let url = resident.url(Process::Auth, Listener::Public);
        let tally = Arc::default();
        let stranger = |number| {
            let endpoint = Endpoint::from_shared(url.clone())?.local_address(Some(address().into()));
            anyhow::Ok(Stranger {
                auth: AuthServiceClient::new(endpoint.connect_lazy()),
                number,
                guesses: Arc::clone(guesses),
                tally: Arc::clone(&tally),
            })
        };
        let count = count(hashes_per_second * duration.as_secs_f64());
        Ok(Self {
            all: (0..count).map(stranger).collect::<Result<_>>()?,
            per_second: GUESSES_PER_HASH * hashes_per_second,
            tally,
        })
    }

    /// They guess.
    ///
    /// # Errors
    /// Where one is told anything but that the password is wrong, or to come later; and where auth never said one of those.
    pub(super) async fn flood(&self, duration: Duration) -> Result<Measured> {
        let count = self.all.len().max(1);
        let guess = move |stranger: Stranger, number: usize| stranger.guess(number / count);
        let measured = paced(&self.all, self.per_second, duration, guess).await?;
        let told = self.told();
        ensure!(told.wrong > 0 && told.too_many > 0, "no flood of guesses: {told:?}");
        Ok(measured)
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    pub(super) fn told(&self) -> Told {
        Told {
            wrong: self.tally.wrong.load(Ordering::Relaxed),
            too_many: self.tally.too_many.load(Ordering::Relaxed),
            no_room: self.tally.no_room.load(Ordering::Relaxed),
        }
    }
}

// === impl Stranger ===

impl Stranger {
    async fn guess(mut self, turn: usize) -> Result<()> {
        let account = account(self.number, turn, self.guesses.len());
        let guess = self.guesses.get(account).context("an account")?;
        let answer = self.auth.login(guess.clone()).await;
        let status = answer.err().context("a wrong password is taken")?;
        let told = match wire::reason(&status) {
            Some(Reason::LoginFailed) => &self.tally.wrong,
            Some(Reason::TooManyAttempts) => &self.tally.too_many,
            Some(Reason::Overloaded) => &self.tally.no_room,
            _ => return Err(status).context("Login with a wrong password"),
        };
        told.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// How many strangers there are for so many hashes, half of whom stay at one account.
fn count(hashes: f64) -> usize {
    2 * (hashes / HASHES_EACH).ceil().max(1.0) as usize
}

/// The account at which a stranger guesses in a turn. In one turn no two of the same kind are at one, while there are enough.
fn account(stranger: usize, turn: usize, accounts: usize) -> usize {
    let stays = stranger.is_multiple_of(2);
    (stranger / 2 + if stays { 0 } else { turn }) % accounts.max(1)
}

/// An address of this machine's that nobody has logged in from: all of 127.0.0.0/8 are (RFC 1122, 3.2.1.3), and what listens at
/// 127.0.0.1 is reached from each.
fn address() -> Ipv4Addr {
    let [second, third, fourth, ..] = *Uuid::new_v4().as_bytes();
    Ipv4Addr::new(127, second.max(1), third, fourth.clamp(1, 254))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn half_of_the_strangers_stay_and_the_others_try_every_account() {
        for (hashes, strangers) in [(0.0, 2), (50.0, 2), (51.0, 4), (1_200.0, 48)] {
            assert_eq!(count(hashes), strangers, "{hashes}");
        }
        for stranger in 0..6_usize {
            let tried: BTreeSet<usize> = (0..64).map(|turn| account(stranger, turn, 64)).collect();
            assert_eq!(
                tried.len(),
                if stranger.is_multiple_of(2) { 1 } else { 64 },
                "{stranger}"
            );
        }
    }

    #[test]
    fn strangers_come_from_this_machine_and_not_from_where_people_log_in() {
        for _ in 0..1_000 {
            let address = address();
            assert!(address.is_loopback() && address != Ipv4Addr::LOCALHOST, "{address}");
        }
    }
}
