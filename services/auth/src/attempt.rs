//! Guessing: who tries passwords too often waits, longer each time.
//!
//! An attempt is counted before the password is looked at, so that many at once cannot pass together, and taken back where
//! it was right. Three counts must all allow it:
//!
//! - **the account from this address**: a person who has forgotten which password it was, or a thief who knows the address
//!   of one account;
//! - **the address**, whichever accounts: one password tried on all of them;
//! - **the account**, from all addresses together: a thief with many machines. A password that was reset by mail clears it.
//!
//! The last two do not bind an address from which the account was logged in to lately: nobody's guesses, from elsewhere or
//! from the same office, lock the owner out. Behind proxies this needs the clients' own addresses
//! (`ROWHOUSE_TRUSTED_HOPS`): where all share the proxy's, a stranger's slips are the owner's.
//!
//! Counts leak away with time. An account that does not exist has counts like any other, so that they tell nothing.

mod store;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rowhouse_context::Ctx;
use rowhouse_types::{Email, UserId};
use sqlx::PgConnection;

use crate::error::Error;
use crate::identity::OfferedPassword;
use crate::random;
use crate::state::State;
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

/// One account from one address. Five: the third try is often right, and the fifth was a slip.
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

/// One account, from all addresses that it is not known from.
const ACCOUNT: Bound = Bound {
    free: 50.0,
    leak_s: 72.0,
    wait_max_s: 300.0,
};

/// Mails that one address asks for, to whichever accounts: each is a row and a message, whether it is sent or not.
const MAILS: Bound = Bound {
    free: 30.0,
    leak_s: 120.0,
    wait_max_s: 60.0,
};

/// Something that is counted: the digest of what it is about.
#[derive(Clone, Debug)]
struct Subject {
    digest: Vec<u8>,
    bound: Bound,
}

/// An attempt that was counted and not yet found right.
#[derive(Debug)]
pub(crate) struct Attempted {
    pair: Subject,
    others: Vec<Subject>,
}

// === impl Subject ===

impl Subject {
    fn new(kind: &str, about: &str, bound: Bound) -> Self {
        Self {
            digest: random::sha256(&format!("{kind}|{about}")),
            bound,
        }
    }
}

// === impl Attempted ===

impl Attempted {
    /// What is counted, always in one order.
    fn subjects(&self) -> impl Iterator<Item = &Subject> {
        std::iter::once(&self.pair).chain(&self.others)
    }
}

/// Counts an attempt to log in to the account with this address, or refuses it.
pub(crate) async fn begin(ctx: &Ctx, state: &State, email: &Email) -> Result<Attempted, Error> {
    let (account, from) = (email.key(), ctx.address().unwrap_or_default());
    let pair = Subject::new("pair", &format!("{account}|{from}"), PAIR);
    let known = store::is_known(&mut *state.connection().await?, email, from).await?;
    let others = if known {
        Vec::new()
    } else {
        vec![Subject::new("address", from, ADDRESS), of_account(&account)]
    };
    count(state, Attempted { pair, others }).await
}

/// Counts an attempt of somebody who is logged in to prove that the account is theirs, or refuses it.
pub(crate) async fn begin_own(state: &State, user: UserId) -> Result<Attempted, Error> {
    let pair = Subject::new("own", &user.to_string(), PAIR);
    let others = Vec::new();
    count(state, Attempted { pair, others }).await
}

/// Counts an attempt of somebody who is logged in to make a code of the second factor, or refuses it. Apart from passwords:
/// a right password must not forget how many codes were wrong.
pub(crate) async fn begin_own_code(state: &State, user: UserId) -> Result<Attempted, Error> {
    let pair = Subject::new("own_code", &user.to_string(), PAIR);
    let others = Vec::new();
    count(state, Attempted { pair, others }).await
}

/// Counts a mail that somebody asks for who is not logged in, or refuses it.
pub(crate) async fn begin_mail(ctx: &Ctx, state: &State) -> Result<(), Error> {
    let pair = Subject::new("mails", ctx.address().unwrap_or_default(), MAILS);
    let others = Vec::new();
    count(state, Attempted { pair, others }).await.map(drop)
}

async fn count(state: &State, attempted: Attempted) -> Result<Attempted, Error> {
    let mut tx = state.begin().await?;
    // In one order, so that no two wait for each other; where one refuses, none has counted it.
    for subject in attempted.subjects() {
        if let Some(wait_s) = store::take(&mut tx, subject).await? {
            let retry = Duration::try_from_secs_f64(wait_s.max(1.0)).unwrap_or(Duration::from_secs(1));
            return Err(Error::TooManyAttempts { retry });
        }
    }
    tx.commit().await?;
    Ok(attempted)
}

/// Compares a password, and takes the attempt back where that could not be done: who is not heard has not guessed.
pub(crate) async fn verify(
    ctx: &Ctx,
    state: &State,
    attempted: &Attempted,
    password: &OfferedPassword,
    hash: Option<String>,
) -> Result<bool, Error> {
    let verified = state.hasher.verify(ctx, password, hash).await;
    if verified.is_err() {
        give_back(state, attempted).await?;
    }
    verified
}

/// Takes an attempt back, and leaves those before it: nothing was guessed.
pub(crate) async fn give_back(state: &State, attempted: &Attempted) -> Result<(), Error> {
    let mut conn = state.connection().await?;
    for subject in attempted.subjects() {
        store::give_back(&mut conn, subject).await?;
    }
    Ok(())
}

/// Takes an attempt back, and those before it: it was right.
pub(crate) async fn succeeded(state: &State, attempted: &Attempted) -> Result<(), Error> {
    let mut conn = state.connection().await?;
    store::forget(&mut conn, &attempted.pair).await?;
    for subject in &attempted.others {
        store::give_back(&mut conn, subject).await?;
    }
    Ok(())
}

/// Forgets what was tried on an account, from wherever.
pub(crate) async fn forget_account(conn: &mut PgConnection, email: &str) -> Result<(), Error> {
    store::forget(conn, &of_account(&email.to_lowercase())).await
}

fn of_account(key: &str) -> Subject {
    Subject::new("account", key, ACCOUNT)
}
