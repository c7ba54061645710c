//! What may be done with API keys.

use rowhouse_context::Ctx;
use rowhouse_db::paging::{Page, PageScope};
use rowhouse_db::requests::Once;
use rowhouse_status::Reason;
use rowhouse_types::{ApiKeyId, ServiceAccountId, TenantId};
use serde_json::json;

use super::actions::find;
use super::{ApiKey, KEYS_MAX, KeyHolder, ListedKey, NewKey, session_of, store, user_of};
use crate::attempt::failed::{self, Failed};
use crate::attempt::origin::{self, Kind};
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::key::AccessToken;
use crate::member::actions::may_give;
use crate::rights::{self, Query, Rights, Standing, Subject};
use crate::state::State;
use crate::{request, tenant};

/// The RPC that exchanges one.
const EXCHANGE: &str = "rowhouse.auth.v1.ServiceAccountService/ExchangeApiKey";

/// Makes a key. Whoever has it can do what the account can, so only who holds all of that may, and it ends when they no longer do.
///
/// A call that is repeated is refused, with the id of the key that there is. It does not take that key's place: a call that comes
/// late or twice would end the one that its caller has by then, and a call that is repeated must do nothing.
pub(crate) async fn create(ctx: &Ctx, state: &State, new: &NewKey) -> Result<(ListedKey, ApiKey), Error> {
    let tenant = ctx.tenant()?;
    let creator = ctx.principal().user().ok_or(Error::Revoked)?;
    let key = ApiKey::generate()?;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    let account = find(&mut tx, tenant, new.account).await?;
    may_give(&mut tx, ctx, tenant, &account.role, "service_account_id").await?;
    let id = ApiKeyId::generate();
    let once = recognised_by(ctx, new);
    if let Some(earlier) = request::made_before(&mut tx, tenant, once.as_ref(), id.uuid()).await? {
        let key = ApiKeyId::from_uuid(earlier);
        return Err(Error::ApiKeyTold { key });
    }
    if store::count_keys(&mut tx, tenant, new.account).await? >= i64::from(KEYS_MAX) {
        return Err(Error::TooManyApiKeys { most: KEYS_MAX });
    }
    let listed = store::insert_key(&mut tx, tenant, id, (new, &key), creator).await?;
    let entry = Entry::new("api_key.create", listed.id)
        .after(json!({ "service_account": new.account.to_string(), "expires": listed.expires }));
    audit::record(&mut tx, ctx, entry).await?;
    tx.commit().await?;
    Ok((listed, key))
}

/// How a call that names a request id is recognised when it comes again: the key itself is not among it.
fn recognised_by(ctx: &Ctx, new: &NewKey) -> Option<Once> {
    let content = json!([new.account, new.days]);
    request::recognised_by(ctx, "CreateApiKey", new.request, &content)
}

/// A page of an account's keys, the latest first.
///
/// `size`: how many. `token`: of the page before, or empty.
pub(crate) async fn list(
    ctx: &Ctx,
    state: &State,
    account: ServiceAccountId,
    size: u32,
    token: &str,
) -> Result<Page<ListedKey>, Error> {
    let tenant = ctx.tenant()?;
    let scope = PageScope {
        method: "ListApiKeys",
        tenant: Some(tenant),
        user: ctx.principal().user(),
        fingerprint: account.to_string().into_bytes(),
    };
    let paging = state.pages.begin(scope, size, token).map_err(|_| Error::PageToken)?;
    let mut conn = state.connection().await?;
    find(&mut conn, tenant, account).await?;
    let keys = store::keys(&mut conn, tenant, account, paging.after().copied(), paging.limit()).await?;
    Ok(paging.finish(keys, |last: &ListedKey| last.id))
}

/// Ends a key, and answers when no service honours the tokens that were issued for it any more. A key that others may have
/// is ended by whoever may, whatever the account's role.
pub(crate) async fn revoke(ctx: &Ctx, state: &State, id: ApiKeyId) -> Result<ListedKey, Error> {
    let tenant = ctx.tenant()?;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    let key = store::find_key(&mut tx, tenant, id).await?;
    let key = key.ok_or_else(|| Error::NotFound {
        kind: "API key",
        id: id.to_string(),
    })?;
    if key.revoked.is_some() {
        tx.rollback().await?;
        // A repeated call finds its change made, and must not answer before the first one might have.
        state.clock.acknowledge_all(ctx).await?;
        return Ok(key);
    }
    let revoked = store::revoke_key(&mut tx, tenant, id).await?;
    let entry = Entry::new("api_key.revoke", id).before(json!({ "service_account": key.account.to_string() }));
    audit::record(&mut tx, ctx, entry).await?;
    let version = rights::bump(&mut tx, &[Subject::Session(session_of(id))]).await?;
    tx.commit().await?;
    state.clock.acknowledge(ctx, version).await?;
    Ok(revoked)
}

/// An access token for a key, which does not outlast it. It is not audited: a program makes one each five minutes, and the key
/// knows its last use.
pub(crate) async fn exchange(ctx: &Ctx, state: &State, presented: &ApiKey) -> Result<(AccessToken, TenantId), Error> {
    origin::admit(ctx, state, Kind::ApiKey, &presented.hash()).await?;
    let holder = match good(ctx, state, presented).await {
        Err(refusal @ Error::ApiKeyInvalid) => return Err(origin::not_good(ctx, state, Kind::ApiKey, refusal).await),
        other => other?,
    };
    let (user, session) = (user_of(holder.account), session_of(holder.key));
    let signer = state.signer().await?;
    let token = signer.session_token(user, session, Some(holder.tenant), holder.ends)?;
    // In its last second a key is as good as over. Nobody has invented it, so it is not counted as one that is not good.
    let token = token.ok_or(Error::ApiKeyInvalid)?;
    store::note_use(&mut *state.connection().await?, holder, &origin::of(ctx)).await?;
    Ok((token, holder.tenant))
}

/// Whose a key is, where it gives something now. One that does so no more is told to the log of its tenant: whoever has it should
/// not, or has not noticed. One that nobody has made is nobody's.
async fn good(ctx: &Ctx, state: &State, presented: &ApiKey) -> Result<KeyHolder, Error> {
    let mut conn = state.connection().await?;
    let known = store::holder(&mut conn, presented).await?;
    let (holder, is_good) = known.ok_or(Error::ApiKeyInvalid)?;
    let over = || {
        let failed = Failed {
            rpc: EXCHANGE,
            reason: Reason::LoginFailed,
            target: holder.key.to_string(),
        };
        failed::tell(ctx, state, Some(holder.tenant), &failed);
        Error::ApiKeyInvalid
    };
    if !is_good {
        return Err(over());
    }
    let query = Query {
        user: user_of(holder.account),
        session: Some(session_of(holder.key)),
        tenant: Some(holder.tenant),
        platform: false,
        key: None,
        by: None,
    };
    let facts = rights::read(&mut conn, &query).await?;
    match Rights::judge(&query, &facts).standing {
        Standing::Good => Ok(holder),
        Standing::Revoked | Standing::KeyRevoked | Standing::SecondFactorNotShown => Err(over()),
        Standing::TenantSuspended => Err(Error::TenantSuspended),
        Standing::TenantUnknown => Err(Error::TenantNotReady),
    }
}
