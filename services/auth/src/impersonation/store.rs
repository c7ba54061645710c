//! SQL of sessions that an operator has opened as a member.

use chrono::{DateTime, Utc};
use rowhouse_context::Impersonator;
use rowhouse_types::{SessionId, TenantId, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Opened, Running, Start};
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

/// It ends when what it stands on does, also where the tenant has come to ask for less since.
const FIND: &str = "SELECT session.identity_id, session.tenant_id, \
    least(session.expires_at, origin.expires_at, session.created_at + make_interval(secs => policy.session_lifetime_s)) \
    FROM auth.sessions AS session JOIN auth.sessions AS origin ON origin.id = session.origin_id \
    LEFT JOIN auth.login_policies AS policy ON policy.tenant_id = session.tenant_id \
    WHERE session.id = $1 AND session.impersonator_id = $2 AND session.origin_id = $3 \
    AND session.revoked_at IS NULL AND session.expires_at > now()";

const LOCK: &str = "SELECT identity_id, tenant_id, revoked_at IS NULL FROM auth.sessions \
    WHERE id = $1 AND impersonator_id = $2 FOR UPDATE";

const END: &str = "UPDATE auth.sessions SET revoked_at = clock_timestamp(), revoke_reason = 'revoked' WHERE id = $1";

/// Of those whose tokens still give something, as `rights/store.rs` judges them but for the tenant, which may be opened again.
const RUNNING: &str = "SELECT session.id, session.tenant_id, session.identity_id, session.impersonator_id, session.address, \
    session.created_at, \
    least(session.expires_at, origin.expires_at, session.created_at + make_interval(secs => policy.session_lifetime_s)) \
    FROM auth.sessions AS session \
    JOIN auth.sessions AS origin ON origin.id = session.origin_id AND origin.identity_id = session.impersonator_id \
        AND origin.tenant_id IS NULL AND origin.revoked_at IS NULL AND origin.expires_at > clock_timestamp() \
    JOIN auth.identities AS operator ON operator.id = origin.identity_id AND operator.state = 'active' \
    JOIN auth.platform_grants AS granted ON granted.identity_id = operator.id \
    JOIN auth.identities AS member ON member.id = session.identity_id AND member.state = 'active' \
    JOIN auth.memberships AS membership ON membership.identity_id = session.identity_id \
        AND membership.tenant_id = session.tenant_id AND membership.state = 'active' \
    LEFT JOIN auth.login_policies AS policy ON policy.tenant_id = session.tenant_id \
    WHERE session.impersonator_id IS NOT NULL AND session.revoked_at IS NULL AND session.expires_at > clock_timestamp() \
    AND (policy.second_factor_required IS NOT TRUE OR origin.second_factor) AND (policy.session_lifetime_s IS NULL \
        OR session.created_at + make_interval(secs => policy.session_lifetime_s) > clock_timestamp()) \
    AND ($1::uuid IS NULL OR session.tenant_id = $1) AND ($2::uuid IS NULL OR session.id < $2) \
    ORDER BY session.id DESC LIMIT $3";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[HOLD_MEMBER, INSERT, FIND, LOCK, END, RUNNING];

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

type RunningRow = (Uuid, Uuid, Uuid, Uuid, Option<String>, DateTime<Utc>, DateTime<Utc>);

/// At most `limit` sessions that go on, before `before`, the latest first; with a tenant only those in it.
pub(super) async fn running(
    conn: &mut PgConnection,
    tenant: Option<TenantId>,
    before: Option<SessionId>,
    limit: i64,
) -> Result<Vec<Running>, Error> {
    let rows: Vec<RunningRow> = sqlx::query_as(RUNNING)
        .bind(tenant.map(|tenant| tenant.uuid()))
        .bind(before.map(|before| before.uuid()))
        .bind(limit)
        .fetch_all(conn)
        .await?;
    let running = |(session, tenant, user, operator, address, began, ends): RunningRow| Running {
        session: SessionId::from_uuid(session),
        tenant: TenantId::from_uuid(tenant),
        user: UserId::from_uuid(user),
        operator: UserId::from_uuid(operator),
        address,
        began,
        ends,
    };
    Ok(rows.into_iter().map(running).collect())
}
