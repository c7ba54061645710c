//! Networks that have presented too many API keys, refresh tokens or links which are not good.
//!
//! Nobody guesses one, but an invented one would be a look into the database each time. So they are counted by address as
//! log-ins are, each kind apart and all processes together, and where there were too many this process remembers until when: what
//! comes meanwhile is refused without a look.
//!
//! Keys and refresh tokens that were good from there lately are remembered with it and let through, so that nobody's inventions, in
//! the same office or behind the same proxy, stop a program or a session that has been there. One that has never been there cannot
//! be told from an invented one and waits with them; it gets in from anywhere else. A key is known where it was used last: of a
//! program on many machines, the others are strangers at theirs. A session is known where it was opened or refreshed last, by the
//! token that it would use next and by the one that it has used last, whose answer may have been lost; what this process hands out
//! meanwhile it knows too.
//!
//! A link is followed once, so it is known nowhere: it waits there with the others, a minute at most while nobody goes on, and is
//! good from anywhere else.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use rowhouse_context::Ctx;
use tokio::sync::{Mutex, MutexGuard, RwLock};
use tokio::time::Instant;

use super::{Attempted, BAD, count, network};
use crate::error::Error;
use crate::state::State;
use crate::{service_account, session};

/// Networks that are remembered. Those beyond cost a look each, as if they had come to another process.
const ORIGINS_MAX: u64 = 10_000;

/// Longer than any network is refused at once.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

/// Keys, or sessions, of one network that are remembered: where all share a proxy's address, these are everybody's. 32 bytes each,
/// or 64, and each belongs to one network only.
const KNOWN_MAX: i64 = 10_000;

/// Locks under which networks are closed. Whoever closes one reads the database, and every log-in and refresh asks whether its
/// network is being closed: of many that are closed at once, each keeps those of few others waiting.
const LOCKS: usize = 64;

/// What is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    ApiKey,
    RefreshToken,
    /// Of a mail: an invitation, a new password, a new address.
    Link,
}

/// Networks from which something of a kind is refused for a while.
#[derive(Debug)]
pub(crate) struct ClosedOrigins {
    closed: Cache<(Kind, Vec<u8>), Arc<Closed>>,
    /// Held by who reads what is known of a network; each is for several.
    closing: [Mutex<()>; LOCKS],
}

#[derive(Debug)]
struct Closed {
    until: Instant,
    /// Hashes of what is let through.
    known: RwLock<HashSet<Vec<u8>>>,
}

// === impl ClosedOrigins ===

impl ClosedOrigins {
    pub(crate) fn new() -> Self {
        let closed = Cache::builder()
            .max_capacity(ORIGINS_MAX)
            .time_to_live(FORGOTTEN_AFTER)
            .build();
        Self {
            closed,
            closing: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Refuses what comes from a network that must not present its kind now, where it is not known there. `hash`: of what is
    /// presented.
    async fn admit(&self, kind: Kind, origin: &[u8], hash: &[u8]) -> Result<(), Error> {
        let Some((closed, left)) = self.left(kind, origin).await else {
            return Ok(());
        };
        if closed.known.read().await.contains(hash) {
            return Ok(());
        }
        let retry = left.max(Duration::from_secs(1));
        Err(Error::TooManyAttempts { retry })
    }

    /// Waits for whoever closes a network, and lets nobody close it meanwhile.
    async fn closing(&self, origin: &[u8]) -> Option<MutexGuard<'_, ()>> {
        // A digest: any byte of it spreads them.
        let which = origin.first().map_or(0, |byte| usize::from(*byte) % LOCKS);
        match self.closing.get(which) {
            Some(lock) => Some(lock.lock().await),
            None => None,
        }
    }

    /// How long a network is refused still, where it is.
    async fn left(&self, kind: Kind, origin: &[u8]) -> Option<(Arc<Closed>, Duration)> {
        let closed = self.closed.get(&(kind, origin.to_vec())).await?;
        let left = closed.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some((closed, left))
    }
}

/// What stands for the network that a call comes from.
pub(crate) fn of(ctx: &Ctx) -> Vec<u8> {
    super::digest("origin", &network(ctx.address().unwrap_or_default()))
}

/// Refuses what is presented where too much that was not good has come from the same network, and it is not known there. `hash`:
/// its SHA-256.
pub(crate) async fn admit(ctx: &Ctx, state: &State, kind: Kind, hash: &[u8]) -> Result<(), Error> {
    state.closed_origins.admit(kind, &of(ctx), hash).await
}

/// Something was handed out to a network: where it is closed, that is let through. `hash`: its SHA-256.
pub(crate) async fn was_given(ctx: &Ctx, state: &State, kind: Kind, hash: Vec<u8>) {
    let origin = of(ctx);
    // Whoever closes the network at this moment may have read what is known there before.
    let _closing = state.closed_origins.closing(&origin).await;
    if let Some((closed, _)) = state.closed_origins.left(kind, &origin).await {
        closed.known.write().await.insert(hash);
    }
}

/// Counts something that is not good, and says what to answer: `refusal`, or that the network must present no more for a while.
pub(crate) async fn not_good(ctx: &Ctx, state: &State, kind: Kind, refusal: Error) -> Error {
    let from = network(ctx.address().unwrap_or_default());
    match count(state, Attempted::single(kind.counted_as(), &from, BAD)).await {
        Ok(_) => refusal,
        Err(Error::TooManyAttempts { retry }) => match close(state, kind, of(ctx), retry).await {
            Ok(()) => Error::TooManyAttempts { retry },
            Err(error) => error,
        },
        Err(error) => error,
    }
}

async fn close(state: &State, kind: Kind, origin: Vec<u8>, retry: Duration) -> Result<(), Error> {
    let _closing = state.closed_origins.closing(&origin).await;
    // Of many at once, the first has read what is known there.
    if state.closed_origins.left(kind, &origin).await.is_some() {
        return Ok(());
    }
    let until = Instant::now() + retry;
    let known = known(state, kind, &origin).await?.into_iter().collect();
    let closed = Arc::new(Closed {
        until,
        known: RwLock::new(known),
    });
    state.closed_origins.closed.insert((kind, origin), closed).await;
    Ok(())
}

async fn known(state: &State, kind: Kind, origin: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    match kind {
        Kind::ApiKey => service_account::used_from(&mut *state.connection().await?, origin, KNOWN_MAX).await,
        Kind::RefreshToken => session::known_from(&mut *state.connection().await?, origin, KNOWN_MAX).await,
        Kind::Link => Ok(Vec::new()),
    }
}

// === impl Kind ===

impl Kind {
    fn counted_as(self) -> &'static str {
        match self {
            Self::ApiKey => "keys",
            Self::RefreshToken => "refresh_tokens",
            Self::Link => "links",
        }
    }
}

#[cfg(test)]
mod tests;
