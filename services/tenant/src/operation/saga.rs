//! Carries operations out: makes the step's calls, records the step, goes on.
//!
//! A call may be made twice (a crash between the answer and the record), so every call may be repeated; a record is
//! written once, by whoever holds the lease. What is interrupted anywhere is resumed at the step that is not recorded.
//! While somebody waits for a tenant to be provisioned, a step's record is written beside the next step's calls; and where its
//! home was built ahead, it is claimed and the invitation sent at once, and both are one record.

use std::sync::Arc;
use std::time::Duration;

use rowhouse_context::{Ctx, Principal, ServiceName};
use rowhouse_mq::Wake;
use rowhouse_status::{Failure, Reason};
use rowhouse_types::OperationId;
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::peers::{Access, Peers};
use super::store::Finished;
use super::{Held, Kind, Step, pause, store};
use crate::directory::Home;
use crate::error::Result;
use crate::plan::spread::Spread;
use crate::purge::{self, Removal};
use crate::tenant::Tenant;

/// Longest time for one step's calls. Freezing waits for the transactions that are running; a statement may take as
/// long as its deadline allows.
const STEP_MAX: Duration = Duration::from_secs(20);

/// Longest time for all calls that tell a new tenant's participants its statement timeout while somebody waits: each answers
/// within milliseconds, or is told in the background.
const TELL_MAX: Duration = Duration::from_secs(1);

/// How often a call looks whether another process has finished the operation that it waits for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Carries operations out. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Sagas {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    peers: Peers,
    spread: Spread,
    wake: Wake,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

/// How the work on an operation ended in this process.
#[derive(Debug)]
pub(crate) enum End {
    /// The operation is done.
    Finished(Box<Finished>),
    /// It is not; whoever claims it next goes on.
    Left,
}

// === impl Sagas ===

impl Sagas {
    /// `spread`: tells a tenant's homes what its plan says. `wake`: wakes the relay after an event was written.
    pub(crate) fn new(pool: PgPool, peers: Peers, spread: Spread, wake: Wake) -> Self {
        Self {
            inner: Arc::new(Inner {
                pool,
                peers,
                spread,
                wake,
                tasks: TaskTracker::new(),
                stopping: CancellationToken::new(),
            }),
        }
    }

    /// Works on an operation on a task of its own, which goes on whoever stops waiting.
    pub(crate) fn spawn(&self, held: Held) -> JoinHandle<End> {
        let sagas = self.clone();
        let span = tracing::info_span!(
            "operation",
            operation = %held.id,
            kind = held.kind.as_str(),
            tenant = %held.tenant,
            request_id = %held.request,
        );
        if let Some(traceparent) = &held.traceparent {
            rowhouse_telemetry::trace::set_parent(&span, traceparent);
        }
        self.inner
            .tasks
            .spawn(async move { sagas.drive_and_tell(held).await }.instrument(span))
    }

    /// Works on an operation. Participants hear a new tenant's statement timeout before who waits for its creation is answered, or
    /// in the background where they are not quick. The tenant is active by then: others, and the relay, may have found it earlier.
    ///
    /// Without one there is nothing to tell: a new home keeps none, and who gives the tenant one after the last record finds the
    /// home in the directory and tells it.
    async fn drive_and_tell(&self, held: Held) -> End {
        let end = self.drive(held.clone()).await;
        if held.kind == Kind::Provision && matches!(&end, End::Finished(finished) if finished.has_statement_timeout) {
            let ctx = context(&held, TELL_MAX);
            tokio::select! {
                () = self.inner.spread.to_tenant(&ctx, held.tenant) => {}
                // It is due still: another process finds it.
                () = self.inner.stopping.cancelled() => {}
            }
        }
        end
    }

    /// How many operations this process works on.
    pub(crate) fn running(&self) -> usize {
        self.inner.tasks.len()
    }

    /// Stops work; what is not done is left for the next process, which may go on at once.
    pub(crate) async fn stop(&self) {
        self.inner.stopping.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Brings an operation to its end, or waits for the process that does; `None` where `until` comes first.
    ///
    /// `held`: the lease, where the caller has it.
    pub(crate) async fn settle(
        &self,
        operation: OperationId,
        mut held: Option<Held>,
        until: Instant,
    ) -> Result<Option<Tenant>> {
        let pool = &self.inner.pool;
        loop {
            if let Some(held) = held.take()
                && let Ok(Ok(End::Finished(finished))) = timeout_at(until, self.spawn(held)).await
            {
                return Ok(Some(finished.tenant));
            }
            // Asked where the time is over, too: the work goes on for a moment after the operation has ended.
            if let Some(tenant) = store::finished(pool, operation).await? {
                return Ok(Some(tenant));
            }
            if Instant::now() >= until || self.inner.stopping.is_cancelled() {
                return Ok(None);
            }
            held = store::claim(pool, Some(operation)).await?;
            if held.is_none() {
                sleep_until(until.min(Instant::now() + LOOK_EVERY)).await;
            }
        }
    }

    /// Works on an operation until it is done, a step fails, the lease is lost, or the process stops.
    pub(crate) async fn drive(&self, held: Held) -> End {
        tokio::select! {
            end = self.walk(held.clone()) => end,
            () = self.keep_lease(&held) => {
                tracing::warn!("the lease of an operation was lost");
                End::Left
            }
            () = self.inner.stopping.cancelled() => {
                if let Err(error) = store::release(&self.inner.pool, &held).await {
                    tracing::warn!(%error, "the lease of an operation was not given back; it will run out");
                }
                End::Left
            }
        }
    }

    async fn walk(&self, mut held: Held) -> End {
        let begun = Instant::now();
        let mut ahead = None;
        loop {
            let (performed, beside) = match ahead.take() {
                Some(performed) => (performed, None),
                None => self.perform_first(&held).await,
            };
            let done = match performed {
                Ok(done) => done,
                Err(failure) => {
                    self.postpone(&held, &failure).await;
                    return End::Left;
                }
            };
            let (step, after) = (held.step, held.kind.after(held.step));
            // What was done beside goes into the same record; what failed beside is what the next step meets.
            let also = after.filter(|_| matches!(beside, Some(Ok(_))));
            let next = also.map_or(after, |also| held.kind.after(also));
            let failed = beside.filter(Result::is_err);
            let (recorded, performed) =
                tokio::join!(self.record(&held, &done, next), self.perform_ahead(&held, next, failed));
            ahead = performed;
            match recorded {
                Ok(Recorded::Next(next)) => {
                    for recorded in [Some(step), also].into_iter().flatten() {
                        count(held.kind, recorded, "done");
                    }
                    held = held.at(next);
                }
                Ok(Recorded::Finished(finished)) => {
                    self.inner.wake.notify();
                    count(held.kind, step, "done");
                    let elapsed_ms = begun.elapsed().as_millis();
                    metrics::histogram!("tenant_operation_seconds", "kind" => held.kind.as_str())
                        .record(begun.elapsed().as_secs_f64());
                    tracing::info!(elapsed_ms, state = %finished.tenant.state, "an operation is done");
                    return End::Finished(finished);
                }
                Ok(Recorded::Lost) => {
                    count(held.kind, step, "lost");
                    tracing::warn!(step = step.as_str(), "another process has taken an operation over");
                    return End::Left;
                }
                Err(error) => {
                    // The lease runs out by itself, and then the step is repeated.
                    tracing::warn!(step = step.as_str(), %error, "a step was not recorded");
                    return End::Left;
                }
            }
        }
    }

    /// Makes the calls of the operation's step, and beside them those of the next where that is the invitation to a home that was
    /// built ahead: the second answer. Neither needs the other. To claim such a home is an update, so the mail is hardly ever
    /// there before it; to build one takes long and may fail, so nobody is invited to that before it stands.
    async fn perform_first(&self, held: &Held) -> (Performed, Option<Performed>) {
        let next = held.kind.after(held.step);
        let Some(invite) = next.filter(|next| held.spare && *next == Step::Invite) else {
            return (self.perform(held).await, None);
        };
        let invite = held.at(invite);
        let (prepared, invited) = tokio::join!(self.perform(held), self.perform(&invite));
        (prepared, Some(invited))
    }

    /// Makes the calls of the operation's step.
    async fn perform(&self, held: &Held) -> Performed {
        let ctx = context(held, STEP_MAX);
        let (peers, begun) = (&self.inner.peers, Instant::now());
        let calls = async {
            match held.step {
                Step::Prepare => peers.prepare(&ctx, held).await.map(Done::homes),
                Step::Invite => peers.invite(&ctx, held).await.map(|()| Done::default()),
                Step::Allow => {
                    let allowed = peers.set_access(&ctx, held, Access::Allowed).await;
                    allowed.map(|()| Done::default())
                }
                Step::Close => {
                    let (refused, homes) = tokio::join!(
                        peers.set_access(&ctx, held, Access::Suspended),
                        peers.freeze(&ctx, held)
                    );
                    refused.and(homes).map(Done::homes)
                }
                Step::Thaw => peers.thaw(&ctx, held).await.map(Done::homes),
                Step::Restrict => peers.restrict(&ctx, held).await.map(Done::homes),
                Step::Drop => peers.drop_homes(&ctx, held).await.map(Done::removed),
                Step::Erase => peers.erase(&ctx, held).await.map(Done::removed),
                Step::Forget => peers.forget(held).await.map(Done::removed),
            }
        };
        let too_late = |_| Failure::new(Reason::DeadlineExceeded, "the step took too long");
        let done = timeout(STEP_MAX, calls).await.map_err(too_late)??;
        time(held.kind, held.step, begun);
        Ok(done)
    }

    /// Makes the next step's calls before this one is recorded, where the kind of operation allows it.
    ///
    /// `failed`: what came of them where they were made already. They are not repeated before the failure is recorded.
    async fn perform_ahead(&self, held: &Held, next: Option<Step>, failed: Option<Performed>) -> Option<Performed> {
        if failed.is_some() {
            return failed;
        }
        let next = next.filter(|_| held.kind.may_run_ahead())?;
        Some(self.perform(&held.at(next)).await)
    }

    /// Records what was done. `next`: the step to do next; `None` after the last.
    async fn record(&self, held: &Held, done: &Done, next: Option<Step>) -> Result<Recorded> {
        if held.kind == Kind::Purge {
            return self.record_purge(held, done, next).await;
        }
        let pool = &self.inner.pool;
        let Some(next) = next else {
            let finished = store::finish(pool, held, &done.homes).await?;
            return Ok(finished.map_or(Recorded::Lost, |finished| Recorded::Finished(Box::new(finished))));
        };
        if !store::advance(pool, held, next, &done.homes).await? {
            return Ok(Recorded::Lost);
        }
        Ok(Recorded::Next(next))
    }

    /// With a step of a purge goes what it has removed: into the record, and out of the directory.
    async fn record_purge(&self, held: &Held, done: &Done, next: Option<Step>) -> Result<Recorded> {
        let mut transaction = self.inner.pool.begin().await?;
        let recorded = match next {
            Some(next) if store::advance(&mut *transaction, held, next, &[]).await? => Recorded::Next(next),
            Some(_) => return Ok(Recorded::Lost),
            None => match store::finish(&mut *transaction, held, &[]).await? {
                Some(finished) => Recorded::Finished(Box::new(finished)),
                None => return Ok(Recorded::Lost),
            },
        };
        let mut removed = done.removed.clone();
        if held.step == Step::Drop {
            removed.extend(purge::store::forget_homes(&mut transaction, held.tenant).await?);
        }
        purge::store::add(&mut transaction, held.tenant, &removed).await?;
        if matches!(recorded, Recorded::Finished(_)) {
            purge::store::finish(&mut transaction, held.tenant).await?;
        }
        transaction.commit().await?;
        Ok(recorded)
    }

    async fn postpone(&self, held: &Held, failure: &Failure) {
        let failures = held.attempts.saturating_add(1);
        let cause = failure.cause().unwrap_or_default();
        let step = held.step.as_str();
        count(held.kind, held.step, "failed");
        tracing::warn!(
            step,
            failures,
            reason = failure.reason().as_info(),
            cause,
            "a step failed; it will be repeated"
        );
        let error = format!("{failure}; {cause}");
        if let Err(error) = store::postpone(&self.inner.pool, held, &error, pause(failures)).await {
            tracing::warn!(%error, "a failed step was not recorded");
        }
    }

    /// Renews the lease; returns when it is lost, or when it has run out because the database does not answer.
    async fn keep_lease(&self, held: &Held) {
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

/// For calls that have so much time together.
fn context(held: &Held, time: Duration) -> Ctx {
    let principal = Principal::Service {
        name: ServiceName::Tenant,
    };
    Ctx::new(held.request.clone(), principal, None, Instant::now() + time)
}

/// Counts steps: those that fail again and again say which service keeps tenants waiting.
fn count(kind: Kind, step: Step, outcome: &'static str) {
    let (kind, step) = (kind.as_str(), step.as_str());
    metrics::counter!("tenant_operation_steps_total", "kind" => kind, "step" => step, "outcome" => outcome)
        .increment(1);
}

/// Times the calls of a step that succeeded: says where the time of an operation goes.
fn time(kind: Kind, step: Step, begun: Instant) {
    let (kind, step) = (kind.as_str(), step.as_str());
    metrics::histogram!("tenant_operation_step_seconds", "kind" => kind, "step" => step)
        .record(begun.elapsed().as_secs_f64());
}

/// What came of a step's calls.
type Performed = Result<Done, Failure>;

/// What a step's calls have done.
#[derive(Debug, Default)]
struct Done {
    /// The homes as they are now.
    homes: Vec<Home>,
    /// What was removed.
    removed: Vec<Removal>,
}

// === impl Done ===

impl Done {
    fn homes(homes: Vec<Home>) -> Self {
        Self {
            homes,
            removed: Vec::new(),
        }
    }

    fn removed(removed: Vec<Removal>) -> Self {
        Self {
            homes: Vec::new(),
            removed,
        }
    }
}

/// What came of writing a step's record.
enum Recorded {
    /// The step to do next.
    Next(Step),
    Finished(Box<Finished>),
    /// Another process holds the lease.
    Lost,
}
