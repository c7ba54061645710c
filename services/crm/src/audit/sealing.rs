//! Seals what tenants' changes have written, within seconds.
//!
//! Which tenants have something to seal, `rowhouse.unsealed` says, in each data database and in each database of a tenant's
//! own. Who cannot be entered now (suspended, read-only) waits; in a home before its migration nothing is queued.
//! A home is entered for one tenant at a time, so each chain is a transaction of its own; those of a control schema go together
//! (`rowhouse_audit::sealer`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream;
use rowhouse_audit::seal::ENTRIES_MAX;
use rowhouse_audit::sealer::{SEAL_EVERY, SEALS_PER_TURN};
use rowhouse_db::Error as Db;
use rowhouse_mq::Companion;
use rowhouse_types::TenantId;
use sqlx::PgPool;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{HomeLog, Sealed, store};
use crate::error::Error;

/// Tenants that are read at once, and whose entries are sealed at once: beside the calls, not before them.
const TENANTS_MAX: i64 = 500;
const TENANTS_AT_ONCE: usize = 4;

/// How long a tenant is left alone that cannot be entered or failed.
const HELD: Duration = Duration::from_secs(10);

/// Seals entries in homes.
pub(crate) struct Sealing {
    log: HomeLog,
    held: Mutex<HashMap<TenantId, Instant>>,
    /// Whether the last thing that was tried failed, so that one line says when it begins.
    failing: AtomicBool,
}

// === impl Sealing ===

impl Sealing {
    pub(crate) fn new(log: HomeLog) -> Self {
        Self {
            log,
            held: Mutex::default(),
            failing: AtomicBool::new(false),
        }
    }

    /// Seals what waits in the database behind `relay`, until `stop`. Every replica may: the number of a seal is given once.
    pub(crate) async fn run(&self, relay: &PgPool, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(SEAL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            self.round(relay).await;
        }
    }

    /// Every tenant that has something waiting has its turn.
    async fn round(&self, relay: &PgPool) {
        let mut after = None;
        loop {
            let tenants = match store::tenants(relay, after, TENANTS_MAX).await {
                Ok(tenants) => tenants,
                Err(error) => return self.failed(&error, "which audit entries wait for their seal cannot be read"),
            };
            after = tenants.last().copied();
            let were_all = i64::try_from(tenants.len()).is_ok_and(|count| count < TENANTS_MAX);
            let due: Vec<TenantId> = tenants.into_iter().filter(|tenant| !self.is_held(*tenant)).collect();
            let sealing = due.into_iter().map(|tenant| self.turn(relay, tenant));
            stream::iter(sealing)
                .buffer_unordered(TENANTS_AT_ONCE)
                .collect::<()>()
                .await;
            if were_all {
                return;
            }
        }
    }

    /// Seals what waits of one tenant, up to a bound.
    async fn turn(&self, relay: &PgPool, tenant: TenantId) {
        for _ in 0..SEALS_PER_TURN {
            match self.log.seal(tenant).await {
                Ok(Sealed::Now(count)) => {
                    self.failing.store(false, Ordering::Relaxed);
                    if count < ENTRIES_MAX {
                        return;
                    }
                }
                Ok(Sealed::Overtaken) => return,
                Err(Error::Database(Db::TenantUnknown)) => {
                    if let Err(error) = store::drop_queue(relay, tenant).await {
                        self.failed(&error, "the queue of a tenant that is gone cannot be emptied");
                    }
                    return;
                }
                // They can be neither written nor read now, or not written.
                Err(Error::Database(Db::TenantSuspended | Db::TenantReadOnly | Db::TenantNotReady)) => {
                    return self.hold(tenant);
                }
                Err(error) => {
                    self.failed(&error, "audit entries of a tenant were not sealed; they wait");
                    return self.hold(tenant);
                }
            }
        }
    }

    fn failed(&self, error: &dyn std::error::Error, what: &'static str) {
        metrics::counter!("rowhouse_audit_seal_failures_total").increment(1);
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(cause = %error, "{what}");
        }
    }

    fn hold(&self, tenant: TenantId) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        held.retain(|_, until| *until > now);
        held.insert(tenant, now + HELD);
    }

    fn is_held(&self, tenant: TenantId) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(&tenant).is_some_and(|until| *until > Instant::now())
    }
}

#[async_trait]
impl Companion for Sealing {
    async fn visit(&self, database: &PgPool) {
        self.round(database).await;
    }
}
