//! Asking for mails, and handing out what they need.

use rowhouse_context::Ctx;
use rowhouse_mq::Event;
use rowhouse_types::{AccountMailId, Email, UserId};
use serde_json::json;
use sqlx::PgConnection;

use super::store::{self, Link, NewMail};
use super::{AccountMail, Kind, OperatorChange, WANTED};
use crate::error::Error;
use crate::random;
use crate::state::State;

/// Asks for the link that replaces the password of the account at an address, if there is one: nobody looks here.
///
/// An address that was written to often enough is left alone, and the caller is not told: it may be somebody else's.
pub(crate) async fn request_reset(ctx: &Ctx, state: &State, email: &Email) -> Result<(), Error> {
    let id = AccountMailId::generate();
    let link = link(state, id)?;
    let mut tx = state.begin().await?;
    if store::insert_reset(&mut tx, id, email.as_str(), &link).await? {
        announce(&mut tx, ctx, id).await?;
    }
    tx.commit().await?;
    state.wake.notify();
    Ok(())
}

/// Writes a link about an account to an address, in the caller's transaction, which has locked the account.
pub(crate) async fn send_link(
    conn: &mut PgConnection,
    ctx: &Ctx,
    state: &State,
    kind: Kind,
    user: UserId,
    email: &Email,
) -> Result<(), Error> {
    let id = AccountMailId::generate();
    let link = link(state, id)?;
    let mail = NewMail {
        id,
        kind,
        user,
        email: email.as_str(),
        link: Some(&link),
        change: None,
    };
    store::insert(conn, &mail).await?;
    announce(conn, ctx, id).await
}

/// Tells an address of a change of an account, in the change's own transaction.
pub(crate) async fn notify(
    conn: &mut PgConnection,
    ctx: &Ctx,
    kind: Kind,
    user: UserId,
    email: &str,
) -> Result<(), Error> {
    tell(conn, ctx, kind, (user, email), None).await
}

/// Tells somebody of a change of who is an operator, in the change's own transaction.
///
/// `to`: the account that is told, and its address.
pub(crate) async fn notify_of_operator(
    conn: &mut PgConnection,
    ctx: &Ctx,
    kind: Kind,
    to: (UserId, &str),
    change: OperatorChange,
) -> Result<(), Error> {
    tell(conn, ctx, kind, to, Some(change)).await
}

async fn tell(
    conn: &mut PgConnection,
    ctx: &Ctx,
    kind: Kind,
    (user, email): (UserId, &str),
    change: Option<OperatorChange>,
) -> Result<(), Error> {
    let id = AccountMailId::generate();
    let mail = NewMail {
        id,
        kind,
        user,
        email,
        link: None,
        change,
    };
    store::insert(conn, &mail).await?;
    announce(conn, ctx, id).await
}

fn link(state: &State, id: AccountMailId) -> Result<Link, Error> {
    let nonce = random::bytes().map_err(Error::fault)?.to_vec();
    let token_hash = state.account_tokens.token(id, &nonce).hash();
    Ok(Link { nonce, token_hash })
}

async fn announce(conn: &mut PgConnection, ctx: &Ctx, id: AccountMailId) -> Result<(), Error> {
    let mut event = Event::new(ctx, WANTED, json!({ "account_mail_id": id.to_string() }));
    // A mail about an account is no tenant's: its bounds are the account's own.
    event.tenant = None;
    Ok(rowhouse_mq::outbox::append(conn, "auth", &event).await?)
}

/// What a mail needs, where there is still something to write about.
pub(crate) async fn for_mail(_ctx: &Ctx, state: &State, id: AccountMailId) -> Result<AccountMail, Error> {
    let row = store::for_mail(&mut *state.connection().await?, id).await?;
    let row = row.ok_or_else(|| Error::NotFound {
        kind: "account_mail",
        id: id.to_string(),
    })?;
    let token = match &row.link {
        Some(link) => Some(state.account_tokens.mailed(id, &link.nonce, &link.token_hash)?),
        None => None,
    };
    Ok(AccountMail {
        kind: row.kind,
        email: row.email,
        display_name: row.display_name,
        token,
        news: row.news,
        created: row.created,
        expires: row.expires,
    })
}
