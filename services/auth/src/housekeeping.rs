//! Forgets what nobody needs any more, a little every minute.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::state::State;
use crate::{account_mail, attempt, request, rights, session};

/// How often.
const EVERY: Duration = Duration::from_secs(60);

/// Changes of rights that are kept whatever their age: who confirmed one of them is told the later ones one by one.
const CHANGES_KEPT: i64 = 10_000;

/// Works until `stop`.
pub(crate) async fn run(state: Arc<State>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = tidy(&state).await {
            tracing::warn!(%error, "old rows were not removed");
        }
    }
}

/// One round. Each table's part is bounded, so that a backlog is worked off in many rounds.
pub(crate) async fn tidy(state: &State) -> Result<(), Error> {
    let mut conn = state.connection().await?;
    rights::prune(&mut conn, CHANGES_KEPT).await?;
    request::prune(&mut conn).await?;
    attempt::prune(&mut conn).await?;
    account_mail::store::prune(&mut conn).await?;
    session::prune(&mut conn).await
}
