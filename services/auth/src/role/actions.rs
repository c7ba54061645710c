//! What may be done with roles. Whoever changes roles of a tenant holds the tenant's row, as who changes its members does.

use rowhouse_auth_kit::{Grants, Role};
use rowhouse_context::Ctx;
use rowhouse_db::paging::{Page, PageScope};
use rowhouse_db::requests::Once;
use rowhouse_types::{Etag, ServiceAccountId, TenantId};
use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Change, Holders, Known, Listed, NewRole, OWN_ROLES_MAX, OwnRole, RoleName, TenantRole, covers, store};
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::handed_on::Ended;
use crate::rights::{self, Query, Rights, Standing, Subject};
use crate::state::State;
use crate::{invitation, operator, request, service_account, tenant};

/// Adds a role.
pub(crate) async fn create(ctx: &Ctx, state: &State, new: &NewRole) -> Result<Listed, Error> {
    let tenant = ctx.tenant()?;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    covers(&held(&mut tx, ctx, tenant).await?, &new.grants)?;
    // A role has no id but its name, which the call says: what is remembered is only that it was made.
    let once = recognised_by(ctx, new);
    let earlier = request::made_before(&mut tx, tenant, once.as_ref(), Uuid::now_v7()).await?;
    if earlier.is_some() {
        return own(&mut tx, tenant, &new.name).await;
    }
    if store::count(&mut tx, tenant).await? >= i64::from(OWN_ROLES_MAX) {
        return Err(Error::TooManyRoles { most: OWN_ROLES_MAX });
    }
    let role = store::insert(&mut tx, tenant, new).await?.ok_or(Error::RoleExists)?;
    let entry = Entry::new("role.create", role.name.as_str()).after(facts(&role));
    audit::record(&mut tx, ctx, entry).await?;
    tx.commit().await?;
    Ok(Listed {
        role: Known::Own(role),
        holders: Holders::default(),
    })
}

/// One role.
pub(crate) async fn get(ctx: &Ctx, state: &State, name: &TenantRole) -> Result<Listed, Error> {
    let tenant = ctx.tenant()?;
    let mut conn = state.connection().await?;
    match name {
        TenantRole::Own(name) => own(&mut conn, tenant, name).await,
        TenantRole::BuiltIn(role) => Ok(Listed {
            role: Known::BuiltIn(*role),
            holders: holders(&mut conn, tenant, name.as_str()).await?,
        }),
    }
}

/// A page of roles, those that every tenant has first, then its own by name.
///
/// `size`: how many. `token`: of the page before, or empty.
pub(crate) async fn list(ctx: &Ctx, state: &State, size: u32, token: &str) -> Result<Page<Listed>, Error> {
    let tenant = ctx.tenant()?;
    let scope = PageScope {
        method: "ListRoles",
        tenant: Some(tenant),
        user: ctx.principal().user(),
        fingerprint: Vec::new(),
    };
    let paging = state.pages.begin::<(u8, String)>(scope, size, token);
    let paging = paging.map_err(|_| Error::PageToken)?;
    let mut conn = state.connection().await?;
    let own = store::all(&mut conn, tenant).await?;
    let members = store::members(&mut conn, tenant, None).await?;
    let programs = service_account::counts(&mut conn, tenant, None).await?;
    let built_in = Role::ALL.into_iter().filter(|role| role.is_of_tenant());
    let known = built_in.map(Known::BuiltIn).chain(own.into_iter().map(Known::Own));
    let rest = known.filter(|role| paging.after().is_none_or(|after| role.rank() > *after));
    let listed = rest.map(|role| Listed {
        holders: Holders {
            members: of(&members, role.name()),
            service_accounts: of(&programs, role.name()),
        },
        role,
    });
    let limit = usize::try_from(paging.limit()).unwrap_or(usize::MAX);
    let listed: Vec<Listed> = listed.take(limit).collect();
    Ok(paging.finish(listed, |last: &Listed| last.role.rank()))
}

/// Changes a role, and answers when no service honours the old permissions any more. Where the caller only looks,
/// nothing changes.
pub(crate) async fn update(ctx: &Ctx, state: &State, change: &Change) -> Result<Listed, Error> {
    let tenant = ctx.tenant()?;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    let role = find(&mut tx, tenant, &change.name).await?;
    if change.etag.is_some_and(|etag| etag != role.etag) {
        return Err(Error::EtagMismatch);
    }
    let changed = OwnRole {
        title: change
            .title
            .as_ref()
            .map_or_else(|| role.title.clone(), ToString::to_string),
        grants: change.grants.clone().unwrap_or_else(|| role.grants.clone()),
        ..role.clone()
    };
    // Who may not give a permission may not take it either.
    let held = held(&mut tx, ctx, tenant).await?;
    covers(&held, &role.grants)?;
    covers(&held, &changed.grants)?;
    let holders = holders(&mut tx, tenant, change.name.as_str()).await?;
    if change.only_look || changed == role {
        tx.rollback().await?;
        if !change.only_look {
            // A repeated call finds its change made, and must not answer before the first one might have.
            state.clock.acknowledge_all(ctx).await?;
        }
        let role = Known::Own(changed);
        return Ok(Listed { role, holders });
    }
    // What those with the role have handed on must not give what they no longer hold. Every right in the tenant is read anew
    // below, that of the keys too.
    let ended = if changed.grants.covers(&role.grants) {
        Ended::default()
    } else {
        Ended {
            invitations: invitation::revoke_of_role(&mut tx, tenant, role.name.as_str()).await?,
            keys: service_account::revoke_keys_of_role(&mut tx, tenant, role.name.as_str()).await?,
        }
    };
    let after = store::update(&mut tx, tenant, &changed).await?;
    // Members can be asked for what they do; whoever knows a key of these does it unseen, so the log names them.
    let programs = service_account::with_role(&mut tx, tenant, role.name.as_str()).await?;
    let entry = Entry::new("role.update", role.name.as_str())
        .before(facts(&role))
        .after(ended.beside(facts_with(&after, &programs)));
    audit::record(&mut tx, ctx, entry).await?;
    let version = rights::bump(&mut tx, &[Subject::Tenant(tenant)]).await?;
    tx.commit().await?;
    state.clock.acknowledge(ctx, version).await?;
    let role = Known::Own(after);
    Ok(Listed { role, holders })
}

/// Removes a role that nobody has or would get.
pub(crate) async fn delete(ctx: &Ctx, state: &State, name: &RoleName, etag: Option<Etag>) -> Result<(), Error> {
    let tenant = ctx.tenant()?;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    let role = find(&mut tx, tenant, name).await?;
    if etag.is_some_and(|etag| etag != role.etag) {
        return Err(Error::EtagMismatch);
    }
    covers(&held(&mut tx, ctx, tenant).await?, &role.grants)?;
    let Holders {
        members,
        service_accounts,
    } = holders(&mut tx, tenant, name.as_str()).await?;
    let invitations = store::open_invitations(&mut tx, tenant, name).await?;
    if members > 0 || invitations > 0 || service_accounts > 0 {
        return Err(Error::RoleHeld {
            members,
            invitations,
            service_accounts,
        });
    }
    store::delete(&mut tx, tenant, name).await?;
    let entry = Entry::new("role.delete", name.as_str()).before(facts(&role));
    audit::record(&mut tx, ctx, entry).await?;
    tx.commit().await?;
    Ok(())
}

/// What the caller holds in the tenant, now.
pub(crate) async fn held(conn: &mut PgConnection, ctx: &Ctx, tenant: TenantId) -> Result<Grants, Error> {
    let query = Query::of(ctx.principal(), Some(tenant)).ok_or(Error::Revoked)?;
    // Who takes an operator's role ends what they have made, and what was made with their keys: it must be there by then.
    let is_operator = operator::hold(conn, tenant, query.user).await?;
    if query.platform && !is_operator {
        return Err(Error::Revoked);
    }
    let facts = rights::read(conn, &query).await?;
    let rights = Rights::judge(&query, &facts);
    match rights.standing {
        Standing::Good => Ok(rights.grants),
        Standing::Revoked | Standing::KeyRevoked => Err(Error::Revoked),
        Standing::TenantSuspended => Err(Error::TenantSuspended),
        Standing::TenantUnknown => Err(Error::TenantNotReady),
        Standing::SecondFactorNotShown => Err(Error::SecondFactorNotShown),
    }
}

/// How a call that names a request id is recognised when it comes again.
fn recognised_by(ctx: &Ctx, new: &NewRole) -> Option<Once> {
    let content = json!([new.name.as_str(), new.title.as_str(), new.grants.to_strings()]);
    request::recognised_by(ctx, "CreateRole", new.request, &content)
}

/// One of the tenant's own roles, and who has it.
async fn own(conn: &mut PgConnection, tenant: TenantId, name: &RoleName) -> Result<Listed, Error> {
    let role = Known::Own(find(conn, tenant, name).await?);
    let holders = holders(conn, tenant, name.as_str()).await?;
    Ok(Listed { role, holders })
}

async fn find(conn: &mut PgConnection, tenant: TenantId, name: &RoleName) -> Result<OwnRole, Error> {
    let role = store::find(conn, tenant, name).await?;
    role.ok_or_else(|| Error::NotFound {
        kind: "role",
        id: name.as_str().to_owned(),
    })
}

async fn holders(conn: &mut PgConnection, tenant: TenantId, name: &str) -> Result<Holders, Error> {
    let members = store::members(conn, tenant, Some(name)).await?;
    let programs = service_account::counts(conn, tenant, Some(name)).await?;
    Ok(Holders {
        members: of(&members, name),
        service_accounts: of(&programs, name),
    })
}

/// How many of those that were counted have a role.
fn of(counts: &[(String, i64)], name: &str) -> i64 {
    let counted = counts.iter().find(|(role, _)| role == name);
    counted.map_or(0, |(_, count)| *count)
}

/// What the audit log says of a role.
fn facts(role: &OwnRole) -> Value {
    json!({ "permissions": role.grants.to_strings() })
}

/// The same with the service accounts that it concerns, of which a tenant has no more than an entry can name.
fn facts_with(role: &OwnRole, programs: &[ServiceAccountId]) -> Map<String, Value> {
    let programs: Vec<String> = programs.iter().map(ToString::to_string).collect();
    Map::from_iter([
        ("permissions".to_owned(), json!(role.grants.to_strings())),
        ("service_accounts".to_owned(), json!(programs)),
    ])
}
