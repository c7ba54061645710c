//! Logging in and out, and who one is.

use rowhouse_context::Ctx;
use rowhouse_types::{SessionId, TenantId, UserId};
use sqlx::{Connection as _, PgConnection};

use super::manage::caller;
use super::store::{Added, Arrival};
use super::{Attempt, EndReason, Kept, Pair, RefreshToken, Session, ended, failed, room, store};
use crate::attempt::{self, Attempted, origin};
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::identity::{self, Account, Person};
use crate::key::Signer;
use crate::rights::{self, Query, Rights, Subject};
use crate::second_factor;
use crate::service_account;
use crate::state::State;
use crate::tenant::Access;

/// Who the caller is and what they may do.
pub(crate) struct Identity {
    pub(crate) person: Person,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) session: Option<SessionId>,
    pub(crate) rights: Rights,
}

/// Opens a session.
///
/// Until the password was right, an unknown account and a known one go the same way: one look, one hash, one answer.
pub(crate) async fn login(ctx: &Ctx, state: &State, attempt: &Attempt) -> Result<Pair, Error> {
    let answer = log_in(ctx, state, attempt).await;
    if let Err(error) = &answer {
        failed::tell(ctx, state, attempt, error).await;
    }
    answer
}

async fn log_in(ctx: &Ctx, state: &State, attempt: &Attempt) -> Result<Pair, Error> {
    let (attempted, account) = begin(ctx, state, attempt).await?;
    let (user, active, hash) = match account {
        Some(account) => (Some(account.id), account.active, Some(account.password_hash)),
        None => (None, false, None),
    };
    let right = attempt::verify(ctx, state, &attempted, &attempt.password, hash.clone()).await?;
    let user = user.filter(|_| right && active).ok_or(Error::LoginFailed)?;
    let mut conn = state.connection().await?;
    let mut tx = conn.begin().await?;
    match open(&mut tx, ctx, state, attempt, (user, hash.as_deref())).await {
        Ok((kept, Added { is_beyond, key, .. })) => {
            let device = attempt::logged_in(&mut tx, &attempted, user).await?;
            let ended = if is_beyond {
                room::make_room(&mut tx, ctx, &kept.session, None).await?
            } else {
                None
            };
            tx.commit().await?;
            let signer = state.signing.signer_of(key, &mut conn).await?;
            // Others are waited for below, who may need one themselves.
            drop(conn);
            origin::was_given(ctx, state, origin::Kind::RefreshToken, kept.refresh_token.hash()).await;
            room::settle(ctx, state, ended).await?;
            // A policy lets sessions last a quarter of an hour at least.
            let ended = || Error::fault("a session has ended as it began: the database's clock is far behind");
            let pair = pair(&signer, kept)?.ok_or_else(ended)?;
            let device = Some(device);
            Ok(Pair { device, ..pair })
        }
        Err(error) => {
            tx.rollback().await?;
            match &error {
                // Nothing was guessed: people do not know that more is asked until they are told.
                Error::SecondFactorRequired if attempt.second_factor.is_none() => {
                    attempt::give_back(&mut conn, &attempted).await?;
                }
                // A wrong code stays counted, and so does whatever cannot be told from a wrong password.
                Error::SecondFactorRequired | Error::LoginFailed => {}
                _ => attempt::succeeded(&mut conn, &attempted).await?,
            }
            Err(error)
        }
    }
}

/// Counts the attempt and looks for the account, on one connection, which is given back before the password is hashed.
async fn begin(ctx: &Ctx, state: &State, attempt: &Attempt) -> Result<(Attempted, Option<Account>), Error> {
    let mut conn = state.connection().await?;
    attempt::begin(ctx, &mut conn, &attempt.email, attempt.device.as_ref()).await
}

/// Opens a session for somebody whose password was right for a hash.
async fn open(
    conn: &mut PgConnection,
    ctx: &Ctx,
    state: &State,
    attempt: &Attempt,
    (user, hash): (UserId, Option<&str>),
) -> Result<(Kept, Added), Error> {
    // Whoever changed the password meanwhile has ended the sessions that they saw, and must not miss this one.
    if !identity::hold(conn, user, hash).await? {
        return Err(Error::LoginFailed);
    }
    let arrival = store::arrival(conn, user, attempt.tenant).await?;
    let second_factor =
        arrival.has_second_factor && second_factor::prove(conn, state, user, attempt.second_factor.as_ref()).await?;
    let tenant = choose_tenant(&arrival, attempt.tenant)?;
    let session = Session {
        id: SessionId::generate(),
        user,
        tenant,
    };
    let refresh_token = RefreshToken::generate()?;
    let from = (ctx.address(), &origin::of(ctx)[..]);
    let added = store::insert(conn, &session, &refresh_token, from, second_factor).await?;
    let entry = Entry::new("session.open", session.id).by(user).within(tenant);
    audit::record(conn, ctx, entry).await?;
    let kept = Kept {
        session,
        ends: added.ends,
        refresh_token,
    };
    Ok((kept, added))
}

/// Where the person logs in: the tenant they name, else the platform for an operator, else their only tenant.
fn choose_tenant(arrival: &Arrival, named: Option<TenantId>) -> Result<Option<TenantId>, Error> {
    if named.is_none() && arrival.is_operator {
        return Ok(None);
    }
    match arrival.places.as_slice() {
        [] => Err(Error::LoginFailed),
        [(tenant, access)] => open_access(Some(*access)).map(|()| Some(*tenant)),
        _ => Err(Error::TenantChoiceRequired),
    }
}

/// Refuses a tenant in which nobody may act. `access`: `None` where there is no such tenant.
pub(crate) fn open_access(access: Option<Access>) -> Result<(), Error> {
    match access {
        Some(Access::Allowed) => Ok(()),
        Some(Access::Suspended) => Err(Error::TenantSuspended),
        Some(Access::Pending) | None => Err(Error::TenantNotReady),
    }
}

/// Signs an access token to go with a refresh token; `None` where nothing is left of the session.
pub(super) fn pair(signer: &Signer, kept: Kept) -> Result<Option<Pair>, Error> {
    let Kept {
        session,
        ends,
        refresh_token,
    } = kept;
    let access = signer.session_token(session.user, session.id, session.tenant, ends)?;
    Ok(access.map(|access| Pair {
        session,
        access_token: access.text,
        expires: access.expires,
        refresh_token,
        device: None,
    }))
}

/// A service account as somebody who has a name and no address.
async fn program(conn: &mut PgConnection, query: Query) -> Result<Person, Error> {
    let tenant = query.tenant.ok_or(Error::Revoked)?;
    let name = service_account::display_name(conn, tenant, query.user).await?;
    Ok(Person {
        id: query.user,
        email: String::new(),
        display_name: name.ok_or(Error::Revoked)?,
    })
}

/// Ends the caller's session, and answers when no service honours it any more.
pub(crate) async fn logout(ctx: &Ctx, state: &State) -> Result<(), Error> {
    let (user, session) = caller(ctx)?;
    let mut tx = state.begin().await?;
    // A program's token ends with its key, and is not logged out.
    if !store::belongs_to(&mut tx, session, user).await? {
        return Err(Error::NotAPerson);
    }
    if ended::end(&mut tx, session, EndReason::Logout).await?.is_none() {
        tx.rollback().await?;
        // Another call has ended it, and may still be waiting.
        return state.clock.acknowledge_all(ctx).await;
    }
    audit::record(&mut tx, ctx, Entry::new("session.end", session)).await?;
    let version = rights::bump(&mut tx, &[Subject::Session(session)]).await?;
    tx.commit().await?;
    state.clock.acknowledge(ctx, version).await
}

/// Who the caller is and what they may do.
pub(crate) async fn who_am_i(ctx: &Ctx, state: &State) -> Result<Identity, Error> {
    let query = Query::of(ctx.principal(), None).ok_or(Error::Revoked)?;
    let mut conn = state.connection().await?;
    let person = match identity::person(&mut conn, query.user).await? {
        Some(person) => person,
        None => program(&mut conn, query).await?,
    };
    let facts = rights::read(&mut conn, &query).await?;
    Ok(Identity {
        person,
        tenant: query.tenant,
        session: query.session,
        rights: Rights::judge(&query, &facts),
    })
}
