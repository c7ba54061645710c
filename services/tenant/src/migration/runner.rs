//! Carries runs on: every process looks for one that is due, takes its lease, and makes the calls of its wave.
//!
//! After each round of calls what they said is recorded under the lease. A run that an operator has paused or cancelled, or
//! that another process has taken over, is let go at the next record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rowhouse_context::{Ctx, Principal, ServiceName};
use rowhouse_types::ServerName;
use sqlx::PgPool;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use uuid::Uuid;

use super::{Progress, Run, State, Wave, peer, store};
use crate::error::Result;
use crate::operation::pause;
use crate::operation::peers::Peers;
use crate::server;

/// How often to look for runs that are due.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Runs that one process carries on at once. There is one of each participant at most.
const RUNNING_MAX: usize = 4;

/// Longest time for one call: the participant begins no house in its second half.
const CALL_MAX: Duration = Duration::from_secs(20);

/// Pause where the houses that are left are in others' hands, or their pauses after a failure are not over.
const IDLE: Duration = Duration::from_millis(200);

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

/// What the calls of one round have said.
struct Round {
    /// Houses that were brought on.
    migrated: i32,
    /// What the first server that did not answer said.
    error: Option<String>,
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
            match self.step(&mut run, lease).await {
                Ok(Some(after)) if after.state == State::Running => run = after,
                Ok(Some(after)) => {
                    tracing::info!(state = %after.state, failed = after.failed(), "a migration is over, or waits");
                    return;
                }
                Ok(None) => return,
                Err(error) => {
                    // The lease runs out by itself, and then the step is repeated.
                    tracing::warn!(%error, "a step of a migration was not recorded");
                    return;
                }
            }
        }
    }

    /// One round of calls and its record; `None` where the run is not ours any more, or waits for a participant.
    async fn step(&self, run: &mut Run, lease: Uuid) -> Result<Option<Run>> {
        let pool = &self.inner.pool;
        let mut round = Round {
            migrated: 0,
            error: None,
        };
        match run.plan.waves.get(run.wave).cloned() {
            None => run.state = State::Done,
            Some(wave) => {
                round = self.calls(run, &wave).await?;
                if run.is_over_budget() {
                    run.state = State::Halted;
                } else if round.error.is_none() && run.is_wave_through() {
                    tracing::info!(wave = run.wave, failed = run.failed(), "a wave is through");
                    self.tell_directory(run).await?;
                    run.wave += 1;
                    round.migrated += 1;
                    if run.wave == run.plan.waves.len() {
                        run.state = State::Done;
                    }
                }
            }
        }
        if let Some(error) = round.error
            && run.state == State::Running
        {
            tracing::warn!(cause = error, "a participant did not migrate; it will be asked again");
            store::postpone(pool, lease, run, &error, pause(run.attempts.saturating_add(1))).await?;
            return Ok(None);
        }
        let after = store::record(pool, lease, run).await?;
        if round.migrated == 0 {
            sleep(IDLE).await;
        }
        Ok(after)
    }

    /// Asks the participant to migrate some houses of the wave on every data server.
    async fn calls(&self, run: &mut Run, wave: &Wave) -> Result<Round> {
        let servers = server::store::names(&self.inner.pool).await?;
        let run_now = &*run;
        let asked = servers.iter().map(|server| self.ask(run_now, wave, server));
        let answers = join_all(asked).await;
        let (mut progress, mut faults) = (BTreeMap::new(), Vec::new());
        let mut round = Round {
            migrated: 0,
            error: None,
        };
        for (server, answers) in servers.iter().zip(answers) {
            let mut best: Option<peer::Batch> = None;
            for answer in answers {
                match answer {
                    Ok(batch) => {
                        round.migrated += batch.migrated;
                        // They were counted at different moments: the one with the least left to do is the last.
                        let left = |batch: &peer::Batch| batch.progress.behind - batch.progress.failed;
                        if best.as_ref().is_none_or(|best| left(&batch) <= left(best)) {
                            best = Some(batch);
                        }
                    }
                    Err(error) => round.error = Some(format!("{server}: {error}")),
                }
            }
            match best {
                Some(batch) => {
                    progress.insert(server.to_string(), batch.progress);
                    faults.extend(batch.faults);
                }
                // What was known stays.
                None => {
                    let known = run.progress.get(server.as_str()).copied().unwrap_or_default();
                    progress.insert(server.to_string(), known);
                }
            }
        }
        (run.progress, run.faults) = (progress, faults);
        Ok(round)
    }

    async fn ask(&self, run: &Run, wave: &Wave, server: &ServerName) -> Vec<Result<peer::Batch>> {
        let calls = (0..run.plan.parallelism).map(|_| async {
            let principal = Principal::Service {
                name: ServiceName::Tenant,
            };
            let ctx = Ctx::new(run.request.clone(), principal, None, Instant::now() + CALL_MAX);
            peer::migrate(&self.inner.peers, &ctx, run, wave, server.as_str()).await
        });
        join_all(calls).await
    }

    /// Where no house of a server is behind, the directory says so from now on.
    async fn tell_directory(&self, run: &Run) -> Result<()> {
        let current = |(_, progress): &(&String, &Progress)| progress.behind_in_all == 0;
        for (server, _) in run.progress.iter().filter(current) {
            store::tell_directory(&self.inner.pool, run.plan.participant, server, run.plan.target).await?;
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
