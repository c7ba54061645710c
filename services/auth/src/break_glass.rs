//! The way back into an account whose person has lost everything that would let them in: the password, the mailbox that a
//! reset goes to, the second factor and its recovery codes. For whoever may run the process beside its database, and nobody
//! else: there is no RPC for it. It leaves its trace in the audit log, and the person gets a mail.

use std::io;
use std::time::Duration;

use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_db::ControlDb;
use rowhouse_types::{Email, Text};
use serde_json::json;
use tokio::time::Instant;

use crate::account_mail::{self, Kind, store as mails};
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::identity::{self, Chooser, Hasher, NewPassword};
use crate::rights::{self, Clock, Subject};
use crate::session::{self, EndReason};
use crate::{attempt, random, second_factor};

/// Longest time for all of it, the acknowledgement included.
const BOUND: Duration = Duration::from_secs(30);

/// Why the glass is broken.
pub(crate) type Reason = Text<500>;

/// Gives an account a new password and takes its second factor away; whatever was open under it ends. Returns when no service
/// honours an old session any more. `deliver` gets the password before anything is kept: where it fails, nothing was done.
pub(crate) async fn recover(
    db: &ControlDb,
    email: &Email,
    reason: &Reason,
    deliver: impl FnOnce(&str) -> io::Result<()>,
) -> Result<(), Error> {
    let principal = Principal::Service {
        name: ServiceName::Auth,
    };
    let ctx = Ctx::new(RequestId::generate(), principal, None, Instant::now() + BOUND);
    let password = random::text().map_err(Error::fault)?;
    let chosen = NewPassword::parse(&password).map_err(Error::fault)?;
    let hash = Hasher::new(1)?
        .hash(&ctx, &chosen, &Chooser::new("password", "", ""))
        .await?;
    let mut tx = db.begin().await?;
    let account = identity::account_at(&mut tx, email.as_str()).await?;
    let account = account
        .filter(|account| account.active)
        .ok_or_else(|| Error::NotFound {
            kind: "account",
            id: email.to_string(),
        })?;
    let user = account.id;
    // Before any lock: whoever it goes to may be slow.
    deliver(&password).map_err(|fault| Error::fault(format!("the password cannot be handed over: {fault}")))?;
    identity::lock(&mut tx, user).await?.ok_or(Error::Revoked)?;
    identity::set_password(&mut tx, user, &hash).await?;
    mails::close_links(&mut tx, user, &account.email).await?;
    // Before the second factor, which would lock some of the sessions: all are locked at once, in the order of everybody.
    let ended = session::end_of_account(&mut tx, user, None, EndReason::PasswordChanged).await?;
    second_factor::remove(&mut tx, user).await?;
    attempt::forget_account(&mut tx, &account.email).await?;
    let entry =
        Entry::new("account.break_glass", user).after(json!({ "reason": reason.as_str(), "sessions_ended": ended }));
    audit::record(&mut tx, &ctx, entry).await?;
    account_mail::notify(&mut tx, &ctx, Kind::PasswordChanged, user, &account.email).await?;
    let version = rights::bump(&mut tx, &[Subject::User(user)]).await?;
    tx.commit().await?;
    Clock::new(db.clone()).acknowledge(&ctx, version).await
}

#[cfg(test)]
mod tests;
