//! T16: thieves guess at random, from many addresses, at accounts that there are and at others; some accounts and one address more
//! than the rest, one of them in the very network of an owner. How many guesses are looked at is bounded, and owners get in
//! meanwhile: with the secret of their device from anywhere, the thief's network included, and without it from where they have been
//! and no thief is.

use std::collections::BTreeMap;
use std::time::Instant;

use rowhouse_devkit::torture::{Dice, Torture};

use super::*;

/// Guesses of a round, in the short form and in the long one.
const GUESSES: [usize; 2] = [120, 1_500];
const AT_ONCE: usize = 12;
const ADDRESSES: usize = 40;
/// Accounts; the owners of the first half are there.
const ACCOUNTS: [&str; 6] = ["acme", "globex", "initech", "hooli", "umbrella", "soylent"];
const OWNED: usize = 3;
/// The first owner's account, guessed at from where that owner is.
const AT_HOME: (usize, usize) = (0, 0);

/// What the promise allows: a name, guesses before anybody waits, and seconds after which one is forgotten.
const PAIR: (&str, f64, f64) = ("an account from one address", 5.0, 600.0);
const ADDRESS: (&str, f64, f64) = ("an address", 100.0, 36.0);
const ACCOUNT: (&str, f64, f64) = ("an account", 50.0, 72.0);

fn email(account: usize) -> String {
    format!("admin@{}.example", ACCOUNTS[account])
}

fn home(account: usize) -> String {
    format!("198.51.100.{account}")
}

/// Where thieves are. The one who guesses most sits with the first owner, whom most guesses are at.
fn thief(address: usize) -> String {
    match address {
        0 => home(0),
        _ => format!("192.0.2.{address}"),
    }
}

/// Somewhere that nobody has been before.
fn abroad(n: usize) -> String {
    format!("203.0.113.{}", n % 250)
}

/// What came of a storm of guesses.
struct Storm {
    begun: Instant,
    /// Guesses that were looked at: by account and address.
    looked_at: BTreeMap<(usize, usize), usize>,
    refused: usize,
    /// Owners who were not let in.
    locked_out: Vec<String>,
}

impl Storm {
    async fn run(bench: &Bench, owners: &Owners, dice: &mut Dice, (guesses, forgets): (usize, bool)) -> Self {
        let mut storm = Self {
            begun: Instant::now(),
            looked_at: BTreeMap::new(),
            refused: 0,
            locked_out: Vec::new(),
        };
        let mut left = guesses;
        while left > 0 {
            let batch: Vec<(usize, usize)> = (0..AT_ONCE.min(left)).map(|_| guess(dice)).collect();
            left -= batch.len();
            let calls = batch.iter().map(|(account, address)| async move {
                login(bench, &thief(*address), &email(*account), WRONG).await.map(drop)
            });
            for (guess, answer) in batch.iter().zip(join_all(calls).await) {
                match answer {
                    Err(Error::LoginFailed) => *storm.looked_at.entry(*guess).or_default() += 1,
                    Err(Error::TooManyAttempts { .. }) => storm.refused += 1,
                    other => panic!("{other:?}"),
                }
            }
            if owners.show_devices {
                storm.let_in(bench, owners, left).await;
                // Without one too, where no thief has been.
                let owner = 1 + dice.below(OWNED - 1);
                storm.note(
                    owner,
                    &home(owner),
                    login(bench, &home(owner), &email(owner), PASSWORD).await,
                );
            }
            if forgets {
                bench.execute("DELETE FROM auth.attempts").await;
            }
        }
        storm
    }

    /// Every owner logs in, from home and from abroad.
    async fn let_in(&mut self, bench: &Bench, owners: &Owners, n: usize) {
        for (owner, device) in owners.devices.iter().enumerate() {
            for address in [home(owner), abroad(n)] {
                let device = owners.show_devices.then_some(device);
                self.note(
                    owner,
                    &address,
                    login_at(bench, &address, &email(owner), PASSWORD, device).await,
                );
            }
        }
    }

    fn note(&mut self, owner: usize, address: &str, answer: Result<Pair, Error>) {
        if let Err(error) = answer {
            self.locked_out
                .push(format!("{} at {address}: {error:?}", ACCOUNTS[owner]));
        }
    }

    /// How many were looked at, by what they have in common.
    fn sums<K: Ord>(&self, of: impl Fn((usize, usize)) -> K) -> BTreeMap<K, usize> {
        let mut sums = BTreeMap::new();
        for (guess, count) in &self.looked_at {
            *sums.entry(of(*guess)).or_default() += count;
        }
        sums
    }

    /// The same storm, but for the guesses of one kind.
    fn without(&self, guess: (usize, usize)) -> Self {
        let mut looked_at = self.looked_at.clone();
        looked_at.remove(&guess);
        Self {
            begun: self.begun,
            looked_at,
            refused: self.refused,
            locked_out: Vec::new(),
        }
    }

    /// Where more were looked at than the promise allows.
    fn excesses(&self) -> Vec<String> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let pairs = self.sums(|guess| guess).into_values().map(|count| (PAIR, count));
        // Where the owner is known only the account from this address is counted, so it is not in these.
        let strangers = self.without(AT_HOME);
        let addresses = strangers
            .sums(|(_, address)| address)
            .into_values()
            .map(|count| (ADDRESS, count));
        let accounts = strangers
            .sums(|(account, _)| account)
            .into_values()
            .map(|count| (ACCOUNT, count));
        let all = pairs.chain(addresses).chain(accounts);
        all.filter(|((_, free, leak_s), count)| {
            // One is looked at after the free ones, some are forgotten meanwhile, and waits of 1, 2, 4, .. seconds end.
            let allowed = free + 1.0 + (seconds / leak_s).ceil() + (seconds + 1.0).log2().floor() + 1.0;
            *count as f64 > allowed
        })
        .map(|((name, ..), count)| format!("{name}: {count} in {seconds:.0} s"))
        .collect()
    }
}

/// At whom, and from where.
fn guess(dice: &mut Dice) -> (usize, usize) {
    let account = if dice.percent(60) {
        [0, OWNED][dice.below(2)]
    } else {
        dice.below(ACCOUNTS.len())
    };
    let address = if dice.percent(40) { 0 } else { dice.below(ADDRESSES) };
    (account, address)
}

/// The owners of accounts, who have logged in once.
struct Owners {
    devices: Vec<DeviceSecret>,
    /// Whether they log in meanwhile, and show the secrets of their devices.
    show_devices: bool,
}

/// Owners who have been at home.
async fn start(name: &str) -> (Bench, Owners) {
    let bench = Bench::start(name).await;
    let mut devices = Vec::new();
    for (account, name) in ACCOUNTS.iter().enumerate().take(OWNED) {
        bench.house(name).await;
        let pair = login(&bench, &home(account), &email(account), PASSWORD).await.unwrap();
        devices.push(pair.device.unwrap());
    }
    let show_devices = true;
    (bench, Owners { devices, show_devices })
}

#[tokio::test]
async fn however_thieves_guess_they_are_bounded_and_owners_get_in() {
    let mut torture = Torture::begin("T16", "guesses");
    let [short, long] = GUESSES;
    while let Some(mut dice) = torture.round() {
        let (bench, owners) = start("attempt_storm").await;
        let guesses = torture.size(short, long);
        let storm = Storm::run(&bench, &owners, &mut dice, (guesses, false)).await;
        torture.trials(guesses);
        torture.count("looked at", storm.looked_at.values().sum());
        assert!(storm.excesses().is_empty(), "{:?}", storm.excesses());
        assert!(storm.locked_out.is_empty(), "{:?}", storm.locked_out);
        assert!(storm.refused > 0, "nobody guessed too often");
    }
}

/// The control: where counts are forgotten, more is looked at than may be, and that is seen.
#[tokio::test]
async fn where_guesses_are_forgotten_the_excess_is_noticed() {
    let (bench, owners) = start("attempt_storm_control").await;
    let storm = Storm::run(&bench, &owners, &mut Dice::new(7), (GUESSES[0], true)).await;
    assert!(!storm.excesses().is_empty(), "{:?}", storm.looked_at);
}

/// The control: without the secrets of devices, the thief in the owner's own network locks the owner out, and that is seen.
#[tokio::test]
async fn where_devices_are_not_told_apart_the_owner_is_locked_out() {
    let (bench, mut owners) = start("attempt_storm_strangers").await;
    owners.show_devices = false;
    let mut storm = Storm::run(&bench, &owners, &mut Dice::new(7), (GUESSES[0], false)).await;
    // Nobody's wait is over.
    bench
        .execute(
            "UPDATE auth.attempts SET blocked_until = now() + interval '1 hour'
             WHERE blocked_until > at + interval '0.5 seconds'",
        )
        .await;
    storm.let_in(&bench, &owners, 0).await;
    let at_home = format!("{} at {}:", ACCOUNTS[0], home(0));
    assert!(
        storm.locked_out.iter().any(|refused| refused.starts_with(&at_home)),
        "{:?}",
        storm.locked_out
    );
}
