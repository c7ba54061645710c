//! Outboxes in databases that come and go: of tenants that have one of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{BATCH_ROWS, ROUND_MAX, Relay, RoundError};
use crate::{Broker, OutboxTable, Wake};

/// Databases that are looked after at most; more are a mistake.
const DATABASES_MAX: i64 = 10_000;

/// How often the list is read, and a database visited that had rows.
const PAUSE_MIN: Duration = Duration::from_millis(500);

/// How long a database is left alone that had none for a while, or fails. A visit costs a connection, about 5 ms of CPU:
/// a hundred idle databases cost 6 % of one.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// Batches of one visit; then it is the next database's turn.
const BATCHES_PER_VISIT: usize = 10;

/// Publishes the outboxes of the databases that a main database names, in turn, over one connection at a time.
///
/// An idle database keeps none. What is written into it waits until a visit is due, up to eight seconds, and for the visits before
/// that one, which are made one after the other: a database that hangs holds up the others for up to a minute. Then it is due twice
/// a second as long as there is something to publish.
pub struct DatabasesRelay {
    relay: Relay,
    companion: Arc<dyn Companion>,
    main: PgPool,
    beside: fn(&PgPool, &str) -> PgPool,
    schema: &'static str,
    visits: BTreeMap<String, Visit>,
}

/// What else is done in each database while it is visited.
#[async_trait]
pub trait Companion: Send + Sync {
    /// Does it, over the visit's connection. What fails is told there and done at the next visit.
    async fn visit(&self, database: &PgPool);
}

/// When a database is visited.
#[derive(Clone, Copy, Debug)]
struct Visit {
    pause: Duration,
    due: Instant,
    failing: bool,
}

// === impl DatabasesRelay ===

impl DatabasesRelay {
    /// `name`: of these outboxes together, in logs and metrics. `main`: where `<schema>.databases` is, with the columns
    /// `database_name` and `state`, of which those in state `ready` count. The login may connect to each of them, on the
    /// same server, and has the rights to `<schema>.outbox` there that [`OutboxTable`] asks for. `beside`: one connection, with
    /// the same login, to the database of this name on the same server (`rowhouse_db::database_beside`). `companion`: comes
    /// along on each visit.
    #[must_use]
    pub fn new(
        name: &'static str,
        main: PgPool,
        beside: fn(&PgPool, &str) -> PgPool,
        schema: &'static str,
        broker: Broker,
        companion: Arc<dyn Companion>,
    ) -> Self {
        let outbox = OutboxTable::new(main.clone(), schema);
        Self {
            relay: Relay::new(name, outbox, broker, Wake::new()),
            companion,
            main,
            beside,
            schema,
            visits: BTreeMap::new(),
        }
    }

    /// See [`Relay::may_be_unheard`].
    #[must_use]
    pub fn may_be_unheard(mut self, kinds: &'static [&'static str]) -> Self {
        self.relay = self.relay.may_be_unheard(kinds);
        self
    }

    /// Works until `stop`; the visit that runs then is ended first.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failing = false;
        while !stop.is_cancelled() {
            match self.read_list().await {
                Ok(()) => failing = false,
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    tracing::warn!(outbox = self.relay.name, cause = %error, "the list of databases cannot be read");
                }
                Err(_) => {}
            }
            self.visit_due(&stop).await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(PAUSE_MIN) => {}
            }
        }
    }

    async fn read_list(&mut self) -> Result<(), sqlx::Error> {
        // The schema is a literal in its caller's code.
        let sql = format!(
            "SELECT database_name FROM {}.databases WHERE state = 'ready' ORDER BY database_name LIMIT $1",
            self.schema
        );
        let names: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(DATABASES_MAX)
            .fetch_all(&self.main)
            .await?;
        let known = std::mem::take(&mut self.visits);
        self.visits = names
            .into_iter()
            .map(|name| {
                let visit = known.get(&name).copied().unwrap_or_else(Visit::now);
                (name, visit)
            })
            .collect();
        Ok(())
    }

    async fn visit_due(&mut self, stop: &CancellationToken) {
        let now = Instant::now();
        let due: Vec<(String, Visit)> = self
            .visits
            .iter()
            .filter(|(_, visit)| visit.due <= now)
            .map(|(name, visit)| (name.clone(), *visit))
            .collect();
        let mut oldest: f64 = 0.0;
        for (name, mut visit) in due {
            if stop.is_cancelled() {
                return;
            }
            self.relay.waited_s = 0.0;
            let outcome = self.visit(&name).await;
            oldest = oldest.max(self.relay.waited_s);
            match outcome {
                Ok(published) => visit.went_well(published),
                Err(error) => {
                    metrics::counter!("rowhouse_outbox_failures_total", "outbox" => self.relay.name).increment(1);
                    if !visit.failing {
                        let outbox = self.relay.name;
                        tracing::warn!(outbox, database = name, cause = %error, "the relay cannot publish; rows wait");
                    }
                    visit.failed();
                }
            }
            self.visits.insert(name, visit);
        }
        metrics::gauge!("rowhouse_outbox_oldest_seconds", "outbox" => self.relay.name).set(oldest);
    }

    /// Publishes what the database holds, up to a bound. Answers how many rows that was.
    async fn visit(&mut self, name: &str) -> Result<i64, RoundError> {
        let pool = (self.beside)(&self.main, name);
        self.relay.outbox = OutboxTable::new(pool.clone(), self.schema);
        let published = self.publish().await;
        if tokio::time::timeout(ROUND_MAX, self.companion.visit(&pool))
            .await
            .is_err()
        {
            tracing::warn!(
                outbox = self.relay.name,
                database = name,
                "who comes along on a visit did not end in time"
            );
        }
        pool.close().await;
        published
    }

    async fn publish(&mut self) -> Result<i64, RoundError> {
        let mut published = 0;
        for _ in 0..BATCHES_PER_VISIT {
            let round = tokio::time::timeout(ROUND_MAX, self.relay.round()).await;
            let count = round.map_err(|_| RoundError::Late)??;
            published += count;
            if count < BATCH_ROWS {
                break;
            }
        }
        Ok(published)
    }
}

// === impl Visit ===

impl Visit {
    fn now() -> Self {
        Self {
            pause: PAUSE_MIN,
            due: Instant::now(),
            failing: false,
        }
    }

    fn went_well(&mut self, published: i64) {
        self.failing = false;
        self.wait(published > 0);
    }

    fn failed(&mut self) {
        self.failing = true;
        self.wait(false);
    }

    fn wait(&mut self, busy: bool) {
        self.pause = if busy {
            PAUSE_MIN
        } else {
            (self.pause * 2).min(PAUSE_MAX)
        };
        self.due = Instant::now() + self.pause;
    }
}

impl fmt::Debug for DatabasesRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabasesRelay")
            .field("relay", &self.relay)
            .field("visits", &self.visits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pause alone: the visit that is due then comes after others.
    #[test]
    fn a_visit_is_due_eight_seconds_after_the_last_one_at_most() {
        let mut visit = Visit::now();
        let mut pause_after = |published: Option<i64>| {
            match published {
                Some(published) => visit.went_well(published),
                None => visit.failed(),
            }
            visit.pause
        };
        let longest = (0..20).map(|_| pause_after(Some(0))).max();
        assert_eq!(longest, Some(Duration::from_secs(8)));
        let longest = (0..20).map(|_| pause_after(None)).max();
        assert_eq!(longest, Some(Duration::from_secs(8)));
        assert_eq!(pause_after(Some(1)), Duration::from_millis(500));
    }
}
