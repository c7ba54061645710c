//! What may be done with service accounts. Whoever changes them holds the tenant's row, as who changes members does.

use rowhouse_context::Ctx;
use rowhouse_db::paging::{Page, PageScope};
use rowhouse_db::requests::Once;
use rowhouse_types::{Etag, ServiceAccountId, TenantId};
use serde_json::{Map, Value, json};
use sqlx::PgConnection;

use super::{ACCOUNTS_MAX, AccountState, Change, NewAccount, ServiceAccount, store, user_of};
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::handed_on::Ended;
use crate::member::actions::{may_give, with_keys};
use crate::rights::{self, Subject};
use crate::role::TenantRole;
use crate::state::State;
use crate::{invitation, request, tenant};

/// Adds a service account.
pub(crate) async fn create(ctx: &Ctx, state: &State, new: &NewAccount) -> Result<ServiceAccount, Error> {
    let tenant = ctx.tenant()?;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    may_give(&mut tx, ctx, tenant, &new.role, "service_account.role").await?;
    let id = ServiceAccountId::generate();
    let once = recognised_by(ctx, new);
    if let Some(earlier) = request::made_before(&mut tx, tenant, once.as_ref(), id.uuid()).await? {
        return find(&mut tx, tenant, ServiceAccountId::from_uuid(earlier)).await;
    }
    if store::count(&mut tx, tenant).await? >= i64::from(ACCOUNTS_MAX) {
        return Err(Error::TooManyServiceAccounts { most: ACCOUNTS_MAX });
    }
    let account = store::insert(&mut tx, tenant, id, new).await?;
    let account = account.ok_or(Error::ServiceAccountExists)?;
    let entry = Entry::new("service_account.create", account.id).after(Value::Object(facts(&account)));
    audit::record(&mut tx, ctx, entry).await?;
    tx.commit().await?;
    Ok(account)
}

/// One service account.
pub(crate) async fn get(ctx: &Ctx, state: &State, id: ServiceAccountId) -> Result<ServiceAccount, Error> {
    find(&mut *state.connection().await?, ctx.tenant()?, id).await
}

/// A page of service accounts, the earliest first.
///
/// `role`: only those that have it. `size`: how many. `token`: of the page before, or empty.
pub(crate) async fn list(
    ctx: &Ctx,
    state: &State,
    role: Option<&TenantRole>,
    size: u32,
    token: &str,
) -> Result<Page<ServiceAccount>, Error> {
    let tenant = ctx.tenant()?;
    let scope = PageScope {
        method: "ListServiceAccounts",
        tenant: Some(tenant),
        user: ctx.principal().user(),
        fingerprint: role.map(|role| role.as_str().into()).unwrap_or_default(),
    };
    let paging = state.pages.begin(scope, size, token).map_err(|_| Error::PageToken)?;
    let mut conn = state.connection().await?;
    let accounts = store::page(&mut conn, tenant, role, paging.after().copied(), paging.limit()).await?;
    Ok(paging.finish(accounts, |last: &ServiceAccount| last.id))
}

/// Changes a service account, and answers when no service honours the old rights any more.
pub(crate) async fn update(ctx: &Ctx, state: &State, change: &Change) -> Result<ServiceAccount, Error> {
    let tenant = ctx.tenant()?;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    let account = unchanged(&mut tx, tenant, change.id, change.etag).await?;
    let changed = ServiceAccount {
        name: change
            .name
            .as_ref()
            .map_or_else(|| account.name.clone(), ToString::to_string),
        role: change.role.clone().unwrap_or_else(|| account.role.clone()),
        state: change.state.unwrap_or(account.state),
        ..account.clone()
    };
    if changed == account {
        tx.rollback().await?;
        // A repeated call finds its change made, and must not answer before the first one might have.
        state.clock.acknowledge_all(ctx).await?;
        return Ok(account);
    }
    let given = may_give(&mut tx, ctx, tenant, &changed.role, "service_account.role").await?;
    // Who may not give a role may not take it either.
    let before = may_give(&mut tx, ctx, tenant, &account.role, "service_account.id").await?;
    if store::name_taken(&mut tx, tenant, account.id, &changed.name).await? {
        return Err(Error::ServiceAccountExists);
    }
    let itself = user_of(account.id);
    // What it has sent and made must not give what it may no longer give.
    let shrinks = changed.state == AccountState::Disabled || given != before && !given.covers(&before);
    // Who made its keys could do what it could then, and perhaps no more.
    let grows = given != before && !before.covers(&given);
    let mut ended = Ended::default();
    if shrinks {
        ended.invitations = invitation::revoke_of_sender(&mut tx, tenant, itself, None).await?;
    }
    let (made_by, of) = (shrinks.then_some(itself), grows.then_some(account.id));
    if shrinks || grows {
        ended.keys = store::revoke_keys(&mut tx, tenant, made_by, of).await?;
    }
    let after = store::update(&mut tx, tenant, &changed).await?;
    let entry = Entry::new("service_account.update", account.id)
        .before(Value::Object(facts(&account)))
        .after(ended.beside(facts(&after)));
    audit::record(&mut tx, ctx, entry).await?;
    let version = rights::bump(&mut tx, &with_keys([Subject::User(itself)], &ended.keys)).await?;
    tx.commit().await?;
    state.clock.acknowledge(ctx, version).await?;
    Ok(after)
}

/// Removes a service account with its keys, and answers when no service honours them any more.
pub(crate) async fn delete(ctx: &Ctx, state: &State, id: ServiceAccountId, etag: Option<Etag>) -> Result<(), Error> {
    let tenant = ctx.tenant()?;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    let account = unchanged(&mut tx, tenant, id, etag).await?;
    may_give(&mut tx, ctx, tenant, &account.role, "id").await?;
    let ended = Ended {
        invitations: invitation::revoke_of_sender(&mut tx, tenant, user_of(id), None).await?,
        keys: store::revoke_keys(&mut tx, tenant, Some(user_of(id)), Some(id)).await?,
    };
    store::delete(&mut tx, tenant, id).await?;
    let entry = Entry::new("service_account.delete", id)
        .before(Value::Object(facts(&account)))
        .after(ended.alone());
    audit::record(&mut tx, ctx, entry).await?;
    let version = rights::bump(&mut tx, &with_keys([Subject::User(user_of(id))], &ended.keys)).await?;
    tx.commit().await?;
    state.clock.acknowledge(ctx, version).await
}

/// How a call that names a request id is recognised when it comes again.
fn recognised_by(ctx: &Ctx, new: &NewAccount) -> Option<Once> {
    let content = json!([new.name.as_str(), new.role.as_str()]);
    request::recognised_by(ctx, "CreateServiceAccount", new.request, &content)
}

pub(super) async fn find(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: ServiceAccountId,
) -> Result<ServiceAccount, Error> {
    let account = store::find(conn, tenant, id).await?;
    account.ok_or_else(|| Error::NotFound {
        kind: "service account",
        id: id.to_string(),
    })
}

/// An account that has not changed since its etag was issued, where one is given.
async fn unchanged(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: ServiceAccountId,
    etag: Option<Etag>,
) -> Result<ServiceAccount, Error> {
    let account = find(conn, tenant, id).await?;
    if etag.is_some_and(|etag| etag != account.etag) {
        return Err(Error::EtagMismatch);
    }
    Ok(account)
}

/// What the audit log says of a service account.
fn facts(account: &ServiceAccount) -> Map<String, Value> {
    Map::from_iter([
        ("display_name".to_owned(), account.name.as_str().into()),
        ("role".to_owned(), account.role.as_str().into()),
        ("state".to_owned(), account.state.as_str().into()),
    ])
}
