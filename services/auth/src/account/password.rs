//! Changing one's password, and replacing one that was forgotten.

use rowhouse_context::Ctx;
use rowhouse_types::{Email, SessionId, UserId};
use sqlx::PgConnection;

use super::logs::{self, Change};
use super::{PasswordChange, Reset};
use crate::account_mail::{self, Kind, store as mails};
use crate::attempt::{self, origin};
use crate::error::Error;
use crate::identity::{self, Chooser};
use crate::rights::{self, Subject};
use crate::session::{self, EndReason, manage};
use crate::state::State;

/// Sets a new password and ends the account's other sessions; answers when no service honours them any more.
pub(crate) async fn change(ctx: &Ctx, state: &State, change: &PasswordChange) -> Result<(), Error> {
    let (user, session) = manage::caller(ctx)?;
    let account = super::actions::confirmed(ctx, state, (user, session), &change.current).await?;
    let mut conn = state.connection().await?;
    super::actions::long_enough(&mut conn, user, &change.new, "new_password").await?;
    let chooser = Chooser::new("new_password", &account.email, &account.display_name).known_as(attempt::person(user));
    let chooser = super::actions::in_tenants(&mut conn, user, chooser).await?;
    drop(conn);
    let hash = attempt::choose(ctx, state, &user.to_string(), &change.new, &chooser).await?;
    let mut tx = state.begin().await?;
    let locked = identity::lock(&mut tx, user).await?.ok_or(Error::Revoked)?;
    // Another call has changed it since it was compared.
    if locked != account.password_hash {
        return Err(super::actions::wrong_password());
    }
    let new = NewHash {
        user,
        email: &account.email,
        hash: &hash,
        keep: Some(session),
        action: "password.change",
    };
    set(&mut tx, ctx, &new).await?;
    let version = rights::bump(&mut tx, &[Subject::User(user)]).await?;
    tx.commit().await?;
    state.wake.notify();
    state.clock.acknowledge(ctx, version).await
}

/// Mails the link with which a forgotten password is replaced, where the address has an account.
pub(crate) async fn request_reset(ctx: &Ctx, state: &State, email: &Email) -> Result<(), Error> {
    attempt::begin_mail(ctx, state).await?;
    account_mail::request_reset(ctx, state, email).await
}

/// Sets a new password by the link from a mail and ends all sessions of the account; answers when no service honours
/// them any more.
pub(crate) async fn reset(ctx: &Ctx, state: &State, reset: &Reset) -> Result<(), Error> {
    let token_hash = reset.token.hash();
    origin::admit(ctx, state, origin::Kind::Link, &token_hash).await?;
    match reset_by(ctx, state, &token_hash, reset).await {
        Err(refusal @ Error::LinkInvalid) => Err(origin::not_good(ctx, state, origin::Kind::Link, refusal).await),
        other => other,
    }
}

async fn reset_by(ctx: &Ctx, state: &State, token_hash: &[u8], reset: &Reset) -> Result<(), Error> {
    let mut conn = state.connection().await?;
    let link = mails::followed(&mut conn, token_hash, Kind::PasswordReset).await?;
    let link = link.ok_or(Error::LinkInvalid)?;
    let person = identity::person(&mut conn, link.user)
        .await?
        .ok_or(Error::LinkInvalid)?;
    super::actions::long_enough(&mut conn, link.user, &reset.new, "new_password").await?;
    // Who holds a link is no stranger: a reset is the way in for owners who are known nowhere.
    let chooser =
        Chooser::new("new_password", &person.email, &person.display_name).known_as(attempt::person(link.user));
    let chooser = super::actions::in_tenants(&mut conn, link.user, chooser).await?;
    // Hashing takes long: no connection waits for it.
    drop(conn);
    let hash = attempt::choose(ctx, state, &link.id.to_string(), &reset.new, &chooser).await?;
    let mut tx = state.begin().await?;
    identity::lock(&mut tx, link.user).await?.ok_or(Error::LinkInvalid)?;
    // Of several at once, one finds the link open.
    if !mails::use_up(&mut tx, &link).await? {
        return Err(Error::LinkInvalid);
    }
    let new = NewHash {
        user: link.user,
        email: &link.email,
        hash: &hash,
        keep: None,
        action: "password.reset",
    };
    set(&mut tx, ctx, &new).await?;
    // Whoever reads the account's mails has come back, whatever others have tried.
    attempt::was_reset(ctx, &mut tx, &link.email).await?;
    let version = rights::bump(&mut tx, &[Subject::User(link.user)]).await?;
    tx.commit().await?;
    state.wake.notify();
    state.clock.acknowledge(ctx, version).await
}

/// A password that takes the place of another.
struct NewHash<'a> {
    user: UserId,
    email: &'a str,
    hash: &'a str,
    /// The session that goes on.
    keep: Option<SessionId>,
    action: &'static str,
}

/// Sets a password, under the account's lock: what hung on the old one ends, and the person is told.
async fn set(conn: &mut PgConnection, ctx: &Ctx, new: &NewHash<'_>) -> Result<(), Error> {
    identity::set_password(conn, new.user, new.hash).await?;
    mails::close_links(conn, new.user, new.email).await?;
    let ended = session::end_of_account(conn, new.user, new.keep, EndReason::PasswordChanged).await?;
    logs::tell(conn, ctx, &Change::new(new.action, new.user).ending(&ended)).await?;
    account_mail::notify(conn, ctx, Kind::PasswordChanged, new.user, new.email).await?;
    attempt::was_chosen(conn, new.email).await
}
