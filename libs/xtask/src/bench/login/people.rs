//! People who log in again and again, in several tenants: each caller has accounts that are nobody else's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::resident::Resident;
use rowhouse_proto::auth::v1::{LoginRequest, TokenPair};
use rowhouse_status::{Reason, wire};

use crate::bench::CONNECTIONS;
use crate::bench::house::House;
use crate::bench::load::{self, Measured};
use crate::{demo, seed};

/// Log-ins of one account in a run. For each beyond 200 sessions auth ends another, which is more than a log-in's work; the rest is
/// for an auth that becomes faster than the hashes were before.
const LOG_INS_MAX: f64 = 150.0;
/// Accounts of a run: each is invited, and accepts by mail, before anything is measured.
const ACCOUNTS_MAX: usize = 512;
/// Nobody's password.
const WRONG: &str = "incorrect donkey battery staple";
/// How long somebody waits who was refused for want of room, as the refusal advises.
const PAUSE: Duration = Duration::from_millis(500);

/// Everybody who logs in.
pub(super) struct People {
    callers: Vec<Person>,
    /// Log-ins that found no room and came again.
    refused: Arc<AtomicUsize>,
}

/// One caller, whose accounts take turns.
#[derive(Clone)]
struct Person {
    accounts: Arc<[Account]>,
    refused: Arc<AtomicUsize>,
}

#[derive(Clone)]
struct Account {
    anyone: Caller,
    /// Without a device.
    request: LoginRequest,
    /// As the first log-in has answered it.
    device_secret: String,
}

/// What a log-in shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The password alone, as a program that keeps nothing; it comes from where the person is known.
    Password,
    /// The secret of the device too, as a browser.
    Device,
}

/// How many accounts each caller needs for so many log-ins of all of them together.
pub(super) fn accounts_each(callers: usize, log_ins: f64) -> Result<usize> {
    let each = (log_ins / (callers as f64 * LOG_INS_MAX)).ceil().max(1.0) as usize;
    let all = each.saturating_mul(callers);
    ensure!(
        all <= ACCOUNTS_MAX,
        "{log_ins:.0} log-ins of {callers} callers need {all} accounts, and {ACCOUNTS_MAX} are the most: fewer seconds"
    );
    Ok(each)
}

// === impl People ===

impl People {
    /// Members who have logged in twice each. From then on their address is known, so that nobody's attempts but their own count;
    /// and a device that was shown stays, whatever others are added that never are.
    pub(super) async fn join(
        resident: &Resident,
        houses: &[House<'_>],
        callers: usize,
        accounts_each: usize,
    ) -> Result<Self> {
        let connections = (0..CONNECTIONS).map(|_| Ok(Caller::anonymous(demo::endpoints(resident)?)));
        let connections = connections.collect::<Result<Vec<Caller>>>()?;
        let mut connections = connections.iter().cycle();
        let of_each_house = (callers * accounts_each).div_ceil(houses.len().max(1));
        let mut accounts = Vec::new();
        for house in houses {
            for email in house.join(of_each_house, "user").await? {
                let anyone = connections.next().context("a connection")?.clone();
                accounts.push(Account::open(anyone, email, &house.tenant.id).await?);
            }
        }
        let refused = Arc::default();
        let person = |caller| Person {
            accounts: accounts
                .iter()
                .skip(caller)
                .step_by(callers)
                .take(accounts_each)
                .cloned()
                .collect(),
            refused: Arc::clone(&refused),
        };
        Ok(Self {
            callers: (0..callers).map(person).collect(),
            refused,
        })
    }

    /// Everybody logs in as often as they can.
    pub(super) async fn flood(&self, duration: Duration, way: Way) -> Result<Measured> {
        let log_in = move |person: Person, number: usize| async move {
            let account = person.accounts.get(number % person.accounts.len().max(1));
            account.context("an account")?.log_in(way, &person.refused).await?;
            Ok(())
        };
        load::repeat(&self.callers, self.callers.len(), duration, log_in).await
    }

    /// What somebody sends who guesses: a wrong password for each account.
    pub(super) fn guesses(&self) -> Arc<[LoginRequest]> {
        let accounts = self.callers.iter().flat_map(|person| person.accounts.iter());
        let guess = |account: &Account| LoginRequest {
            password: WRONG.to_owned(),
            ..account.request.clone()
        };
        accounts.map(guess).collect()
    }

    pub(super) fn callers(&self) -> usize {
        self.callers.len()
    }

    pub(super) fn accounts(&self) -> usize {
        self.callers.iter().map(|person| person.accounts.len()).sum()
    }

    pub(super) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }
}

// === impl Account ===

impl Account {
    async fn open(anyone: Caller, email: String, tenant_id: &str) -> Result<Self> {
        let request = LoginRequest {
            email,
            password: seed::PASSWORD.to_owned(),
            tenant_id: tenant_id.to_owned(),
            second_factor: String::new(),
            device_secret: String::new(),
        };
        let mut account = Self {
            anyone,
            request,
            device_secret: String::new(),
        };
        let refused = AtomicUsize::default();
        account.device_secret = account.log_in(Way::Password, &refused).await?.device_secret;
        account.log_in(Way::Device, &refused).await?;
        Ok(account)
    }

    /// One log-in, however often it has to be tried.
    async fn log_in(&self, way: Way, refused: &AtomicUsize) -> Result<TokenPair> {
        let mut request = self.request.clone();
        if way == Way::Device {
            request.device_secret.clone_from(&self.device_secret);
        }
        loop {
            match self.anyone.auth().login(request.clone()).await {
                Ok(pair) => {
                    let pair = pair.into_inner();
                    let is_known = pair.device_secret == request.device_secret;
                    ensure!(way == Way::Password || is_known, "the device is not known any more");
                    return Ok(pair);
                }
                Err(status) if wire::reason(&status) == Some(Reason::Overloaded) => {
                    refused.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PAUSE).await;
                }
                Err(status) => return Err(status).context("Login"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_account_gets_more_sessions_than_it_may_have() {
        for (log_ins, each) in [(0.0, 1), (4_800.0, 1), (4_801.0, 2), (9_600.0, 2)] {
            assert_eq!(accounts_each(32, log_ins).unwrap(), each, "{log_ins}");
        }
        assert!(accounts_each(32, 512.0 * 150.0).is_ok());
        assert!(accounts_each(32, 512.0 * 150.0 + 1.0).is_err());
        assert!(accounts_each(513, 0.0).is_err());
    }
}
