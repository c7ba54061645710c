//! Seals what tenants' changes have written, within seconds.
//!
//! Which tenants have something to seal, the relay says: `rowhouse.unsealed` of each database, and of each database of a
//! tenant's own. Who cannot be entered now (suspended, read-only, before its migration) waits.

use std::collections::HashMap;
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
use uuid::Uuid;

use super::{HomeLog, Sealed, store};
use crate::error::Error;

/// Tenants of one database whose entries are sealed in one round, and at once: beside the calls, not before them.
const TENANTS_MAX: i64 = 500;
const TENANTS_AT_ONCE: usize = 4;

/// How long a tenant is left alone that cannot be entered, or failed.
const HELD: Duration = Duration::from_secs(10);

/// Seals entries in homes.
pub(crate) struct Sealing {
    log: HomeLog,
    held: Mutex<HashMap<TenantId, Instant>>,
}

// === impl Sealing ===

impl Sealing {
    pub(crate) fn new(log: HomeLog) -> Self {
        Self {
            log,
            held: Mutex::default(),
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

    async fn round(&self, relay: &PgPool) {
        match store::tenants(relay, &self.held_now(), TENANTS_MAX).await {
            Ok(tenants) => {
                let sealing = tenants.into_iter().map(|tenant| self.turn(relay, tenant));
                stream::iter(sealing)
                    .buffer_unordered(TENANTS_AT_ONCE)
                    .collect::<()>()
                    .await;
            }
            Err(error) => tracing::debug!(cause = %error, "which audit entries wait for their seal was not read"),
        }
    }

    /// Seals what waits of one tenant, up to a bound.
    async fn turn(&self, relay: &PgPool, tenant: TenantId) {
        for _ in 0..SEALS_PER_TURN {
            match self.log.seal(tenant).await {
                Ok(Sealed::Now(ENTRIES_MAX)) => {}
                Ok(Sealed::Now(_) | Sealed::Overtaken) => return,
                Ok(Sealed::NotYet) => return self.hold(tenant),
                Err(Error::Database(Db::TenantUnknown)) => {
                    if let Err(error) = store::drop_queue(relay, tenant).await {
                        tracing::debug!(cause = %error, "the queue of a tenant that is gone was not emptied");
                    }
                    return;
                }
                Err(error) => {
                    tracing::debug!(%tenant, cause = %error, "audit entries were not sealed; they wait");
                    return self.hold(tenant);
                }
            }
        }
    }

    fn hold(&self, tenant: TenantId) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(tenant, Instant::now() + HELD);
    }

    fn held_now(&self) -> Vec<Uuid> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        held.retain(|_, until| *until > now);
        held.keys().map(|tenant| tenant.uuid()).collect()
    }
}

#[async_trait]
impl Companion for Sealing {
    async fn visit(&self, database: &PgPool) {
        self.round(database).await;
    }
}
