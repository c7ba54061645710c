//! A bound on the sessions of an account: each keeps rows for as long as it may live.

use rowhouse_context::Ctx;
use rowhouse_types::SessionId;
use serde_json::json;
use sqlx::PgConnection;

use super::{EndReason, Session, ended};
use crate::audit;
use crate::error::Error;
use crate::rights::{self, Subject, Version};
use crate::state::State;

/// Ends the sessions of an account beyond those that it may have, the one that was refreshed the longest ago first, in the
/// transaction that has opened another. `opened` stays whatever its age, and so does `from`, which it was opened from. What it
/// answers is for [`settle`], after the commit; it takes the clock of rights, so it comes last.
///
/// Sessions that operators have opened as the person are not the person's, and neither count nor end.
pub(super) async fn make_room(
    conn: &mut PgConnection,
    ctx: &Ctx,
    opened: &Session,
    from: Option<SessionId>,
) -> Result<Option<Version>, Error> {
    let keep: Vec<SessionId> = from.into_iter().chain([opened.id]).collect();
    let ended = ended::end_beyond(conn, opened.user, &keep).await?;
    if ended.is_empty() {
        return Ok(None);
    }
    // A log-in is in no tenant yet. Another one, where a session ends by it, is not told from which address somebody logs in here.
    let place = ctx.tenant_opt().or(opened.tenant);
    let told = ended.iter().map(|ended| {
        let entry = ended.entry(ctx, "session.end").done_in(place);
        entry.after(json!({ "reason": EndReason::TooMany.as_str() }))
    });
    audit::record_all(conn, ctx, told.collect()).await?;
    let subjects: Vec<Subject> = ended.iter().map(|ended| Subject::Session(ended.session)).collect();
    rights::bump(conn, &subjects).await.map(Some)
}

/// Answers when no service honours what was ended.
pub(super) async fn settle(ctx: &Ctx, state: &State, version: Option<Version>) -> Result<(), Error> {
    match version {
        Some(version) => state.clock.acknowledge(ctx, version).await,
        None => Ok(()),
    }
}
