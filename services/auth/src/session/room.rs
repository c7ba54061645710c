//! A bound on the sessions of an account: each keeps rows for as long as it may live.
//!
//! Whoever adds one asks in the same statement whether there are as many already, and only then the others are looked at. Those
//! that are opened at the same time do not see each other: an account is beyond the bound until its next log-in.

use rowhouse_context::Ctx;
use rowhouse_types::SessionId;
use serde_json::json;
use sqlx::PgConnection;

use super::{EndReason, Session, ended};
use crate::audit;
use crate::error::Error;
use crate::rights::{self, Subject, Version};
use crate::state::State;

/// Sessions of an account: as others do it, a log-in beyond them ends the one that was refreshed the longest ago, since a refusal
/// would lock out who has lost them all. Nobody has so many browsers; programs that log in each time are not locked out.
/// The statements have the numbers in them, and a test compares the two.
#[cfg(test)]
pub(super) const SESSIONS_MAX: u32 = 200;

/// Sessions that one log-in ends at most, the oldest of those beyond the bound first: each is an entry in a log, under the clock of
/// rights. An account that has thousands from before there was a bound loses them with its next log-ins.
#[cfg(test)]
const ROOM_MAX: u32 = 100;

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

#[cfg(test)]
mod rules {
    use super::*;
    use crate::session;

    #[test]
    fn the_statements_have_the_bounds_in_them() {
        let end_beyond = ended::STATEMENTS
            .iter()
            .find(|sql| sql.contains("SKIP LOCKED"))
            .unwrap();
        assert!(end_beyond.contains(&format!("OFFSET {SESSIONS_MAX})")), "{end_beyond}");
        assert!(
            end_beyond.contains(&format!("LIMIT {ROOM_MAX} FOR UPDATE")),
            "{end_beyond}"
        );
        // What adds a session asks whether there are as many before it.
        let inserts = session::STATEMENTS
            .iter()
            .filter(|sql| sql.contains("INSERT INTO auth.sessions"));
        let asked = format!("revoked_at IS NULL OFFSET {})", SESSIONS_MAX - 1);
        let asks: Vec<bool> = inserts.map(|sql| sql.contains(&asked)).collect();
        assert_eq!(asks, [true, true]);
    }
}
