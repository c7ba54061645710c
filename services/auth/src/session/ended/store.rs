//! SQL of sessions that end.

use rowhouse_types::{SessionId, TenantId, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Ended;
use crate::error::Error;
use crate::session::EndReason;

const END: &str = "UPDATE auth.sessions SET revoked_at = clock_timestamp(), revoke_reason = $2 \
    WHERE id = $1 AND revoked_at IS NULL \
    RETURNING id, identity_id, tenant_id, impersonator_id IS NOT NULL";

/// Rows are locked in the order of their ids, here and below: a member who is disabled may be changing their password.
const END_OF_MEMBER: &str = "UPDATE auth.sessions SET revoked_at = clock_timestamp(), revoke_reason = $3 \
    WHERE id IN (SELECT id FROM auth.sessions WHERE identity_id = $1 AND tenant_id = $2 AND revoked_at IS NULL \
        ORDER BY id FOR UPDATE) \
    RETURNING id, identity_id, tenant_id, impersonator_id IS NOT NULL";

const END_OF_ACCOUNT: &str = "UPDATE auth.sessions SET revoked_at = clock_timestamp(), revoke_reason = $3 \
    WHERE id IN (SELECT id FROM auth.sessions WHERE identity_id = $1 AND id IS DISTINCT FROM $2 \
        AND revoked_at IS NULL ORDER BY id FOR UPDATE) \
    RETURNING id, identity_id, tenant_id, impersonator_id IS NOT NULL";

/// The bounds stand here as numbers: with a bind in the place of one PostgreSQL plans the statement anew each time. Those that stay
/// come first. The one token that a session would use next is looked up for each: joined, all tokens that there are might be read.
///
/// Where the last token of a session has died of idleness nobody misses it, and it is the first to go all the same. One that
/// somebody is ending or using at this moment is left for the next time, so that nobody waits for anybody.
const END_BEYOND: &str = "UPDATE auth.sessions SET revoked_at = clock_timestamp(), revoke_reason = $3 \
    WHERE id = ANY (ARRAY(SELECT id FROM auth.sessions WHERE revoked_at IS NULL AND id IN (SELECT session.id \
        FROM auth.sessions AS session \
        WHERE session.identity_id = $1 AND session.revoked_at IS NULL AND session.impersonator_id IS NULL \
        AND session.expires_at > clock_timestamp() \
        ORDER BY session.id = ANY ($2) DESC, coalesce((SELECT token.created_at FROM auth.refresh_tokens AS token \
            WHERE token.session_id = session.id AND token.used_at IS NULL AND token.revoked_at IS NULL), \
            session.created_at) DESC, session.id DESC OFFSET 200) \
    ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED)) \
    RETURNING id, identity_id, tenant_id, impersonator_id IS NOT NULL";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[END, END_OF_MEMBER, END_OF_ACCOUNT, END_BEYOND];

type Row = (Uuid, Uuid, Option<Uuid>, bool);

fn ended((session, user, tenant, impersonated): Row) -> Ended {
    Ended {
        session: SessionId::from_uuid(session),
        user: UserId::from_uuid(user),
        tenant: tenant.map(TenantId::from_uuid),
        impersonated,
    }
}

/// Ends a session. `None` where it was ended before.
pub(crate) async fn end(conn: &mut PgConnection, id: SessionId, reason: EndReason) -> Result<Option<Ended>, Error> {
    let row = sqlx::query_as(END).bind(id.uuid()).bind(reason.as_str());
    Ok(row.fetch_optional(conn).await?.map(ended))
}

/// Ends all sessions of a member in a tenant.
pub(super) async fn end_of_member(
    conn: &mut PgConnection,
    user: UserId,
    tenant: TenantId,
    reason: EndReason,
) -> Result<Vec<Ended>, Error> {
    let rows = sqlx::query_as(END_OF_MEMBER)
        .bind(user.uuid())
        .bind(tenant.uuid())
        .bind(reason.as_str())
        .fetch_all(conn)
        .await?;
    Ok(rows.into_iter().map(ended).collect())
}

/// Ends all sessions of an account but one. To be called under the account's lock, which keeps others from opening one meanwhile.
pub(crate) async fn end_of_account(
    conn: &mut PgConnection,
    user: UserId,
    but: Option<SessionId>,
    reason: EndReason,
) -> Result<Vec<Ended>, Error> {
    let rows = sqlx::query_as(END_OF_ACCOUNT)
        .bind(user.uuid())
        .bind(but.map(|session| session.uuid()))
        .bind(reason.as_str())
        .fetch_all(conn)
        .await?;
    Ok(rows.into_iter().map(ended).collect())
}

/// Ends an account's sessions beyond those that it may have. `keep`: of those that it may have, these are some.
pub(crate) async fn end_beyond(conn: &mut PgConnection, user: UserId, keep: &[SessionId]) -> Result<Vec<Ended>, Error> {
    let keep: Vec<Uuid> = keep.iter().map(|session| session.uuid()).collect();
    let rows = sqlx::query_as(END_BEYOND)
        .bind(user.uuid())
        .bind(keep)
        .bind(EndReason::TooMany.as_str())
        .fetch_all(conn)
        .await?;
    Ok(rows.into_iter().map(ended).collect())
}
