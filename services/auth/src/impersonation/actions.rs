//! Beginning and ending to act as a member, and who does.

use rowhouse_context::{Ctx, Impersonator, Principal};
use rowhouse_db::paging::{Page, PageScope};
use rowhouse_types::{SessionId, TenantId};
use serde_json::json;

use super::{Impersonation, Opened, Running, Start, store};
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::key::Signer;
use crate::rights::{self, Query, Standing, Subject};
use crate::session::actions::open_access;
use crate::state::State;
use crate::{identity, operator, tenant};

/// Opens a session as a member.
pub(crate) async fn start(ctx: &Ctx, state: &State, start: &Start) -> Result<Impersonation, Error> {
    let by = operator(ctx)?;
    // Before the transaction: it asks the database on a connection of its own.
    let signer = state.signer().await?;
    let mut tx = state.begin().await?;
    // Whoever ends all sessions of the account, suspends the tenant, or disables or removes the member waits until the session
    // is there, and then ends it.
    let nobody = || unknown("member", start.user.to_string());
    if !identity::hold(&mut tx, start.user, None).await? {
        return Err(nobody());
    }
    match open_access(tenant::access(&mut tx, start.tenant).await?) {
        // Which tenants there are, operators may know; that they have such a member is the answer all the same.
        Err(Error::TenantNotReady) => return Err(nobody()),
        other => other?,
    }
    // Whoever takes the operator's role waits too.
    if !operator::hold(&mut tx, start.tenant, by.operator).await? {
        return Err(Error::Revoked);
    }
    if !store::hold_member(&mut tx, start.user, start.tenant).await? {
        return Err(nobody());
    }
    let opened = store::insert(&mut tx, SessionId::generate(), start, by, ctx.address()).await?;
    let opened = opened.ok_or(Error::Revoked)?;
    // It lasts a minute at least, so it is the operator's own session of which nothing is left.
    let started = with_token(&signer, opened)?.ok_or(Error::Revoked)?;
    let entry = Entry::new("impersonation.start", start.user)
        .within(Some(start.tenant))
        .because(start.reason.as_str())
        .after(json!({ "session": opened.session.to_string(), "ends": opened.ends.to_rfc3339() }));
    audit::record(&mut tx, ctx, entry).await?;
    tx.commit().await?;
    Ok(started)
}

/// Another token of a session that the caller has opened, where it still gives something.
pub(crate) async fn renew(ctx: &Ctx, state: &State, id: SessionId) -> Result<Impersonation, Error> {
    let by = operator(ctx)?;
    let over = || unknown("impersonation", id.to_string());
    let opened = store::find(&mut *state.connection().await?, id, by).await?;
    let opened = opened.ok_or_else(over)?;
    let query = Query {
        user: opened.user,
        session: Some(id),
        tenant: Some(opened.tenant),
        platform: false,
        key: None,
        by: Some(by),
    };
    match rights::actions::rights_now(ctx, state, &query).await?.standing {
        Standing::Good => {
            let signer = state.signer().await?;
            // Read again after it was judged: since the first look the tenant may have come to end it sooner.
            let opened = store::find(&mut *state.connection().await?, id, by).await?;
            with_token(&signer, opened.ok_or_else(over)?)?.ok_or_else(over)
        }
        Standing::TenantSuspended => Err(Error::TenantSuspended),
        Standing::SecondFactorNotShown => Err(Error::SecondFactorNotShown),
        Standing::Revoked | Standing::KeyRevoked | Standing::TenantUnknown => Err(over()),
    }
}

/// Ends a session that the caller has opened, whichever of their own sessions they did it in.
pub(crate) async fn end(ctx: &Ctx, state: &State, id: SessionId) -> Result<(), Error> {
    let by = operator(ctx)?;
    let mut tx = state.begin().await?;
    let (user, tenant, is_open) = store::lock(&mut tx, id, by.operator)
        .await?
        .ok_or_else(|| unknown("impersonation", id.to_string()))?;
    if !is_open {
        tx.rollback().await?;
        // Another call has ended it, and may still be waiting.
        return state.clock.acknowledge_all(ctx).await;
    }
    store::end(&mut tx, id).await?;
    let entry = Entry::new("impersonation.end", user)
        .within(Some(tenant))
        .after(json!({ "session": id.to_string() }));
    audit::record(&mut tx, ctx, entry).await?;
    let version = rights::bump(&mut tx, &[Subject::Session(id)]).await?;
    tx.commit().await?;
    state.clock.acknowledge(ctx, version).await
}

/// A page of the sessions of all operators that go on, the latest first.
///
/// `tenant`: only those in it. `size`: how many. `token`: of the page before, or empty.
pub(crate) async fn list(
    ctx: &Ctx,
    state: &State,
    tenant: Option<TenantId>,
    size: u32,
    token: &str,
) -> Result<Page<Running>, Error> {
    let scope = PageScope {
        method: "ListImpersonations",
        tenant: None,
        user: ctx.principal().user(),
        fingerprint: tenant.map(|tenant| tenant.to_string().into_bytes()).unwrap_or_default(),
    };
    let paging = state.pages.begin(scope, size, token).map_err(|_| Error::PageToken)?;
    let mut conn = state.connection().await?;
    let running = store::running(&mut conn, tenant, paging.after().copied(), paging.limit()).await?;
    Ok(paging.finish(running, |last: &Running| last.session))
}

/// `None` where nothing is left of the session.
fn with_token(signer: &Signer, opened: Opened) -> Result<Option<Impersonation>, Error> {
    let token = signer.impersonation_token(&opened)?;
    Ok(token.map(|token| Impersonation {
        opened,
        access_token: token.text,
        expires: token.expires,
    }))
}

/// The caller, who is an operator by the RPC's audience.
fn operator(ctx: &Ctx) -> Result<Impersonator, Error> {
    match ctx.principal() {
        Principal::Operator { user, session } => Ok(Impersonator {
            operator: *user,
            session: *session,
        }),
        _ => Err(Error::fault("somebody who is no operator would act as a member")),
    }
}

fn unknown(kind: &'static str, id: String) -> Error {
    Error::NotFound { kind, id }
}
