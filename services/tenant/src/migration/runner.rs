//! Carries runs on: every process looks for one that is due, takes its lease, and makes the calls of its wave.
//!
//! After each round of calls to a data server what they said is recorded under the lease. A run that an operator has paused or
//! cancelled, or that another process has taken over, is let go at the next record.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use rowhouse_context::{Ctx, Principal, ServiceName};
use rowhouse_types::ServerName;
use sqlx::PgPool;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use uuid::Uuid;

use super::answer::Answer;
use super::{Run, State, Wave, peer, store};
use crate::error::Result;
use crate::operation::peers::Peers;
use crate::server;

/// How often to look for runs that are due.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Runs that one process carries on at once. There is one of each participant at most.
const RUNNING_MAX: usize = 4;

/// Longest time for one call: the participant begins no house in its second half.
const CALL_MAX: Duration = Duration::from_secs(20);

/// Carries runs on. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Runner {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    peers: Peers,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

// === impl Runner ===

impl Runner {
    pub(crate) fn new(pool: PgPool, peers: Peers) -> Self {
        Self {
            inner: Arc::new(Inner {
                pool,
                peers,
                tasks: TaskTracker::new(),
                stopping: CancellationToken::new(),
            }),
        }
    }

    /// Claims runs that are due until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let round = self.look().await;
            if let Err(error) = &round
                && !failing
            {
                // Once, not twice a second for as long as the database is away.
                tracing::warn!(%error, "migrations that are due cannot be claimed");
            }
            failing = round.is_err();
        }
    }

    /// Starts what is due.
    pub(crate) async fn look(&self) -> Result<()> {
        while self.inner.tasks.len() < RUNNING_MAX && !self.inner.stopping.is_cancelled() {
            let lease = Uuid::new_v4();
            let Some(run) = store::claim(&self.inner.pool, lease).await? else {
                break;
            };
            let span = tracing::info_span!("migration", migration = %run.id, request_id = %run.request);
            let runner = self.clone();
            // Not awaited here: the tracker waits for it when the process stops.
            drop(
                self.inner
                    .tasks
                    .spawn(async move { runner.drive(run, lease).await }.instrument(span)),
            );
        }
        Ok(())
    }

    /// Stops work; what is not done is left for the next process, which may go on at once.
    pub(crate) async fn stop(&self) {
        self.inner.stopping.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    async fn drive(&self, run: Run, lease: Uuid) {
        let held = store::Held { id: run.id, lease };
        tokio::select! {
            () = self.walk(run, lease) => {}
            () = self.keep_lease(&held) => {
                tracing::warn!("the lease of a migration was lost");
            }
            () = self.inner.stopping.cancelled() => {
                if let Err(error) = store::release(&self.inner.pool, &held).await {
                    tracing::warn!(%error, "the lease of a migration was not given back; it will run out");
                }
            }
        }
    }

    /// Makes calls until the run is over, or no longer ours.
    async fn walk(&self, mut run: Run, lease: Uuid) {
        loop {
            match self.wave(run, lease).await {
                Ok(Some(after)) if after.state == State::Running => run = after,
                Ok(Some(after)) => {
                    tracing::info!(state = %after.state, failed = after.failed(), "a migration is over, or waits");
                    return;
                }
                Ok(None) => return,
                Err(error) => {
                    // The lease runs out by itself, and then the wave goes on where the ledger says.
                    tracing::warn!(%error, "what a migration has done was not recorded");
                    return;
                }
            }
        }
    }

    /// Carries a wave to its end; `None` where the run is not ours any more. Returns early where the run has come to wait for
    /// an operator.
    ///
    /// Each data server goes at its own pace: one that hangs or is away keeps no other waiting, only the end of the wave.
    async fn wave(&self, mut run: Run, lease: Uuid) -> Result<Option<Run>> {
        let pool = &self.inner.pool;
        // What is asked stays the same for as long as the lease is ours.
        let ordered = run.clone();
        if let Some(wave) = ordered.plan.waves.get(ordered.wave) {
            let (began, began_at) = (Instant::now(), store::now(pool).await?);
            let ask = |server, pause| self.ask(&ordered, wave, server, pause);
            let mut asked = FuturesUnordered::new();
            for server in server::store::names(pool).await? {
                let pause = run.pause_of(&server, began_at);
                asked.push(ask(server, pause));
            }
            while let Some((server, answer)) = asked.next().await {
                let pause = run.hear(&server, answer, began_at + began.elapsed());
                if run.is_over_budget() {
                    run.state = State::Halted;
                }
                if pause.is_none() {
                    self.tell_directory(&run, &server, began_at).await?;
                }
                match store::record(pool, lease, &run).await? {
                    Some(after) if after.state == State::Running => run = after,
                    over => return Ok(over),
                }
                if let Some(pause) = pause {
                    asked.push(ask(server, pause));
                }
            }
            tracing::info!(wave = run.wave, failed = run.failed(), "a wave is through");
        }
        run.end_wave();
        store::record(pool, lease, &run).await
    }

    /// Asks the participant, after a pause, to migrate some houses of the wave on a data server.
    async fn ask(&self, run: &Run, wave: &Wave, server: ServerName, pause: Duration) -> (ServerName, Answer) {
        sleep(pause).await;
        let calls = (0..run.plan.parallelism).map(|_| async {
            let principal = Principal::Service {
                name: ServiceName::Tenant,
            };
            let ctx = Ctx::new(run.request.clone(), principal, None, Instant::now() + CALL_MAX);
            peer::migrate(&self.inner.peers, &ctx, run, wave, server.as_str()).await
        });
        let answer = Answer::of(join_all(calls).await);
        (server, answer)
    }

    /// Where no house of the server is behind, the directory says so from now on. Otherwise [`super::versions`] tells it by and by
    /// which homes have the version.
    ///
    /// `began_at`: when the wave began, before the server was asked.
    async fn tell_directory(&self, run: &Run, server: &ServerName, began_at: DateTime<Utc>) -> Result<()> {
        let progress = run.progress.get(server.as_str());
        if progress.is_some_and(|progress| progress.behind_in_all == 0) {
            let known = store::Known {
                participant: run.plan.participant,
                server,
                version: run.plan.target,
                but: &[],
                asked_at: began_at,
            };
            store::tell_directory(&self.inner.pool, &known).await?;
        }
        Ok(())
    }

    /// Renews the lease; returns when it is lost, or when it has run out because the database does not answer.
    async fn keep_lease(&self, held: &store::Held) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < store::LEASE {
            sleep(store::LEASE / 3).await;
            let asked = Instant::now();
            match timeout(store::LEASE / 3, store::renew(&self.inner.pool, held)).await {
                Ok(Ok(true)) => renewed = asked,
                Ok(Ok(false)) => return,
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }
}
