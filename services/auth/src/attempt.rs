//! Guessing: who tries passwords too often waits, longer each time; at a log-in, where somebody who has an account accepts an
//! invitation, and where somebody who is logged in shows the password or a code again.
//!
//! An attempt is counted before the password is looked at, so that many at once cannot pass together, and taken back where
//! it was right. Four counts must all allow it:
//!
//! - **the account from this address**: a person who has forgotten which password it was, or a thief who knows the address
//!   of one account;
//! - **the address**, whichever accounts: one password tried on all of them;
//! - **the account**, from all addresses together: a thief with many machines and many passwords;
//! - **the organisation**, all accounts under one mail domain from all addresses together: a thief with many machines and one
//!   password. It is the domain and not the tenant, since nobody can say which tenant an account belongs to that does not
//!   exist, and those must be counted like the others. While it is exhausted, each address still has a few attempts at it.
//!
//! None of them binds a device that the account was logged in with and that shows its secret ([`device`]): it has a count of its
//! own, and nobody else's guesses, from elsewhere or from the same office, lock the owner out there.
//!
//! The last three do not bind an address either from which the account was logged in to lately, or its password was reset by mail a
//! short while ago. There the first one still may: whoever shares that address and guesses makes the owner wait, unless the owner
//! has such a device or resets the password by mail. From anywhere else guesses at the account itself may, for minutes, until a
//! reset by mail. Behind proxies this needs the clients' own addresses (`ROWHOUSE_TRUSTED_HOPS`): where all share the proxy's, a
//! stranger's slips are those of an owner without a device.
//!
//! **Who is logged in** is counted by the log-in that the session goes back to, and by the account. So a thief who has one session
//! and guesses does not keep the owner, in another, from changing what the thief is after. A session that is opened from another is
//! counted with it, since that takes no password. What all log-ins of the account may together binds its owner too, for minutes;
//! but one alone never uses it up. That takes several stolen ones at once, which the owner can end without showing a password.
//!
//! Addresses of IPv6 count by their first 64 bits, which is what one customer has (RFC 6177). Counts leak away with time. An
//! account that does not exist has counts like any other; but who shares an owner's address, and uses up what that address
//! may, sees from which account nobody is kept.

pub(crate) mod device;
pub(crate) mod failed;
pub(crate) mod origin;
mod store;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rowhouse_context::Ctx;
use rowhouse_types::{Email, SessionId, UserId};
use sqlx::{Connection as _, PgConnection};

use crate::error::Error;
use crate::identity::{Account, Asker, Chooser, NewPassword, OfferedPassword};
use crate::random;
use crate::state::State;
use device::DeviceSecret;
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::prune;

/// What one count allows.
#[derive(Clone, Copy, Debug)]
struct Bound {
    /// Attempts before anybody waits.
    free: f64,
    /// Time in which one attempt is forgotten, in seconds.
    leak_s: f64,
    /// Longest wait, in seconds. It doubles from one second on.
    wait_max_s: f64,
}

/// One account from one address, or in one log-in. Five: the third try is often right, and the fifth was a slip.
const PAIR: Bound = Bound {
    free: 5.0,
    leak_s: 600.0,
    wait_max_s: 900.0,
};

/// One address, whichever accounts: an office behind one address has many people, and waits at most a minute.
const ADDRESS: Bound = Bound {
    free: 100.0,
    leak_s: 36.0,
    wait_max_s: 60.0,
};

/// All accounts under one domain, from all addresses that they are not known from. Many people share a mail provider's, and
/// forget their passwords a thousand times an hour at most while they travel.
const ORGANISATION: Bound = Bound {
    free: 1_000.0,
    leak_s: 3.6,
    wait_max_s: 30.0,
};

/// One address at an organisation that is exhausted: three an hour, so that a traveller gets in at once, and a thousand machines
/// get three thousand guesses out of all accounts.
const VISITOR: Bound = Bound {
    free: 3.0,
    leak_s: 1_200.0,
    wait_max_s: 900.0,
};

/// One account, from all addresses that it is not known from, or in all its log-ins. One log-in cannot use it up: it soon waits
/// for longer than it takes to forget an attempt here.
const ACCOUNT: Bound = Bound {
    free: 50.0,
    leak_s: 72.0,
    wait_max_s: 300.0,
};

/// One device, at its account: as one account from one address.
const DEVICE: Bound = PAIR;

/// Mails that one address asks for, to whichever accounts: each is a row and a message, whether it is sent or not.
const MAILS: Bound = Bound {
    free: 30.0,
    leak_s: 120.0,
    wait_max_s: 60.0,
};

/// API keys, refresh tokens or links from one address that are not good, each kind apart. Nobody guesses one, but each is looked
/// for; a program that still has an old one and tries it each minute is no flood.
const BAD: Bound = Bound {
    free: 100.0,
    leak_s: 36.0,
    wait_max_s: 60.0,
};

/// Passwords that somebody chooses who may, by a link or in a session, and that are too easy to guess: each is scored where
/// passwords are hashed. Who has tried twenty has read what is asked.
const CHOICES: Bound = Bound {
    free: 20.0,
    leak_s: 60.0,
    wait_max_s: 60.0,
};

/// Something that is counted: the digest of what it is about.
#[derive(Clone, Debug)]
struct Subject {
    digest: Vec<u8>,
    bound: Bound,
    /// When this attempt was, by the database's clock.
    counted: Option<DateTime<Utc>>,
}

/// An attempt that was counted and not yet found right.
#[derive(Debug)]
pub(crate) struct Attempted {
    pair: Subject,
    others: Vec<Subject>,
    organisation: Option<Organisation>,
    /// By which it is counted in place of the account and the address.
    device: Option<DeviceSecret>,
    asker: Asker,
}

/// All accounts of an organisation, and one address there.
#[derive(Debug)]
struct Organisation {
    all: Subject,
    visitor: Subject,
}

/// What came of counting an attempt.
enum Taken {
    /// So many are counted now.
    Counted(f64),
    /// It must not be made yet. In seconds.
    Wait(f64),
}

// === impl Subject ===

impl Subject {
    fn new(kind: &str, about: &str, bound: Bound) -> Self {
        Self {
            digest: digest(kind, about),
            bound,
            counted: None,
        }
    }
}

fn digest(kind: &str, about: &str) -> Vec<u8> {
    random::sha256(&format!("{kind}|{about}"))
}

// === impl Attempted ===

impl Attempted {
    /// Of something that has one count.
    fn single(kind: &str, about: &str, bound: Bound) -> Self {
        Self::of(Subject::new(kind, about, bound))
    }

    fn of(pair: Subject) -> Self {
        Self {
            pair,
            others: Vec::new(),
            organisation: None,
            device: None,
            asker: Asker::Stranger,
        }
    }

    /// What is counted, always in one order. The organisation comes last: all its log-ins wait for that one row, and it is held
    /// until the commit.
    fn subjects(&self) -> impl Iterator<Item = &Subject> {
        let organisation = self.organisation.as_ref().map(|organisation| &organisation.all);
        std::iter::once(&self.pair).chain(&self.others).chain(organisation)
    }
}

/// Counts an attempt to show the password of the account with this address, and answers the account where there is one; or refuses
/// it, then the connection is to be given back at once, since what was looked at is locked until then. What is sent for somebody
/// without a device depends on the address alone. `device`: the secret that is shown.
pub(crate) async fn begin(
    ctx: &Ctx,
    conn: &mut PgConnection,
    email: &Email,
    device: Option<&DeviceSecret>,
) -> Result<(Attempted, Option<Account>), Error> {
    if let Some(secret) = device
        && let Some(begun) = begin_at_device(conn, email, secret).await?
    {
        return Ok(begun);
    }
    let (account, address) = (email.key(), ctx.address().unwrap_or_default());
    let from = network(address);
    let mut attempted = Attempted::of(of_pair(&account, &from));
    let marks = (&of_reset(&account, &from)[..], &of_recovery(&account)[..]);
    let look = store::look(conn, email, address, &mut attempted.pair, marks).await?;
    match look.taken {
        Some(Taken::Wait(wait_s)) => return Err(refused(wait_s)),
        Some(Taken::Counted(_)) => {
            attempted.asker = owner(&account);
            return Ok((attempted, look.account));
        }
        None => {}
    }
    let of_address = Subject::new("address", &from, ADDRESS);
    if look.recovered {
        attempted.pair = Subject::new("recovered", &format!("{account}|{from}"), ADDRESS);
        attempted.others = vec![of_address];
        attempted.asker = owner(&account);
    } else {
        let domain = email.domain();
        attempted.others = vec![of_address, of_account(&account)];
        attempted.organisation = Some(Organisation {
            all: Subject::new("organisation", &domain, ORGANISATION),
            visitor: Subject::new("visitor", &format!("{domain}|{from}"), VISITOR),
        });
    }
    Ok((count_on(conn, attempted).await?, look.account))
}

/// Counts an attempt by its device, and answers the account, or refuses it; `None` where the secret is not good.
async fn begin_at_device(
    conn: &mut PgConnection,
    email: &Email,
    secret: &DeviceSecret,
) -> Result<Option<(Attempted, Option<Account>)>, Error> {
    let mut attempted = Attempted::single("device", secret.expose(), DEVICE);
    match device::look(conn, email, secret, &mut attempted.pair).await? {
        None => Ok(None),
        Some((Taken::Wait(wait_s), _)) => Err(refused(wait_s)),
        Some((Taken::Counted(_), account)) => {
            attempted.asker = owner(&email.key());
            attempted.device = Some(secret.clone());
            Ok(Some((attempted, account)))
        }
    }
}

/// Counts an attempt of somebody who is logged in to prove that the account is theirs, or refuses it. `caller`: who, and in which
/// session.
pub(crate) async fn begin_own(state: &State, caller: (UserId, SessionId)) -> Result<Attempted, Error> {
    let mut conn = state.connection().await?;
    let mut attempted = of_own(&mut conn, ["own", "own_account"], caller).await?;
    attempted.asker = person(caller.0);
    count_on(&mut conn, attempted).await
}

/// Somebody who may be the owner of the account with this address, for the line at the hasher. By the address and not, as
/// [`person`], by the account: nothing may depend on whether there is one. So an account has two places there at most.
fn owner(account: &str) -> Asker {
    Asker::Known(digest("owner", account))
}

/// Somebody who is logged in, or holds a link that was mailed to them, for the line at the hasher.
pub(crate) fn person(user: UserId) -> Asker {
    Asker::Known(digest("owner", &user.to_string()))
}

/// Counts an attempt of somebody who is logged in to make a code of the second factor, or refuses it. Apart from passwords:
/// a right password must not forget how many codes were wrong. `caller` as in [`begin_own`].
pub(crate) async fn begin_own_code(state: &State, caller: (UserId, SessionId)) -> Result<Attempted, Error> {
    let mut conn = state.connection().await?;
    let attempted = of_own(&mut conn, ["own_code", "own_code_account"], caller).await?;
    count_on(&mut conn, attempted).await
}

/// An attempt of somebody who is logged in, by their log-in and by the account.
///
/// The log-in is told by its moment, which every session that is opened from another takes over from it: whoever opens one, and
/// needs no password for that, gets no further guesses by it.
async fn of_own(
    conn: &mut PgConnection,
    [by_login, by_account]: [&str; 2],
    (user, session): (UserId, SessionId),
) -> Result<Attempted, Error> {
    let login = match store::logged_in_at(conn, session).await? {
        Some(at) => at.timestamp_micros().to_string(),
        // A program, which has a key and no session; it is refused when its account is looked for.
        None => session.to_string(),
    };
    let mut attempted = Attempted::single(by_login, &format!("{user}|{login}"), PAIR);
    attempted.others = vec![Subject::new(by_account, &user.to_string(), ACCOUNT)];
    Ok(attempted)
}

/// Counts a mail that somebody asks for who is not logged in, or refuses it.
pub(crate) async fn begin_mail(ctx: &Ctx, state: &State) -> Result<(), Error> {
    let from = network(ctx.address().unwrap_or_default());
    count(state, Attempted::single("mails", &from, MAILS)).await.map(drop)
}

/// Counts an attempt, or refuses it.
async fn count(state: &State, attempted: Attempted) -> Result<Attempted, Error> {
    count_on(&mut *state.connection().await?, attempted).await
}

/// As [`count`], on a connection that the caller has, and gives back at once where it is refused.
async fn count_on(conn: &mut PgConnection, mut attempted: Attempted) -> Result<Attempted, Error> {
    if attempted.subjects().count() == 1 {
        return match store::take(conn, &mut attempted.pair).await? {
            Taken::Counted(_) => Ok(attempted),
            Taken::Wait(wait_s) => Err(refused(wait_s)),
        };
    }
    let mut tx = conn.begin().await?;
    // In one order, so that no two wait for each other; where one refuses, none has counted it.
    for subject in std::iter::once(&mut attempted.pair).chain(&mut attempted.others) {
        if let Taken::Wait(wait_s) = store::take(&mut tx, subject).await? {
            return Err(refused(wait_s));
        }
    }
    if let Some(organisation) = &mut attempted.organisation
        && let Taken::Wait(wait_s) = store::take(&mut tx, &mut organisation.all).await?
    {
        match store::take(&mut tx, &mut organisation.visitor).await? {
            Taken::Counted(level) if level <= organisation.visitor.bound.free => attempted.organisation = None,
            _ => return Err(refused(wait_s)),
        }
    }
    tx.commit().await?;
    Ok(attempted)
}

fn refused(wait_s: f64) -> Error {
    let retry = Duration::try_from_secs_f64(wait_s.max(1.0)).unwrap_or(Duration::from_secs(1));
    Error::TooManyAttempts { retry }
}

/// The hash of a password that somebody chooses. Those that are too easy to guess are counted, before they are looked at, and the
/// count is forgotten with the first that is not. `about`: what they may choose it by, a link or their account.
pub(crate) async fn choose(
    ctx: &Ctx,
    state: &State,
    about: &str,
    password: &NewPassword,
    chooser: &Chooser,
) -> Result<String, Error> {
    let attempted = count(state, Attempted::single("choice", about, CHOICES)).await?;
    let hashed = state.hasher.hash(ctx, password, chooser).await;
    match &hashed {
        Ok(_) => store::forget(&mut *state.connection().await?, &attempted.pair).await?,
        Err(Error::Field { .. }) => {}
        Err(_) => give_back(&mut *state.connection().await?, &attempted).await?,
    }
    hashed
}

/// Compares a password, and takes the attempt back where that could not be done: who is not heard has not guessed.
pub(crate) async fn verify(
    ctx: &Ctx,
    state: &State,
    attempted: &Attempted,
    password: &OfferedPassword,
    hash: Option<String>,
) -> Result<bool, Error> {
    let verified = state.hasher.verify(ctx, &attempted.asker, password, hash).await;
    if verified.is_err() {
        give_back(&mut *state.connection().await?, attempted).await?;
    }
    verified
}

/// Takes an attempt back, and leaves those before it and the wait that one after it has set: nothing was guessed.
pub(crate) async fn give_back(conn: &mut PgConnection, attempted: &Attempted) -> Result<(), Error> {
    for subject in attempted.subjects() {
        store::give_back(conn, subject).await?;
    }
    if let Some(secret) = &attempted.device {
        device::give_back(conn, secret).await?;
    }
    Ok(())
}

/// Takes an attempt back, and those before it: it was right. Last in its transaction, before the clock of rights: who is at the
/// account waits for it.
pub(crate) async fn succeeded(conn: &mut PgConnection, attempted: &Attempted) -> Result<(), Error> {
    match &attempted.device {
        Some(secret) => device::was_right(conn, secret, &attempted.pair.digest).await?,
        None => store::forget(conn, &attempted.pair).await?,
    }
    give_back_others(conn, attempted).await
}

/// As [`succeeded`], of somebody who has logged in: answers the secret of the device, where none was shown that is good a new one.
pub(crate) async fn logged_in(
    conn: &mut PgConnection,
    attempted: &Attempted,
    user: UserId,
) -> Result<DeviceSecret, Error> {
    if let Some(known) = &attempted.device {
        succeeded(conn, attempted).await?;
        return Ok(known.clone());
    }
    let secret = device::issue(conn, user, &attempted.pair.digest).await?;
    give_back_others(conn, attempted).await?;
    Ok(secret)
}

async fn give_back_others(conn: &mut PgConnection, attempted: &Attempted) -> Result<(), Error> {
    for subject in attempted.subjects().skip(1) {
        store::give_back(conn, subject).await?;
    }
    Ok(())
}

/// The account has a password of 256 random bits, which goes to its owner: nobody guesses that, so for an hour no guesses at the
/// account are held against whoever shows it, wherever they are; only that an address tries very often. (That an account was
/// recovered is seen by who guesses at it meanwhile.) To be called as [`was_reset`].
pub(crate) async fn was_recovered(conn: &mut PgConnection, email: &str) -> Result<(), Error> {
    let account = Email::key_of(email);
    store::forget(conn, &of_account(&account)).await?;
    store::mark(conn, &of_recovery(&account)).await
}

/// The account has a password that its owner has chosen: from now on guesses count again. To be called as [`was_reset`].
pub(crate) async fn was_chosen(conn: &mut PgConnection, email: &str) -> Result<(), Error> {
    store::unmark(conn, &of_recovery(&Email::key_of(email))).await
}

/// The account's password was reset by mail: whoever reads the account's mails is its owner, and gets in from where they are,
/// whatever others try meanwhile. Last in its transaction but for the clock of rights: who is at the account waits for it, and
/// whoever is waited for here must not keep everybody from the clock.
pub(crate) async fn was_reset(ctx: &Ctx, conn: &mut PgConnection, email: &str) -> Result<(), Error> {
    let (account, from) = (Email::key_of(email), network(ctx.address().unwrap_or_default()));
    // In the order of `count`: whoever guesses there at this moment has the first and waits for the second.
    store::forget(conn, &of_pair(&account, &from)).await?;
    store::forget(conn, &of_account(&account)).await?;
    store::mark(conn, &of_reset(&account, &from)).await
}

/// An account from one network.
fn of_pair(account: &str, from: &str) -> Subject {
    Subject::new("pair", &format!("{account}|{from}"), PAIR)
}

/// What marks a network from which the password was reset.
fn of_reset(account: &str, from: &str) -> Vec<u8> {
    digest("reset", &format!("{account}|{from}"))
}

/// What marks an account that was recovered.
fn of_recovery(account: &str) -> Vec<u8> {
    digest("recovery", account)
}

fn of_account(key: &str) -> Subject {
    Subject::new("account", key, ACCOUNT)
}

/// Whom an address belongs to, as far as it tells.
fn network(address: &str) -> String {
    match address.parse() {
        Ok(IpAddr::V6(six)) => match six.to_ipv4_mapped() {
            Some(four) => four.to_string(),
            None => {
                let [a, b, c, d, ..] = six.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).to_string()
            }
        },
        _ => address.to_owned(),
    }
}
