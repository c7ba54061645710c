//! SQL of sessions that an operator has opened as a member.

use chrono::{DateTime, Utc};
use rowhouse_context::Impersonator;
use rowhouse_types::{SessionId, TenantId, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Opened, Start};
use crate::error::Error;

const HOLD_MEMBER: &str = "SELECT true FROM auth.memberships AS membership \
    JOIN auth.identities AS identity ON identity.id = membership.identity_id AND identity.state = 'active' \
    WHERE membership.identity_id = $1 AND membership.tenant_id = $2 AND membership.state = 'active' \
    FOR SHARE OF membership";

/// Whether a second factor was shown, the operator's own session says each time. The tenant's bound on sessions holds.
const INSERT: &str = "INSERT INTO auth.sessions \
    (id, identity_id, tenant_id, address, second_factor, expires_at, impersonator_id, origin_id) \
    SELECT $1, $2, $3, $4, false, \
        least(origin.expires_at, now() + make_interval(secs => least($5, policy.session_lifetime_s))), \
        origin.identity_id, origin.id \
    FROM auth.sessions AS origin LEFT JOIN auth.login_policies AS policy ON policy.tenant_id = $3 \
    WHERE origin.id = $7 AND origin.identity_id = $6 AND origin.revoked_at IS NULL AND origin.expires_at > now() \
    RETURNING expires_at";

const FIND: &str = "SELECT identity_id, tenant_id, expires_at FROM auth.sessions \
    WHERE id = $1 AND impersonator_id = $2 AND origin_id = $3 AND revoked_at IS NULL AND expires_at > now()";

const LOCK: &str = "SELECT identity_id, tenant_id, revoked_at IS NULL FROM auth.sessions \
    WHERE id = $1 AND impersonator_id = $2 FOR UPDATE";

const END: &str = "UPDATE auth.sessions SET revoked_at = clock_timestamp(), revoke_reason = 'revoked' WHERE id = $1";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[HOLD_MEMBER, INSERT, FIND, LOCK, END];

/// Whether the person is an active member of the tenant; then they stay one until the transaction has ended.
pub(super) async fn hold_member(conn: &mut PgConnection, user: UserId, tenant: TenantId) -> Result<bool, Error> {
    let held: Option<bool> = sqlx::query_scalar(HOLD_MEMBER)
        .bind(user.uuid())
        .bind(tenant.uuid())
        .fetch_optional(conn)
        .await?;
    Ok(held.is_some())
}

/// Adds the session; `None` where the operator's own has ended.
pub(super) async fn insert(
    conn: &mut PgConnection,
    session: SessionId,
    start: &Start,
    by: Impersonator,
    address: Option<&str>,
) -> Result<Option<Opened>, Error> {
    let ends: Option<DateTime<Utc>> = sqlx::query_scalar(INSERT)
        .bind(session.uuid())
        .bind(start.user.uuid())
        .bind(start.tenant.uuid())
        .bind(address)
        .bind(start.lasts.as_secs_f64())
        .bind(by.operator.uuid())
        .bind(by.session.uuid())
        .fetch_optional(conn)
        .await?;
    Ok(ends.map(|ends| Opened {
        session,
        tenant: start.tenant,
        user: start.user,
        by,
        ends,
    }))
}

/// A session that this operator has opened in this session of theirs, and that has not ended.
pub(super) async fn find(conn: &mut PgConnection, id: SessionId, by: Impersonator) -> Result<Option<Opened>, Error> {
    let row: Option<(Uuid, Uuid, DateTime<Utc>)> = sqlx::query_as(FIND)
        .bind(id.uuid())
        .bind(by.operator.uuid())
        .bind(by.session.uuid())
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|(user, tenant, ends)| Opened {
        session: id,
        tenant: TenantId::from_uuid(tenant),
        user: UserId::from_uuid(user),
        by,
        ends,
    }))
}

/// Whom a session of this operator's is for, in which tenant, and whether it was not ended yet.
pub(super) async fn lock(
    conn: &mut PgConnection,
    id: SessionId,
    operator: UserId,
) -> Result<Option<(UserId, TenantId, bool)>, Error> {
    let row: Option<(Uuid, Uuid, bool)> = sqlx::query_as(LOCK)
        .bind(id.uuid())
        .bind(operator.uuid())
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|(user, tenant, open)| (UserId::from_uuid(user), TenantId::from_uuid(tenant), open)))
}

/// Ends a session.
pub(super) async fn end(conn: &mut PgConnection, id: SessionId) -> Result<(), Error> {
    sqlx::query(END).bind(id.uuid()).execute(conn).await?;
    Ok(())
}
