//! Changing one's e-mail address: the new one is proven by a link, the old one is told.

use std::time::Duration;

use rowhouse_context::Ctx;
use rowhouse_types::Email;

use super::EmailChange;
use super::logs::{self, Change};
use crate::account_mail::{self, Kind, PER_HOUR_MAX, store as mails};
use crate::attempt::origin;
use crate::error::Error;
use crate::identity;
use crate::link::Token;
use crate::login_policy;
use crate::second_factor::actions::confirmed_anew;
use crate::session::manage;
use crate::state::State;

/// When to try again where enough mails were sent within an hour.
const RETRY: Duration = Duration::from_secs(60 * 60);

/// Mails a link to the new address. Nothing changes before it is followed; an older link is worthless.
///
/// Whoever reads the mails of the new address can reset the password: OWASP ASVS 5.0, 7.5.1, asks for both factors anew.
pub(crate) async fn change(ctx: &Ctx, state: &State, change: &EmailChange) -> Result<(), Error> {
    let caller @ (user, _) = manage::caller(ctx)?;
    let account = confirmed_anew(ctx, state, caller, &change.current, change.code.as_ref()).await?;
    if change.new.key() == Email::key_of(&account.email) {
        return Err(Error::Field {
            field: "new_email",
            description: "must be another than the account's".to_owned(),
        });
    }
    let mut tx = state.begin().await?;
    let locked = identity::lock(&mut tx, user).await?.ok_or(Error::Revoked)?;
    if locked != account.password_hash {
        return Err(super::actions::wrong_password());
    }
    for policy in login_policy::of_member(&mut tx, user).await? {
        policy.admit(&change.new, "new_email")?;
    }
    if mails::within_an_hour(&mut tx, user, Kind::EmailChange).await? >= PER_HOUR_MAX {
        return Err(Error::TooManyAttempts { retry: RETRY });
    }
    mails::close_links(&mut tx, user, &account.email).await?;
    account_mail::send_link(&mut tx, ctx, state, Kind::EmailChange, user, &change.new).await?;
    logs::tell(&mut tx, ctx, &Change::new("email.request_change", user)).await?;
    tx.commit().await?;
    state.wake.notify();
    Ok(())
}

/// Gives an account the address that a link was sent to, and tells the one before.
pub(crate) async fn confirm(ctx: &Ctx, state: &State, token: &Token) -> Result<(), Error> {
    let token_hash = token.hash();
    origin::admit(ctx, state, origin::Kind::Link, &token_hash).await?;
    match confirm_by(ctx, state, &token_hash).await {
        Err(refusal @ Error::LinkInvalid) => Err(origin::not_good(ctx, state, origin::Kind::Link, refusal).await),
        other => other,
    }
}

async fn confirm_by(ctx: &Ctx, state: &State, token_hash: &[u8]) -> Result<(), Error> {
    let mut tx = state.begin().await?;
    let link = mails::followed(&mut tx, token_hash, Kind::EmailChange).await?;
    let link = link.ok_or(Error::LinkInvalid)?;
    identity::lock(&mut tx, link.user).await?.ok_or(Error::LinkInvalid)?;
    // Of several at once, one finds the link open.
    if !mails::use_up(&mut tx, &link).await? {
        return Err(Error::LinkInvalid);
    }
    // They may have joined a tenant since they asked, or one of theirs may have become stricter. The link stays good.
    let email: Email = link.email.parse().map_err(Error::fault)?;
    for policy in login_policy::of_member(&mut tx, link.user).await? {
        policy.admit(&email, "token")?;
    }
    let before = identity::person(&mut tx, link.user).await?.ok_or(Error::LinkInvalid)?;
    if !identity::set_email(&mut tx, link.user, &link.email).await? {
        return Err(Error::EmailTaken);
    }
    // What was sent to the old address must not open the account any more.
    mails::close_links(&mut tx, link.user, &before.email).await?;
    logs::tell(&mut tx, ctx, &Change::new("email.change", link.user)).await?;
    account_mail::notify(&mut tx, ctx, Kind::EmailChanged, link.user, &before.email).await?;
    tx.commit().await?;
    state.wake.notify();
    Ok(())
}
