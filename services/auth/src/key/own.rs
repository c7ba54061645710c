//! How auth's own verifier gets the keys: from its own database.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rowhouse_auth_kit::AccessTokenVerifier;
use rowhouse_client::KeysSource;
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};
use tokio_util::sync::CancellationToken;

use super::actions;
use crate::state::State;

/// How often keys are read without being asked to, so that a retired one goes.
const READ_EVERY: Duration = Duration::from_secs(30);

/// Shortest time between two readings: tokens with invented key ids must not become load on the database.
const READ_PAUSE: Duration = Duration::from_millis(250);

/// Keeps the keys of auth's own verifier.
#[derive(Clone)]
pub(crate) struct OwnKeys {
    state: Arc<State>,
    verifier: Arc<AccessTokenVerifier>,
    /// When the last reading began. Locked while one runs: callers who come meanwhile wait for it.
    last: Arc<Mutex<Option<Instant>>>,
}

// === impl OwnKeys ===

impl OwnKeys {
    pub(crate) fn new(state: Arc<State>, verifier: Arc<AccessTokenVerifier>) -> Self {
        Self {
            state,
            verifier,
            last: Arc::default(),
        }
    }

    /// Reads the keys from time to time, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(READ_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.refresh().await,
            }
        }
    }
}

#[async_trait]
impl KeysSource for OwnKeys {
    async fn refresh(&self) {
        let wanted = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(last) = *last {
            if last >= wanted {
                return;
            }
            sleep_until(last + READ_PAUSE).await;
        }
        *last = Some(Instant::now());
        match actions::published(&self.state).await {
            Ok(keys) => self
                .verifier
                .set_keys(keys.into_iter().map(|published| (published.kid, published.key))),
            // What is known stays: a database that is away retires no key.
            Err(error) => tracing::warn!(%error, "the keys of access tokens were not read"),
        }
    }
}
