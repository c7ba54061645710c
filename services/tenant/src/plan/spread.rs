//! Tells participants the statement timeouts of plans: `rowhouse.enter` takes them from the home.
//!
//! What is due is told by comparing what each home has confirmed with what its tenant's plan says, so nothing is lost with
//! a process, and a plan that changes back and forth ends at what it is. No transaction is open while a participant is asked:
//! the home's line says which order is the last, and only that one's answer counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_status::Failure;
use rowhouse_types::TenantId;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::store::{self, Place};
use crate::error::{Error, Result};
use crate::operation::peers::Peers;

/// How often to look for what is due, where nothing wakes this process. Who changes a plan or provisions a tenant tells it then;
/// what a look finds is what a process that died in between has left, and its successor looks when it starts. A look compares
/// every home with its tenant's plan, which reads each tenant once: some tenths of a second for 100,000, below a hundredth of a
/// core at this pace.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Longest time for one home.
pub(super) const HOME_MAX: Duration = Duration::from_secs(5);

/// How long a round begins with homes. One under way ends within [`HOME_MAX`]: what has become due since, anywhere, waits for
/// 15 s at most.
const ROUND_MAX: Duration = Duration::from_secs(10);

/// Pause after a round in which a home was not told.
const PAUSE: Duration = Duration::from_secs(2);

/// Places of one round, which are gone through at once. There is one for each participant and data server.
const PLACES_MAX: i64 = 1_000;

/// Homes of a place that are read at once. Each is looked at again before it is told, so a page may grow old.
const PAGE: i64 = 100;

const UNKNOWN: &str = "which statement timeouts are due cannot be read";

/// Tells participants the statement timeouts of plans. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    pool: PgPool,
    peers: Peers,
    woken: Arc<Notify>,
}

/// Up to whose home a place was gone through, where a round had to stop in the middle.
pub(super) type Reached = BTreeMap<Place, TenantId>;

/// How a round has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// Nothing is due anywhere.
    Idle,
    /// Something was told and nothing has failed; there may be more.
    Told,
    /// Something has failed, or is told by another process.
    Left,
}

/// How far one place was gone through in a round.
#[derive(Debug)]
struct Walk {
    /// Up to whose home; `None` where there is none behind it.
    reached: Option<TenantId>,
    told: bool,
    failed: bool,
}

// === impl Spread ===

impl Spread {
    pub(crate) fn new(pool: PgPool, peers: Peers) -> Self {
        Self {
            pool,
            peers,
            woken: Arc::new(Notify::new()),
        }
    }

    /// There may be something due.
    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }

    /// Tells a tenant's participants now. What fails is tried again in the background.
    pub(crate) async fn to_tenant(&self, ctx: &Ctx, tenant: TenantId) {
        for participant in self.peers.participants() {
            loop {
                match self.one(ctx, tenant, participant).await {
                    // The plan may have changed meanwhile.
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        warn_of(tenant, participant, &error);
                        self.wake();
                        break;
                    }
                }
            }
        }
    }

    /// Tells whatever is due, until `stop` is cancelled. What is cut short by that is told by another process, when its lease is
    /// over.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut reached = Reached::new();
        loop {
            let round = tokio::select! {
                () = stop.cancelled() => return,
                round = self.round(&mut reached) => round,
            };
            let pause = match round {
                Ok(Round::Idle) => LOOK_EVERY,
                Ok(Round::Told) => continue,
                Ok(Round::Left) => PAUSE,
                Err(error) => {
                    tracing::warn!(%error, "{UNKNOWN}");
                    PAUSE
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.woken.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Goes through all places where something is due, each for itself: one that is away keeps no other waiting.
    ///
    /// `reached`: where the round before had to stop.
    pub(super) async fn round(&self, reached: &mut Reached) -> Result<Round> {
        let until = Instant::now() + ROUND_MAX;
        let places = store::due_places(&self.pool, PLACES_MAX).await?;
        if places.is_empty() {
            reached.clear();
            return Ok(Round::Idle);
        }
        let walks = places.into_iter().map(|place| {
            let after = reached.get(&place).copied();
            async move {
                let walk = self.walk(&place, after, until).await;
                (place, walk)
            }
        });
        let walked: Vec<(Place, Walk)> = join_all(walks).await;
        let all_well = walked.iter().any(|(_, walk)| walk.told) && !walked.iter().any(|(_, walk)| walk.failed);
        let stopped = walked
            .into_iter()
            .filter_map(|(place, walk)| Some((place, walk.reached?)));
        *reached = stopped.collect();
        Ok(if all_well { Round::Told } else { Round::Left })
    }

    /// Tells the homes of a place, those after `after`, one by one. One that fails keeps no other waiting: it has its next turn
    /// when all others have had theirs.
    async fn walk(&self, place: &Place, after: Option<TenantId>, until: Instant) -> Walk {
        let mut walk = Walk {
            reached: after,
            told: false,
            failed: false,
        };
        loop {
            let page = match store::due_at(&self.pool, place, walk.reached, PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(participant = %place.participant, server = %place.server, %error, "{UNKNOWN}");
                    walk.failed = true;
                    return walk;
                }
            };
            if page.is_empty() {
                walk.reached = None;
                return walk;
            }
            for tenant in page {
                if Instant::now() >= until {
                    return walk;
                }
                walk.reached = Some(tenant);
                match self.one(&background(), tenant, place.participant).await {
                    Ok(told) => walk.told |= told,
                    Err(error) => {
                        warn_of(tenant, place.participant, &error);
                        walk.failed = true;
                    }
                }
            }
        }
    }

    /// Tells one home. False where nothing is due there, or another process is telling it.
    async fn one(&self, ctx: &Ctx, tenant: TenantId, participant: ServiceName) -> Result<bool> {
        let Some(due) = store::take(&self.pool, tenant, participant).await? else {
            return Ok(false);
        };
        let told = timeout(HOME_MAX.min(ctx.time_left()), self.peers.set_limits(ctx, &due)).await;
        let told = told.unwrap_or_else(|_| Err(Failure::unavailable("participant", "it did not answer in time")));
        if let Err(failure) = told {
            store::release(&self.pool, &due).await?;
            return Err(failure.into());
        }
        store::kept(&self.pool, &due).await?;
        Ok(true)
    }
}

/// For a call that nobody waits for.
fn background() -> Ctx {
    let name = ServiceName::Tenant;
    let until = Instant::now() + HOME_MAX;
    Ctx::new(RequestId::generate(), Principal::Service { name }, None, until)
}

fn warn_of(tenant: TenantId, participant: ServiceName, error: &Error) {
    tracing::warn!(%tenant, %participant, %error, "a statement timeout was not told; it will be");
}
