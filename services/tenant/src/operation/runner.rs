//! Resumes what was left: operations of a process that died, and those whose pause after a failure is over.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::saga::Sagas;
use super::store;
use crate::error::Result;

/// How often to look for operations that are due.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How many operations one process works on at once. Each holds a connection for a moment a step and otherwise waits.
const RUNNING_MAX: usize = 16;

/// Claims operations that are due until `stop`.
pub(crate) async fn run(pool: PgPool, sagas: Sagas, stop: CancellationToken) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let round = round(&pool, &sagas).await;
        if let Err(error) = &round
            && !failing
        {
            // Once, not twice a second for as long as the database is away.
            tracing::warn!(%error, "operations that are due cannot be claimed");
        }
        failing = round.is_err();
    }
}

/// Starts what is due.
pub(crate) async fn round(pool: &PgPool, sagas: &Sagas) -> Result<()> {
    while sagas.running() < RUNNING_MAX {
        let Some(held) = store::claim(pool, None).await? else {
            break;
        };
        // Not awaited here: the task is tracked by `Sagas`, which waits for it when it stops.
        drop(sagas.spawn(held));
    }
    Ok(())
}
