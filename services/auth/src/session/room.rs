//! A bound on the sessions of an account: each keeps rows for as long as it may live.

use rowhouse_context::Ctx;
use rowhouse_types::{SessionId, UserId};
use serde_json::json;
use sqlx::PgConnection;

use super::{EndReason, store};
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::rights::{self, Subject, Version};
use crate::state::State;

/// Ends the sessions of an account beyond those that it may have, the one that was refreshed the longest ago first, in the
/// transaction that has opened another. `keep`: those that stay whatever their age. What it answers is for [`settle`], after the
/// commit; it takes the clock of rights, so it comes last.
///
/// Sessions that operators have opened as the person are not the person's, and neither count nor end.
pub(super) async fn make_room(
    conn: &mut PgConnection,
    ctx: &Ctx,
    user: UserId,
    keep: &[SessionId],
) -> Result<Option<Version>, Error> {
    let ended = store::end_beyond(conn, user, keep).await?;
    if ended.is_empty() {
        return Ok(None);
    }
    // Each stands in the log of where it was, whichever tenant the call is in.
    let ctx = &Ctx::new(ctx.request_id().clone(), ctx.principal().clone(), None, ctx.deadline())
        .with_origin(None, ctx.address().map(str::to_owned));
    for (session, tenant) in &ended {
        let entry = Entry::new("session.end", *session)
            .by(user)
            .within(*tenant)
            .after(json!({ "reason": EndReason::TooMany.as_str() }));
        audit::record(conn, ctx, entry).await?;
    }
    let subjects: Vec<Subject> = ended.iter().map(|(session, _)| Subject::Session(*session)).collect();
    rights::bump(conn, &subjects).await.map(Some)
}

/// Answers when no service honours what was ended.
pub(super) async fn settle(ctx: &Ctx, state: &State, version: Option<Version>) -> Result<(), Error> {
    match version {
        Some(version) => state.clock.acknowledge(ctx, version).await,
        None => Ok(()),
    }
}
