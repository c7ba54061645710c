//! SQL of the roles of tenants.

use chrono::{DateTime, Utc};
use rowhouse_auth_kit::{Grants, Role};
use rowhouse_types::{Etag, TenantId};
use sqlx::PgConnection;

use super::{NewRole, OwnRole, RoleName, TenantRole};
use crate::error::Error;

const GRANTS: &str = "SELECT permissions FROM auth.roles WHERE tenant_id = $1 AND name = $2";

const INSERT: &str = "INSERT INTO auth.roles (tenant_id, name, display_name, permissions) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (tenant_id, name) DO NOTHING \
    RETURNING name, display_name, permissions, created_at, updated_at, revision";

const FIND: &str = "SELECT name, display_name, permissions, created_at, updated_at, revision FROM auth.roles \
    WHERE tenant_id = $1 AND name = $2";

/// All of them: there are few.
const ALL: &str = "SELECT name, display_name, permissions, created_at, updated_at, revision FROM auth.roles \
    WHERE tenant_id = $1 ORDER BY name LIMIT 1000";

/// What the members of a tenant have, each role once; disabled ones too, who may be enabled.
const HELD_BY_MEMBERS: &str = "SELECT DISTINCT membership.role, own.permissions FROM auth.memberships AS membership \
    LEFT JOIN auth.roles AS own ON own.tenant_id = membership.tenant_id AND own.name = membership.own_role \
    WHERE membership.tenant_id = $1 AND membership.state <> 'removed' LIMIT 1000";

const COUNT: &str = "SELECT count(*) FROM auth.roles WHERE tenant_id = $1";

const UPDATE: &str = "UPDATE auth.roles SET display_name = $3, permissions = $4, revision = revision + 1, \
    updated_at = now() WHERE tenant_id = $1 AND name = $2 \
    RETURNING name, display_name, permissions, created_at, updated_at, revision";

const DELETE: &str = "DELETE FROM auth.roles WHERE tenant_id = $1 AND name = $2";

const MEMBERS: &str = "SELECT role, count(*) FROM auth.memberships WHERE tenant_id = $1 AND state <> 'removed' \
    AND ($2::text IS NULL OR role = $2) GROUP BY role";

const OPEN_INVITATIONS: &str = "SELECT count(*) FROM auth.invitations WHERE tenant_id = $1 AND own_role = $2 \
    AND expires_at > now()";

/// Invitations that have run out are still called open; nobody can accept them, so they hold no role.
const CLOSE_EXPIRED: &str = "UPDATE auth.invitations SET state = 'superseded' \
    WHERE tenant_id = $1 AND own_role = $2 AND expires_at <= now()";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    GRANTS,
    INSERT,
    FIND,
    ALL,
    COUNT,
    UPDATE,
    DELETE,
    MEMBERS,
    OPEN_INVITATIONS,
    CLOSE_EXPIRED,
    HELD_BY_MEMBERS,
];

type Row = (String, String, Vec<String>, DateTime<Utc>, DateTime<Utc>, i64);

fn role((name, title, permissions, created, updated, revision): Row) -> Result<OwnRole, Error> {
    Ok(OwnRole {
        name: name.parse().map_err(Error::fault)?,
        title,
        grants: Grants::read(permissions),
        created,
        updated,
        etag: Etag::from_revision(revision),
    })
}

/// What a role gives in a tenant; `None` where the tenant has no such role.
pub(crate) async fn grants(
    conn: &mut PgConnection,
    tenant: TenantId,
    role: &TenantRole,
) -> Result<Option<Grants>, Error> {
    let name = match role {
        TenantRole::BuiltIn(role) => return Ok(Some(role.grants())),
        TenantRole::Own(name) => name,
    };
    let permissions: Option<Vec<String>> = sqlx::query_scalar(GRANTS)
        .bind(tenant.uuid())
        .bind(name.as_str())
        .fetch_optional(conn)
        .await?;
    Ok(permissions.map(Grants::read))
}

/// Adds a role. `None` where the tenant has one of this name.
pub(super) async fn insert(conn: &mut PgConnection, tenant: TenantId, new: &NewRole) -> Result<Option<OwnRole>, Error> {
    let row: Option<Row> = sqlx::query_as(INSERT)
        .bind(tenant.uuid())
        .bind(new.name.as_str())
        .bind(new.title.as_str())
        .bind(new.grants.to_strings())
        .fetch_optional(conn)
        .await?;
    row.map(role).transpose()
}

pub(super) async fn find(conn: &mut PgConnection, tenant: TenantId, name: &RoleName) -> Result<Option<OwnRole>, Error> {
    let row: Option<Row> = sqlx::query_as(FIND)
        .bind(tenant.uuid())
        .bind(name.as_str())
        .fetch_optional(conn)
        .await?;
    row.map(role).transpose()
}

/// All roles of a tenant's own, by name.
pub(super) async fn all(conn: &mut PgConnection, tenant: TenantId) -> Result<Vec<OwnRole>, Error> {
    let rows: Vec<Row> = sqlx::query_as(ALL).bind(tenant.uuid()).fetch_all(conn).await?;
    rows.into_iter().map(role).collect()
}

/// What the roles give that members of a tenant have.
pub(crate) async fn held_by_members(conn: &mut PgConnection, tenant: TenantId) -> Result<Vec<Grants>, Error> {
    let rows: Vec<(String, Option<Vec<String>>)> = sqlx::query_as(HELD_BY_MEMBERS)
        .bind(tenant.uuid())
        .fetch_all(conn)
        .await?;
    let grants = |(role, own): (String, Option<Vec<String>>)| match own {
        Some(permissions) => Ok(Grants::read(permissions)),
        None => role.parse::<Role>().map(Role::grants).map_err(Error::fault),
    };
    rows.into_iter().map(grants).collect()
}

/// How many roles of its own a tenant has; to be read under the tenant's lock.
pub(super) async fn count(conn: &mut PgConnection, tenant: TenantId) -> Result<i64, Error> {
    Ok(sqlx::query_scalar(COUNT).bind(tenant.uuid()).fetch_one(conn).await?)
}

/// Writes a role's title and grants.
pub(super) async fn update(conn: &mut PgConnection, tenant: TenantId, changed: &OwnRole) -> Result<OwnRole, Error> {
    let row: Row = sqlx::query_as(UPDATE)
        .bind(tenant.uuid())
        .bind(changed.name.as_str())
        .bind(&changed.title)
        .bind(changed.grants.to_strings())
        .fetch_one(conn)
        .await?;
    role(row)
}

/// Removes a role, under the tenant's lock.
pub(super) async fn delete(conn: &mut PgConnection, tenant: TenantId, name: &RoleName) -> Result<(), Error> {
    for sql in [CLOSE_EXPIRED, DELETE] {
        let done = sqlx::query(sql).bind(tenant.uuid()).bind(name.as_str());
        done.execute(&mut *conn).await?;
    }
    Ok(())
}

/// How many members have each role, or one of them; roles that nobody has are left out.
pub(super) async fn members(
    conn: &mut PgConnection,
    tenant: TenantId,
    role: Option<&str>,
) -> Result<Vec<(String, i64)>, Error> {
    let counts = sqlx::query_as(MEMBERS).bind(tenant.uuid()).bind(role);
    Ok(counts.fetch_all(conn).await?)
}

/// How many invitations that can be accepted would give a role. Those that have run out are closed with the role.
pub(super) async fn open_invitations(conn: &mut PgConnection, tenant: TenantId, name: &RoleName) -> Result<i64, Error> {
    let open = sqlx::query_scalar(OPEN_INVITATIONS)
        .bind(tenant.uuid())
        .bind(name.as_str());
    Ok(open.fetch_one(conn).await?)
}
