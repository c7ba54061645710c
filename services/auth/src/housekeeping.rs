//! Forgets what nobody needs any more, a little every minute.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::state::State;
use crate::{account_mail, attempt, invitation, request, rights, rounds, service_account, session};

/// How often.
const EVERY: Duration = Duration::from_secs(60);

/// Changes of rights that are kept whatever their age: who confirmed one of them is told the later ones one by one.
const CHANGES_KEPT: i64 = 10_000;

/// Refresh tokens that go in one statement. A session that is used all day makes 288: once a minute these are those of fifty
/// thousand such sessions.
const TOKENS_MAX: u32 = 10_000;

/// Such statements in a round: what half a million sessions make, so that a backlog shrinks where fewer are in use.
const TOKEN_PARTS_MAX: u32 = 10;

/// API keys and invitations that go in a round: each is made by a person's or a program's call.
const ENDED_MAX: u32 = 1_000;

/// Works until `stop`.
pub(crate) async fn run(state: Arc<State>, stop: CancellationToken) {
    rounds::run(EVERY, stop, "old rows were not removed", || tidy(&state)).await;
}

/// One round. Each table's part is bounded, so that a backlog is worked off in many rounds.
pub(crate) async fn tidy(state: &State) -> Result<(), Error> {
    request::TABLE.forget(state.db.pool()).await?;
    let mut conn = state.connection().await?;
    rights::prune(&mut conn, CHANGES_KEPT).await?;
    attempt::prune(&mut conn).await?;
    attempt::device::prune(&mut conn).await?;
    account_mail::store::prune(&mut conn).await?;
    invitation::prune(&mut conn, ENDED_MAX).await?;
    service_account::prune(&mut conn, ENDED_MAX).await?;
    for _ in 0..TOKEN_PARTS_MAX {
        if !session::prune(&mut conn, TOKENS_MAX).await? {
            break;
        }
    }
    Ok(())
}
