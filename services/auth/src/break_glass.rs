//! The way back into an account whose person has lost everything that would let them in: the password, the mailbox that a
//! reset goes to, the second factor and its recovery codes. And the opposite: an account that nobody is to use in any tenant, since
//! somebody else is in it, or its person must not be let in anywhere. Within a tenant, its administrators disable the member.
//!
//! For whoever may run the process beside its database, and nobody else: there is no RPC for it. The audit logs of the account's
//! tenants say that it was done, the platform's why; of an account that is recovered, the person gets a mail.

use std::io;

use rowhouse_db::ControlDb;
use rowhouse_types::{Email, Text};
use serde_json::json;
use sqlx::PgConnection;

use crate::account::logs::{self, Change};
use crate::account_mail::{self, Kind, store as mails};
use crate::audit::Entry;
use crate::by_command::ctx;
use crate::error::Error;
use crate::handed_on::EndedEverywhere;
use crate::identity::{self, Account, Chooser, Hasher, NewPassword};
use crate::rights::{self, Clock, Subject};
use crate::session::{self, EndReason};
use crate::{attempt, operator, random, second_factor, tenant};

/// Why the glass is broken.
pub(crate) type Reason = Text<500>;

/// What the tenants' logs give as the reason. Why the account is disabled is the platform's matter.
const DISABLED: &str = "the account of who made it was disabled";

/// Gives an account a new password and takes its second factor away; whatever was open under it ends, and the devices that it was
/// known at are forgotten. Returns when no service honours an old session any more. `deliver` gets the password before anything is
/// kept: where it fails, nothing was done.
pub(crate) async fn recover(
    db: &ControlDb,
    email: &Email,
    reason: &Reason,
    deliver: impl FnOnce(&str) -> io::Result<()>,
) -> Result<(), Error> {
    let ctx = ctx();
    let password = random::text().map_err(Error::fault)?;
    let chosen = NewPassword::parse(&password).map_err(Error::fault)?;
    let hash = Hasher::new(1)?
        .hash(&ctx, &chosen, &Chooser::new("password", "", ""))
        .await?;
    let mut tx = db.begin().await?;
    let found = account(&mut tx, email).await?;
    if !found.active {
        return Err(no_account(email));
    }
    let user = found.id;
    // Before any lock: whoever it goes to may be slow.
    deliver(&password).map_err(|fault| Error::fault(format!("the password cannot be handed over: {fault}")))?;
    identity::lock(&mut tx, user).await?.ok_or(Error::Revoked)?;
    // It may have got another address since it was looked for, and that one may be another's now.
    let account = account(&mut tx, email).await?;
    if account.id != user {
        return Err(no_account(email));
    }
    identity::set_password(&mut tx, user, &hash).await?;
    mails::close_links(&mut tx, user, &account.email).await?;
    // Before the second factor, which would lock some of the sessions: all are locked at once, in the order of everybody.
    let ended = session::end_of_account(&mut tx, user, None, EndReason::PasswordChanged).await?;
    second_factor::remove(&mut tx, user).await?;
    let change = Change::new("account.break_glass", user).ending(&ended);
    let platform = Entry::new("account.break_glass", user)
        .after(json!({ "reason": reason.as_str(), "sessions_ended": ended.len() }));
    logs::tell_beside(&mut tx, &ctx, &change, platform).await?;
    account_mail::notify(&mut tx, &ctx, Kind::PasswordChanged, user, &account.email).await?;
    attempt::was_recovered(&mut tx, &account.email).await?;
    attempt::device::forget(&mut tx, user).await?;
    let version = rights::bump(&mut tx, &[Subject::User(user)]).await?;
    tx.commit().await?;
    Clock::new(db.clone()).acknowledge(&ctx, version).await
}

/// Disables an account in all tenants: nobody logs in to it, what is open under it ends, and so does what the person has handed on;
/// its devices are forgotten. Returns when no service honours any of it any more; `false` where it was disabled already.
///
/// An operator's role is taken first: it holds rows of every tenant, and the last one stays an operator.
pub(crate) async fn disable(db: &ControlDb, email: &Email, reason: &Reason) -> Result<bool, Error> {
    let (ctx, clock) = (ctx(), Clock::new(db.clone()));
    let mut tx = db.begin().await?;
    let user = account(&mut tx, email).await?.id;
    // Whoever logs in or joins a tenant meanwhile holds the account: then it ends below, or waits and finds it disabled.
    if identity::lock(&mut tx, user).await?.is_none() {
        tx.rollback().await?;
        // A repeated call finds its change made, and must not answer before the first one might have.
        clock.acknowledge_all(&ctx).await?;
        return Ok(false);
    }
    // It may have got another address since it was looked for.
    if account(&mut tx, email).await?.id != user {
        return Err(no_account(email));
    }
    if operator::is_operator(&mut tx, user).await? {
        return Err(Error::Field {
            field: "--email",
            description: "must be of an account that is no platform operator; take that role first".to_owned(),
        });
    }
    let email = email.as_str();
    mails::close_links(&mut tx, user, email).await?;
    // Whoever hands something on in a tenant holds its row until that is there.
    tenant::lock_of(&mut tx, user).await?;
    let handed_on = EndedEverywhere::end(&mut tx, user).await?;
    identity::set_active(&mut tx, user, false).await?;
    let sessions = session::end_of_account(&mut tx, user, None, EndReason::Revoked).await?;
    let change = Change::new("account.disable", user).ending(&sessions);
    let platform = Entry::new("account.disable", user)
        .because(reason.as_str())
        .after(json!({
            "sessions_ended": sessions.len(),
            "api_keys_ended": handed_on.keys.len(),
            "invitations_ended": handed_on.invitations.len(),
        }));
    logs::tell_beside(&mut tx, &ctx, &change, platform).await?;
    handed_on.tell(&mut tx, &ctx, DISABLED).await?;
    attempt::device::forget(&mut tx, user).await?;
    let subjects: Vec<Subject> = std::iter::once(Subject::User(user))
        .chain(handed_on.subjects())
        .collect();
    let version = rights::bump(&mut tx, &subjects).await?;
    tx.commit().await?;
    clock.acknowledge(&ctx, version).await?;
    Ok(true)
}

/// Enables an account again: its person logs in as before. What has ended stays so. `false` where it was not disabled.
pub(crate) async fn enable(db: &ControlDb, email: &Email, reason: &Reason) -> Result<bool, Error> {
    let ctx = ctx();
    let mut tx = db.begin().await?;
    let user = account(&mut tx, email).await?.id;
    if !identity::set_active(&mut tx, user, true).await? {
        return Ok(false);
    }
    let platform = Entry::new("account.enable", user).because(reason.as_str());
    logs::tell_beside(&mut tx, &ctx, &Change::new("account.enable", user), platform).await?;
    // Rights only grow, so nobody waits; but a cached refusal must go.
    rights::bump(&mut tx, &[Subject::User(user)]).await?;
    tx.commit().await?;
    Ok(true)
}

/// The account at an address, disabled or not.
async fn account(conn: &mut PgConnection, email: &Email) -> Result<Account, Error> {
    let account = identity::account_at(conn, email.as_str()).await?;
    // The one that was named, and not one that the database alone takes for it.
    let account = account.filter(|account| Email::key_of(&account.email) == email.key());
    account.ok_or_else(|| no_account(email))
}

fn no_account(email: &Email) -> Error {
    Error::NotFound {
        kind: "account",
        id: email.to_string(),
    }
}

#[cfg(test)]
mod tests;
