//! What operators are told of each other's making and end, so that none is made behind their backs.
//!
//! Each gets a mail that names who has done it and to whom, written in the transaction of the change.

use rowhouse_context::{Ctx, Principal};
use rowhouse_types::UserId;
use sqlx::PgConnection;

use crate::account_mail::{self, Kind, OperatorChange};
use crate::error::Error;

/// Operators who are told of one change: more than a platform has, and few enough for one transaction. Those who have been it
/// longest come first, so that nobody pushes them out by making many.
pub(super) const HEARERS_MAX: i64 = 100;

/// Mails about operators that one of them gets within an hour: whoever makes one after the other fills nobody's mailbox, and has
/// been told of twenty times. The mail says so, and that the log has all.
pub(super) const PER_HOUR_MAX: i64 = 20;

/// An operator who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hearer {
    pub(super) user: UserId,
    pub(super) email: String,
}

/// Tells operators that somebody was made one, or is none any more.
pub(super) async fn tell(
    conn: &mut PgConnection,
    ctx: &Ctx,
    kind: Kind,
    operator: UserId,
    hearers: &[Hearer],
) -> Result<(), Error> {
    let actor = match ctx.principal() {
        Principal::Operator { user, .. } => Some(*user),
        _ => None,
    };
    let change = OperatorChange { operator, actor };
    for Hearer { user, email } in hearers {
        account_mail::notify_of_operator(conn, ctx, kind, (*user, email), change).await?;
    }
    Ok(())
}
