//! Networks that have presented too many keys which are not good.
//!
//! Nobody guesses a key, but an invented one would be a look into the database each time. So they are counted by address as
//! log-ins are, all processes together, and where there were too many this process remembers until when: what comes meanwhile is
//! refused without a look. Keys that were good from there lately are remembered with it and let through, so that nobody's
//! inventions, in the same office or behind the same proxy, stop a program that has been there. One that has never been there
//! cannot be told from an invented one and waits with them; it gets in from anywhere else. A key is known where it was used last:
//! of a program on many machines, the others are strangers at theirs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use rowhouse_context::Ctx;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{ApiKey, store};
use crate::attempt;
use crate::error::Error;
use crate::state::State;

/// Networks that are remembered. Those beyond cost a look each, as if they had come to another process.
const ORIGINS_MAX: u64 = 10_000;

/// Longer than any network is refused at once (`attempt`).
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

/// Keys of one network that are remembered: where all share a proxy's address, these are everybody's. 32 bytes each, and a key
/// belongs to one network only.
const KNOWN_MAX: i64 = 10_000;

/// Networks whose keys are refused for a while.
#[derive(Debug)]
pub(crate) struct ClosedOrigins {
    closed: Cache<Vec<u8>, Arc<Closed>>,
    /// Held by who reads what is known of a network.
    closing: Mutex<()>,
}

#[derive(Debug)]
struct Closed {
    until: Instant,
    /// Hashes of the keys that are let through.
    known: HashSet<Vec<u8>>,
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
            closing: Mutex::default(),
        }
    }

    /// Refuses a key from a network that must not present one now, where it is not known there.
    pub(super) async fn admit(&self, origin: &[u8], presented: &ApiKey) -> Result<(), Error> {
        let Some((closed, left)) = self.left(origin).await else {
            return Ok(());
        };
        if closed.known.contains(&presented.hash()) {
            return Ok(());
        }
        let retry = left.max(Duration::from_secs(1));
        Err(Error::TooManyAttempts { retry })
    }

    /// How long a network is refused still, where it is.
    async fn left(&self, origin: &[u8]) -> Option<(Arc<Closed>, Duration)> {
        let closed = self.closed.get(origin).await?;
        let left = closed.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some((closed, left))
    }
}

/// Counts a key that is not good, and says what to answer.
pub(super) async fn not_good(ctx: &Ctx, state: &State, origin: Vec<u8>) -> Error {
    match attempt::bad_key(ctx, state).await {
        Ok(()) => Error::ApiKeyInvalid,
        Err(Error::TooManyAttempts { retry }) => match close(state, origin, retry).await {
            Ok(()) => Error::TooManyAttempts { retry },
            Err(error) => error,
        },
        Err(error) => error,
    }
}

async fn close(state: &State, origin: Vec<u8>, retry: Duration) -> Result<(), Error> {
    let _closing = state.closed_origins.closing.lock().await;
    // Of many at once, the first has read what is known there.
    if state.closed_origins.left(&origin).await.is_some() {
        return Ok(());
    }
    let until = Instant::now() + retry;
    let known = store::used_from(&mut *state.connection().await?, &origin, KNOWN_MAX).await?;
    let known = known.into_iter().collect();
    let closed = Arc::new(Closed { until, known });
    state.closed_origins.closed.insert(origin, closed).await;
    Ok(())
}

#[cfg(test)]
mod tests;
