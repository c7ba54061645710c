//! SQL of memberships.

use chrono::{DateTime, Utc};
use rowhouse_types::{Email, Etag, TenantId, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Cursor, Member, Membership};
use crate::error::Error;
use crate::role::TenantRole;

const JOIN: &str = "INSERT INTO auth.memberships AS membership (tenant_id, identity_id, role) VALUES ($1, $2, $3) \
    ON CONFLICT (tenant_id, identity_id) DO UPDATE SET role = excluded.role, state = 'active', \
        revision = membership.revision + 1, created_at = now(), updated_at = now() \
    WHERE membership.state = 'removed'";

const FIND: &str = "SELECT membership.identity_id, identity.email, identity.display_name, membership.role, \
    membership.state, membership.created_at, membership.revision \
    FROM auth.memberships AS membership JOIN auth.identities AS identity ON identity.id = membership.identity_id \
    WHERE membership.tenant_id = $1 AND membership.identity_id = $2 AND membership.state <> 'removed'";

const PAGE: &str = "SELECT membership.identity_id, identity.email, identity.display_name, membership.role, \
    membership.state, membership.created_at, membership.revision \
    FROM auth.memberships AS membership JOIN auth.identities AS identity ON identity.id = membership.identity_id \
    WHERE membership.tenant_id = $1 AND membership.state <> 'removed' \
    AND ($2::timestamptz IS NULL OR (membership.created_at, membership.identity_id) > ($2, $3::uuid)) \
    AND ($5::text IS NULL OR membership.role = $5) \
    ORDER BY membership.created_at, membership.identity_id LIMIT $4";

const HAS_ADDRESS: &str = "SELECT EXISTS (SELECT FROM auth.memberships AS membership \
    JOIN auth.identities AS identity ON identity.id = membership.identity_id \
    WHERE membership.tenant_id = $1 AND identity.email_key = lower($2) AND membership.state <> 'removed')";

/// A new invitation of an address replaces the open one, which therefore takes no seat beside it.
const SEATS_TAKEN: &str = "SELECT \
    (SELECT count(*) FROM auth.memberships WHERE tenant_id = $1 AND state <> 'removed') + \
    (SELECT count(*) FROM auth.invitations \
        WHERE tenant_id = $1 AND state = 'open' AND expires_at > now() AND email_key <> lower($2))";

/// Whose account is disabled administers nothing.
const OTHER_ADMINISTRATORS: &str = "SELECT count(*) FROM auth.memberships AS membership \
    JOIN auth.identities AS identity ON identity.id = membership.identity_id AND identity.state = 'active' \
    WHERE membership.tenant_id = $1 AND membership.identity_id <> $2 AND membership.role = 'tenant_admin' \
    AND membership.state = 'active'";

const UPDATE: &str = "UPDATE auth.memberships SET role = $3, state = $4, revision = revision + 1, updated_at = now() \
    WHERE tenant_id = $1 AND identity_id = $2 RETURNING revision";

/// Who leaves the tenant leaves its teams.
const LEAVE_TEAMS: &str = "DELETE FROM auth.team_members WHERE tenant_id = $1 AND identity_id = $2";

const REMOVE: &str = "UPDATE auth.memberships SET state = 'removed', revision = revision + 1, updated_at = now() \
    WHERE tenant_id = $1 AND identity_id = $2";

/// A tenant that is not open yet is none that anybody belongs to.
const TENANTS_OF: &str = "SELECT membership.tenant_id, tenant.display_name, membership.role, tenant.access \
    FROM auth.memberships AS membership JOIN auth.tenants AS tenant ON tenant.id = membership.tenant_id \
    WHERE membership.identity_id = $1 AND membership.state = 'active' AND tenant.access <> 'pending' \
    AND ($2::uuid IS NULL OR membership.tenant_id > $2) \
    ORDER BY membership.tenant_id LIMIT $3";

/// Of who is in more than fifty tenants, the first; none for the platform's.
const LOGS_OF: &str = "(SELECT membership.tenant_id FROM auth.memberships AS membership \
        WHERE membership.identity_id = $1 AND membership.state = 'active' ORDER BY membership.tenant_id LIMIT 50) \
    UNION ALL SELECT NULL::uuid FROM auth.platform_grants WHERE identity_id = $1";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    JOIN,
    FIND,
    PAGE,
    HAS_ADDRESS,
    SEATS_TAKEN,
    OTHER_ADMINISTRATORS,
    UPDATE,
    LEAVE_TEAMS,
    REMOVE,
    TENANTS_OF,
    LOGS_OF,
];

type Row = (Uuid, String, String, String, String, DateTime<Utc>, i64);

fn member(row: Row) -> Result<Member, Error> {
    let (user, email, display_name, role, state, created, revision) = row;
    Ok(Member {
        user: UserId::from_uuid(user),
        email,
        display_name,
        role: role.parse().map_err(Error::fault)?,
        state: state.parse().map_err(Error::fault)?,
        created,
        etag: Etag::from_revision(revision),
    })
}

/// Makes a person a member. Who is one already stays what they are: an old link enables nobody again. Who was removed
/// becomes one as if for the first time; removing somebody revokes the links that were sent to them.
pub(crate) async fn join(
    conn: &mut PgConnection,
    tenant: TenantId,
    user: UserId,
    role: &TenantRole,
) -> Result<(), Error> {
    let joined = sqlx::query(JOIN)
        .bind(tenant.uuid())
        .bind(user.uuid())
        .bind(role.as_str())
        .execute(&mut *conn)
        .await?;
    if joined.rows_affected() > 0 {
        // Code that knew no teams has left the rows of whom it removed.
        let left = sqlx::query(LEAVE_TEAMS).bind(tenant.uuid()).bind(user.uuid());
        left.execute(conn).await?;
    }
    Ok(())
}

pub(super) async fn find(conn: &mut PgConnection, tenant: TenantId, user: UserId) -> Result<Option<Member>, Error> {
    let row: Option<Row> = sqlx::query_as(FIND)
        .bind(tenant.uuid())
        .bind(user.uuid())
        .fetch_optional(conn)
        .await?;
    row.map(member).transpose()
}

/// At most `limit` members after `cursor`, the earliest first. `role`: only those who have it.
pub(super) async fn page(
    conn: &mut PgConnection,
    tenant: TenantId,
    role: Option<&TenantRole>,
    cursor: Option<&Cursor>,
    limit: i64,
) -> Result<Vec<Member>, Error> {
    let rows: Vec<Row> = sqlx::query_as(PAGE)
        .bind(tenant.uuid())
        .bind(cursor.map(|cursor| cursor.created))
        .bind(cursor.map(|cursor| cursor.user.uuid()))
        .bind(limit)
        .bind(role.map(TenantRole::as_str))
        .fetch_all(conn)
        .await?;
    rows.into_iter().map(member).collect()
}

/// Whether a member has this address.
pub(super) async fn has_address(conn: &mut PgConnection, tenant: TenantId, email: &str) -> Result<bool, Error> {
    Ok(sqlx::query_scalar(HAS_ADDRESS)
        .bind(tenant.uuid())
        .bind(email)
        .fetch_one(conn)
        .await?)
}

/// Members, disabled ones too, and open invitations of other addresses; to be read under the tenant's lock.
pub(super) async fn seats_taken(conn: &mut PgConnection, tenant: TenantId, email: &Email) -> Result<i64, Error> {
    Ok(sqlx::query_scalar(SEATS_TAKEN)
        .bind(tenant.uuid())
        .bind(email.as_str())
        .fetch_one(conn)
        .await?)
}

/// How many active administrators there are beside a member; to be read under the tenant's lock.
pub(super) async fn other_administrators(
    conn: &mut PgConnection,
    tenant: TenantId,
    user: UserId,
) -> Result<i64, Error> {
    Ok(sqlx::query_scalar(OTHER_ADMINISTRATORS)
        .bind(tenant.uuid())
        .bind(user.uuid())
        .fetch_one(conn)
        .await?)
}

/// Writes a member's role and state, and returns the new etag.
pub(super) async fn update(conn: &mut PgConnection, tenant: TenantId, member: &Member) -> Result<Etag, Error> {
    let revision = sqlx::query_scalar(UPDATE)
        .bind(tenant.uuid())
        .bind(member.user.uuid())
        .bind(member.role.as_str())
        .bind(member.state.as_str())
        .fetch_one(conn)
        .await?;
    Ok(Etag::from_revision(revision))
}

/// Takes a member out of the tenant and its teams; whether there were any.
pub(super) async fn remove(conn: &mut PgConnection, tenant: TenantId, user: UserId) -> Result<bool, Error> {
    let left = sqlx::query(LEAVE_TEAMS).bind(tenant.uuid()).bind(user.uuid());
    let left = left.execute(&mut *conn).await?;
    let removed = sqlx::query(REMOVE).bind(tenant.uuid()).bind(user.uuid());
    removed.execute(conn).await?;
    Ok(left.rows_affected() > 0)
}

/// At most `limit` tenants after `after` whose active member a person is, by id.
pub(crate) async fn tenants_of(
    conn: &mut PgConnection,
    user: UserId,
    after: Option<TenantId>,
    limit: i64,
) -> Result<Vec<Membership>, Error> {
    let rows: Vec<(Uuid, String, String, String)> = sqlx::query_as(TENANTS_OF)
        .bind(user.uuid())
        .bind(after.map(|tenant| tenant.uuid()))
        .bind(limit)
        .fetch_all(conn)
        .await?;
    let membership = |(tenant, tenant_name, role, access): (Uuid, String, String, String)| {
        Ok(Membership {
            tenant: TenantId::from_uuid(tenant),
            tenant_name,
            role: role.parse().map_err(Error::fault)?,
            access: access.parse().map_err(Error::fault)?,
        })
    };
    rows.into_iter().map(membership).collect()
}

/// Whose audit logs are told of a person's account: of the tenants whose active member they are, and `None` for the platform's
/// where they are an operator.
pub(crate) async fn logs_of(conn: &mut PgConnection, user: UserId) -> Result<Vec<Option<TenantId>>, Error> {
    let logs: Vec<Option<Uuid>> = sqlx::query_scalar(LOGS_OF).bind(user.uuid()).fetch_all(conn).await?;
    Ok(logs.into_iter().map(|log| log.map(TenantId::from_uuid)).collect())
}
