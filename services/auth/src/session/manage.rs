//! What a person may do with their own sessions: see them, end them, open one in another of their tenants.

use rowhouse_context::{Ctx, Principal};
use rowhouse_db::paging::{Page, PageScope};
use rowhouse_types::{SessionId, TenantId, UserId};
use serde_json::json;

use super::actions::{open_access, pair};
use super::{EndReason, Kept, Listed, Pair, RefreshToken, Scope, Session, ended, room, store};
use crate::attempt::origin;
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::identity;
use crate::rights::{self, Subject};
use crate::state::State;

/// Who calls, and in which session. Only log-ins have one.
pub(crate) fn caller(ctx: &Ctx) -> Result<(UserId, SessionId), Error> {
    match ctx.principal() {
        Principal::Member { user, session, .. } | Principal::Operator { user, session } => Ok((*user, *session)),
        Principal::Anonymous
        | Principal::Impersonated { .. }
        | Principal::Delegate { .. }
        | Principal::Service { .. } => Err(Error::Revoked),
    }
}

/// A page of the caller's usable sessions, the newest first.
///
/// `size`: how many. `token`: of the page before, or empty.
pub(crate) async fn list(ctx: &Ctx, state: &State, size: u32, token: &str) -> Result<Page<Listed>, Error> {
    let (user, current) = caller(ctx)?;
    let scope = PageScope {
        method: "ListSessions",
        // The list is the person's, in whichever tenant they ask.
        tenant: None,
        user: Some(user),
        fingerprint: Vec::new(),
    };
    let paging = state.pages.begin(scope, size, token).map_err(|_| Error::PageToken)?;
    let mut conn = state.connection().await?;
    let mut sessions = store::page(&mut conn, user, paging.after().copied(), paging.limit()).await?;
    for listed in &mut sessions {
        listed.current = listed.id == current;
    }
    Ok(paging.finish(sessions, |last: &Listed| last.id))
}

/// Ends one of the caller's sessions, and answers when no service honours it any more.
pub(crate) async fn revoke(ctx: &Ctx, state: &State, id: SessionId) -> Result<(), Error> {
    let (user, _) = caller(ctx)?;
    let mut tx = state.begin().await?;
    if !store::belongs_to(&mut tx, id, user).await? {
        let id = id.to_string();
        return Err(Error::NotFound { kind: "session", id });
    }
    let Some(ended) = ended::end(&mut tx, id, EndReason::Revoked).await? else {
        tx.rollback().await?;
        // Another call has ended it, and may still be waiting.
        return state.clock.acknowledge_all(ctx).await;
    };
    audit::record(&mut tx, ctx, ended.entry(ctx, "session.revoke")).await?;
    let version = rights::bump(&mut tx, &[Subject::Session(id)]).await?;
    tx.commit().await?;
    state.clock.acknowledge(ctx, version).await
}

/// Ends several of the caller's sessions, answers how many when no service honours them any more.
pub(crate) async fn revoke_all(ctx: &Ctx, state: &State, scope: Scope) -> Result<u64, Error> {
    let (user, current) = caller(ctx)?;
    let mut tx = state.begin().await?;
    identity::lock(&mut tx, user).await?.ok_or(Error::Revoked)?;
    let but = (scope == Scope::Others).then_some(current);
    let ended = ended::end_of_account(&mut tx, user, but, EndReason::Revoked).await?;
    if ended.is_empty() {
        tx.rollback().await?;
        state.clock.acknowledge_all(ctx).await?;
        return Ok(0);
    }
    // How many there were of its own is told to each tenant, and to no other.
    let told = ended::counted(&ended).into_iter().map(|(log, sessions)| {
        let entry = Entry::new("session.revoke_all", user).within(log).done_by(ctx, user);
        entry.after(json!({ "scope": scope.as_str(), "sessions": sessions }))
    });
    let told = told.chain(ended::impersonations(ctx, &ended)).collect();
    audit::record_all(&mut tx, ctx, told).await?;
    let version = rights::bump(&mut tx, &[Subject::User(user)]).await?;
    tx.commit().await?;
    state.clock.acknowledge(ctx, version).await?;
    u64::try_from(ended.len()).map_err(Error::fault)
}

/// Opens a session in another of the caller's tenants, which ends when the caller's would have ended: going to and fro
/// must not put off the day when the password is asked for again. Where that tenant lets no session last so long, none is opened;
/// nor where nothing is left of the caller's.
pub(crate) async fn switch(ctx: &Ctx, state: &State, tenant: TenantId) -> Result<Pair, Error> {
    let (user, current) = caller(ctx)?;
    // Before the transaction: it asks the database on a connection of its own.
    let signer = state.signer().await?;
    let mut tx = state.begin().await?;
    // Whoever ends all sessions of the account waits for this one, or has ended the caller's.
    if !identity::hold(&mut tx, user, None).await? {
        return Err(Error::Revoked);
    }
    let arrival = store::arrival(&mut tx, user, Some(tenant)).await?;
    let Some((_, access)) = arrival.places.first() else {
        let id = tenant.to_string();
        return Err(Error::NotFound { kind: "tenant", id });
    };
    open_access(Some(*access))?;
    let from = store::lock_live(&mut tx, current).await?.ok_or(Error::Revoked)?;
    let session = Session {
        id: SessionId::generate(),
        user,
        tenant: Some(tenant),
    };
    let refresh_token = RefreshToken::generate()?;
    let is_beyond = store::insert_beside(&mut tx, &session, (ctx.address(), &origin::of(ctx)), current).await?;
    let ends = store::insert_token(&mut tx, session.id, &refresh_token).await?;
    let kept = Kept {
        session,
        ends,
        refresh_token,
    };
    let Some(pair) = pair(&signer, kept)? else {
        // Whoever hears that their session was revoked drops it: only where it gives no token any more either.
        let ends = store::ends(&mut tx, current).await?;
        let left = signer.session_token(user, current, from.tenant, ends)?;
        return Err(left.map_or(Error::Revoked, |_| Error::SessionTooOld));
    };
    // A tenant is told of no other's sessions.
    let origin = if from.tenant == session.tenant {
        current.to_string()
    } else {
        "elsewhere".to_owned()
    };
    let entry = Entry::new("session.open", session.id)
        .within(session.tenant)
        .after(json!({ "from": origin }));
    audit::record(&mut tx, ctx, entry).await?;
    let ended = if is_beyond {
        room::make_room(&mut tx, ctx, &session, Some(current)).await?
    } else {
        None
    };
    tx.commit().await?;
    origin::was_given(ctx, state, origin::Kind::RefreshToken, pair.refresh_token.hash()).await;
    room::settle(ctx, state, ended).await?;
    Ok(pair)
}
