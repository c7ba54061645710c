//! From an outbox to the broker.
//!
//! [`databases`]: outboxes in databases that come and go.

mod databases;

use std::collections::BTreeMap;
use std::time::Duration;

use rowhouse_context::metadata;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::broker::{BrokerError, EXCHANGE};
use crate::publisher::{Message, Publisher, headers};
use crate::{Broker, Event, OutboxTable};

pub use databases::{Companion, DatabasesRelay};

/// Rows published at once: enough to fill the way to the broker, few enough to publish again after a failure.
const BATCH_ROWS: i64 = 100;

/// Longest and shortest wait for new rows. A commit in this process cuts the wait short; the poll is for the others.
const IDLE_MAX: Duration = Duration::from_millis(500);
const IDLE_MIN: Duration = Duration::from_millis(20);

/// Longest wait after a failure.
const FAULT_MAX: Duration = Duration::from_secs(5);

/// Longest time for one round, database included; far beyond what the single steps may take together.
const ROUND_MAX: Duration = Duration::from_secs(30);

/// How long a kind that no queue took is left alone, at first and at most.
const UNROUTABLE_MIN: Duration = Duration::from_millis(500);
const UNROUTABLE_MAX: Duration = Duration::from_secs(5);

/// Hurries the relays of a process after a commit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Wake {
    bell: watch::Sender<()>,
}

/// Publishes what an outbox holds.
#[derive(Debug)]
pub struct Relay {
    name: &'static str,
    outbox: OutboxTable,
    publisher: Publisher,
    wake: Wake,
    unheard: &'static [&'static str],
    holds: BTreeMap<String, Hold>,
    /// How long the oldest row had waited that the last round found.
    waited_s: f64,
}

/// A kind that no queue took.
#[derive(Clone, Copy, Debug)]
struct Hold {
    delay: Duration,
    until: Instant,
}

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("the outbox cannot be read: {0}")]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("a round did not end in time")]
    Late,
}

// === impl Wake ===

impl Wake {
    /// A new one, for one or more relays and for everybody who commits what they shall publish.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bell: watch::Sender::new(()),
        }
    }

    /// Says that there may be new rows. A relay that is at work looks again afterwards.
    pub fn notify(&self) {
        self.bell.send_replace(());
    }
}

impl Default for Wake {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Relay ===

impl Relay {
    /// A relay for one outbox. Any number of them may work on the same table.
    ///
    /// `name`: of the outbox, in logs and metrics.
    #[must_use]
    pub fn new(name: &'static str, outbox: OutboxTable, broker: Broker, wake: Wake) -> Self {
        Self {
            name,
            outbox,
            publisher: Publisher::new(broker),
            wake,
            unheard: &[],
            holds: BTreeMap::new(),
            waited_s: 0.0,
        }
    }

    /// Names kinds of event that nobody needs to listen to: without a queue they are gone once published.
    ///
    /// Every other kind is published with `mandatory` and stays in the outbox until a queue takes it, so that a consumer
    /// that was never started loses nothing. A kind missing here is therefore kept too long rather than lost.
    #[must_use]
    pub fn may_be_unheard(mut self, kinds: &'static [&'static str]) -> Self {
        self.unheard = kinds;
        self
    }

    /// Works until `stop`; the round that runs then is ended first.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut pause, mut failing) = (IDLE_MIN, false);
        let mut bell = self.wake.bell.subscribe();
        while !stop.is_cancelled() {
            let outcome = match tokio::time::timeout(ROUND_MAX, self.round()).await {
                Ok(outcome) => outcome,
                Err(_) => Err(RoundError::Late),
            };
            metrics::gauge!("rowhouse_outbox_oldest_seconds", "outbox" => self.name).set(self.waited_s);
            match outcome {
                Ok(published) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(outbox = self.name, "the relay works again");
                        pause = IDLE_MIN;
                    }
                    if published == BATCH_ROWS {
                        continue;
                    }
                    pause = if published > 0 {
                        IDLE_MIN
                    } else {
                        (pause * 2).min(IDLE_MAX)
                    };
                }
                Err(error) => {
                    metrics::counter!("rowhouse_outbox_failures_total", "outbox" => self.name).increment(1);
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(outbox = self.name, cause = %error, "the relay cannot publish; rows wait");
                    }
                    pause = (pause * 2).min(FAULT_MAX);
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
                // While something is broken a commit does not make it whole.
                // The bell cannot go away: it is kept in `self.wake`.
                Ok(()) = bell.changed(), if !failing => pause = IDLE_MIN,
            }
        }
    }

    /// Claims rows, publishes them, removes what the broker has taken; answers how many that was.
    async fn round(&mut self) -> Result<i64, RoundError> {
        let now = Instant::now();
        let held: Vec<String> = self
            .holds
            .iter()
            .filter(|(_, hold)| now < hold.until)
            .map(|(kind, _)| kind.clone())
            .collect();
        let claim = self.outbox.claim(BATCH_ROWS, &held).await?;
        let waited = claim
            .oldest
            .map_or(0.0, |oldest| (chrono::Utc::now() - oldest).as_seconds_f64());
        self.waited_s = waited.max(0.0);
        if claim.events.is_empty() {
            claim.finish(&[]).await?;
            return Ok(0);
        }
        let messages: Vec<Message> = claim.events.iter().map(|event| self.message(event)).collect();
        let outcomes = self.publisher.publish_all(&messages).await;
        let mut published: Vec<Uuid> = Vec::with_capacity(outcomes.len());
        let mut fault = None;
        for (event, outcome) in claim.events.iter().zip(outcomes) {
            match outcome {
                Ok(()) => {
                    self.holds.remove(&event.kind);
                    published.push(event.id);
                }
                Err(BrokerError::Unroutable | BrokerError::Refused) => self.hold(&event.kind, now),
                Err(error) => fault = Some(error),
            }
        }
        claim.finish(&published).await?;
        let count = published.len();
        metrics::counter!("rowhouse_outbox_published_total", "outbox" => self.name)
            .increment(u64::try_from(count).unwrap_or(u64::MAX));
        match fault {
            Some(error) => Err(error.into()),
            None => Ok(i64::try_from(count).unwrap_or(BATCH_ROWS)),
        }
    }

    /// Leaves a kind alone for a while, so that rows which nobody takes do not stand before those which somebody does.
    fn hold(&mut self, kind: &str, now: Instant) {
        let known = self.holds.get(kind).copied();
        if known.is_some_and(|hold| now < hold.until) {
            // Another row of the same batch.
            return;
        }
        if known.is_none() {
            tracing::warn!(
                outbox = self.name,
                kind,
                "no queue takes events of this kind; they wait in the outbox"
            );
        }
        metrics::counter!("rowhouse_outbox_unroutable_total", "outbox" => self.name).increment(1);
        let delay = known.map_or(UNROUTABLE_MIN, |hold| (hold.delay * 2).min(UNROUTABLE_MAX));
        let until = now + delay;
        self.holds.insert(kind.to_owned(), Hold { delay, until });
    }

    fn message(&self, event: &Event) -> Message {
        let tenant = event.tenant.map(|tenant| tenant.to_string());
        Message {
            exchange: EXCHANGE.to_owned(),
            routing_key: event.kind.clone(),
            mandatory: !self.unheard.contains(&event.kind.as_str()),
            id: event.id.to_string(),
            headers: headers([
                (metadata::REQUEST_ID, Some(event.request_id.as_str())),
                (metadata::TENANT_ID, tenant.as_deref()),
                (metadata::TRACEPARENT, event.traceparent.as_deref()),
            ]),
            payload: event.payload.to_string().into_bytes(),
        }
    }
}
