//! Exchanging a refresh token for a new pair.

use std::time::Duration;

use rowhouse_context::Ctx;
use rowhouse_status::Reason;
use serde_json::json;
use sqlx::{Postgres, Transaction};

use super::actions::pair;
use super::{EndReason, Kept, Pair, REFRESH_EVERY_S, RefreshToken, Session, Verdict, ended, store};
use crate::attempt::failed::{self, Failed};
use crate::attempt::origin;
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::rights::{self, Query, Rights, Standing, Subject};
use crate::state::State;

/// The RPC.
const REFRESH: &str = "rowhouse.auth.v1.AuthService/Refresh";

/// Exchanges a refresh token. All uses of one family's tokens wait for each other at their session's row.
///
/// A rotation leaves its trace in the table of tokens and not in the audit log: every session makes one each five
/// minutes. Its beginning and its end are audited.
pub(crate) async fn refresh(ctx: &Ctx, state: &State, token: &RefreshToken) -> Result<Pair, Error> {
    origin::admit(ctx, state, origin::Kind::RefreshToken, &token.hash()).await?;
    let kept = match exchange(ctx, state, token).await {
        Err(refusal @ Error::RefreshTokenInvalid) => {
            return Err(origin::not_good(ctx, state, origin::Kind::RefreshToken, refusal).await);
        }
        other => other?,
    };
    origin::was_given(ctx, state, origin::Kind::RefreshToken, kept.refresh_token.hash()).await;
    let signer = state.signer().await?;
    // In its last second a session is as good as over.
    pair(&signer, kept)?.ok_or(Error::RefreshTokenInvalid)
}

/// A token of a session that is over is told to the log of the session's tenant, or the platform's: whoever has it should not, or
/// has not noticed. So is that of one which is over by its age. A token that nobody has made is nobody's.
async fn exchange(ctx: &Ctx, state: &State, token: &RefreshToken) -> Result<Kept, Error> {
    let mut tx = state.begin().await?;
    let known = store::of_token(&mut tx, token).await?;
    let (id, tenant) = known.ok_or(Error::RefreshTokenInvalid)?;
    let over = || {
        let failed = Failed {
            rpc: REFRESH,
            reason: Reason::RefreshTokenInvalid,
            target: id.to_string(),
        };
        failed::tell(ctx, state, tenant, &failed);
        Error::RefreshTokenInvalid
    };
    let session = store::lock_live(&mut tx, id).await?.ok_or_else(over)?;
    // Read after the lock: whoever held it may have used the token.
    let presented = store::presented(&mut tx, token)
        .await?
        .ok_or(Error::RefreshTokenInvalid)?;
    let revoke = match presented.verdict() {
        Verdict::Rotate => None,
        Verdict::Replace(successor) => Some(successor),
        Verdict::Refuse => return Err(Error::RefreshTokenInvalid),
        Verdict::End => return Err(end(ctx, state, tx, session).await),
    };
    check_standing(&mut tx, session, over).await?;
    // Last of what may refuse it: a token that shows a theft ends the session however often that was refreshed.
    if !store::count_refresh(&mut tx, session.id, &origin::of(ctx), token).await? {
        let retry = Duration::from_secs_f64(REFRESH_EVERY_S);
        return Err(Error::TooManyAttempts { retry });
    }
    let successor = RefreshToken::generate()?;
    let ends = match revoke {
        Some(lost) => {
            store::revoke_token(&mut tx, &lost).await?;
            let ends = store::insert_token(&mut tx, session.id, &successor).await?;
            store::mark_used(&mut tx, token, &successor).await?;
            ends
        }
        None => {
            store::mark_used(&mut tx, token, &successor).await?;
            store::insert_token(&mut tx, session.id, &successor).await?
        }
    };
    tx.commit().await?;
    Ok(Kept {
        session,
        ends,
        refresh_token: successor,
    })
}

/// Refuses, and uses up nothing, where the person could do nothing with the new pair. `over`: the refusal where the session is.
async fn check_standing(
    tx: &mut Transaction<'static, Postgres>,
    session: Session,
    over: impl FnOnce() -> Error,
) -> Result<(), Error> {
    let query = Query {
        user: session.user,
        session: Some(session.id),
        tenant: session.tenant,
        platform: session.tenant.is_none(),
        key: None,
        by: None,
    };
    let facts = rights::read(tx, &query).await?;
    match Rights::judge(&query, &facts).standing {
        // With the new pair they can still set up a second factor.
        Standing::Good | Standing::SecondFactorNotShown => Ok(()),
        Standing::Revoked | Standing::KeyRevoked => Err(over()),
        Standing::TenantSuspended => Err(Error::TenantSuspended),
        Standing::TenantUnknown => Err(Error::TenantNotReady),
    }
}

/// Ends a family of which two parties hold tokens. The answer is the same as for any other token that is not good, and
/// comes when no service honours the session any more.
async fn end(ctx: &Ctx, state: &State, mut tx: Transaction<'static, Postgres>, session: Session) -> Error {
    let ended = async {
        ended::end(&mut tx, session.id, EndReason::RefreshReuse).await?;
        let entry = Entry::new("session.end", session.id)
            .within(session.tenant)
            .after(json!({ "reason": EndReason::RefreshReuse.as_str() }));
        audit::record(&mut tx, ctx, entry).await?;
        let version = rights::bump(&mut tx, &[Subject::Session(session.id)]).await?;
        tx.commit().await?;
        state.clock.acknowledge(ctx, version).await
    };
    match ended.await {
        Ok(()) => {
            tracing::warn!(session = %session.id, "a refresh token was used again, and its session ended");
            Error::RefreshTokenInvalid
        }
        Err(error) => error,
    }
}
