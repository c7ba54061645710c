//! Calls that clients may repeat: the same request id gets the same answer for 24 hours.

use std::time::Duration;

use rowhouse_db::requests::RequestTable;
use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// What is remembered of them, by caller.
pub(crate) const TABLE: RequestTable = RequestTable::new("tenant", "caller");

/// How often those are forgotten whose time is over.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// Forgets calls that may be repeated no more, at once and then every minute, until `stop`. On a task of its own: after a busy day
/// it is a hundred thousand rows, and nothing waits for that.
pub(crate) async fn forget(pool: PgPool, stop: CancellationToken) {
    let mut ticks = interval(FORGET_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        let round = async {
            ticks.tick().await;
            TABLE.forget(&pool).await
        };
        let Some(round) = stop.run_until_cancelled(round).await else {
            return;
        };
        if let Err(error) = &round
            && !failing
        {
            tracing::warn!(cause = %error, "request ids that are over were not forgotten");
        }
        failing = round.is_err();
    }
}
