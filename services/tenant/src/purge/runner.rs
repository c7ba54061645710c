//! Begins the purge of tenants whose grace is over.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::tenant::actions::Tenants;

/// How often to look. A grace is days long.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Purges that one look begins: hundreds a minute, and never a crowd that keeps sign-ups from the participants.
const BEGUN_MAX: usize = 8;

/// Looks until `stop`. What it begins is carried on by whoever holds the operation's lease.
pub(crate) async fn run(tenants: Tenants, stop: CancellationToken) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match tenants.purge_due(BEGUN_MAX).await {
            Ok(0) => {}
            Ok(begun) => tracing::info!(begun, "the grace of deleted tenants is over; they are being purged"),
            Err(error) => tracing::warn!(%error, "tenants whose grace is over were not purged; this is tried again"),
        }
    }
}
