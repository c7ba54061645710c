//! Tells participants the statement timeouts of plans: `rowhouse.enter` takes them from the home.
//!
//! What is due is told by comparing what each home has confirmed with what its tenant's plan says, so nothing is lost with
//! a process, and a plan that changes back and forth ends at what it is.

use std::sync::Arc;
use std::time::Duration;

use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_status::Failure;
use rowhouse_types::TenantId;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::store;
use crate::error::Result;
use crate::operation::peers::Peers;

/// How often to look for what is due, where nothing wakes this process: another one may have changed a plan.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Longest time for one home; its line is locked meanwhile.
const HOME_MAX: Duration = Duration::from_secs(5);

/// Pause after a participant has failed.
const PAUSE: Duration = Duration::from_secs(2);

/// Tells participants the statement timeouts of plans. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    pool: PgPool,
    peers: Peers,
    woken: Arc<Notify>,
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
        loop {
            match self.one(ctx, Some(tenant)).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%tenant, %error, "a statement timeout was not told; it will be");
                    return self.wake();
                }
            }
        }
    }

    /// Tells whatever is due, until `stop` is cancelled.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        loop {
            let pause = match self.all_due().await {
                Ok(()) => LOOK_EVERY,
                Err(error) => {
                    tracing::warn!(%error, "a statement timeout was not told; it will be");
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

    async fn all_due(&self) -> Result<()> {
        let principal = Principal::Service {
            name: ServiceName::Tenant,
        };
        loop {
            let until = Instant::now() + HOME_MAX;
            let ctx = Ctx::new(RequestId::generate(), principal.clone(), None, until);
            if !self.one(&ctx, None).await? {
                return Ok(());
            }
        }
    }

    /// Tells one home. False where none is due.
    async fn one(&self, ctx: &Ctx, only: Option<TenantId>) -> Result<bool> {
        let mut transaction = self.pool.begin().await?;
        let Some(due) = store::due(&mut transaction, only).await? else {
            return Ok(false);
        };
        let told = timeout(HOME_MAX.min(ctx.time_left()), self.peers.set_limits(ctx, &due)).await;
        told.unwrap_or_else(|_| Err(Failure::unavailable("participant", "it did not answer in time")))?;
        store::kept(&mut transaction, &due).await?;
        transaction.commit().await?;
        Ok(true)
    }
}
