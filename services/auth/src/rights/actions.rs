//! What other services ask about rights.

use rowhouse_context::Ctx;
use tokio::time::timeout;

use super::{News, Query, Renewal, Rights, store};
use crate::error::Error;
use crate::state::State;

/// What a principal may do now.
pub(crate) async fn rights_now(_ctx: &Ctx, state: &State, query: &Query) -> Result<Rights, Error> {
    let facts = store::read(&mut *state.connection().await?, query).await?;
    Ok(Rights::judge(query, &facts))
}

/// Extends a lease and tells what changed after the confirmed version; waits a little where nothing did.
///
/// The lease is extended before the wait: the holder counts it from before it asked, so it never believes in a lease
/// for longer than the database does.
pub(crate) async fn renew_lease(ctx: &Ctx, state: &State, renewal: &Renewal) -> Result<News, Error> {
    // Subscribed before the clock is read, so that no change falls between.
    let mut newest = state.clock.subscribe();
    let version = store::extend(&mut *state.connection().await?, renewal).await?;
    state.clock.confirmation();
    if version <= renewal.confirmed {
        let wait = renewal.wait.min(ctx.time_left());
        let changed = newest.wait_for(|newest| *newest > renewal.confirmed);
        let _changed_or_time_up = timeout(wait, changed).await;
    }
    // No connection was held in between.
    store::news(&mut *state.connection().await?, renewal.confirmed).await
}
