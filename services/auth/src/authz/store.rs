//! SQL of explanations: what of a decision hangs on a session, which an explanation has none of.

use rowhouse_types::{TenantId, UserId};
use sqlx::PgConnection;

use super::SecondFactor;
use crate::error::Error;

/// Of tenants that ask for a second factor. Sessions are those that `rights/store.rs` finds live and whose refresh token has not
/// died of idleness, as `session/store.rs` lists them; but for those that operators have opened, who show their own.
const SECOND_FACTOR: &str = "SELECT \
    EXISTS (SELECT FROM auth.second_factors WHERE identity_id = $1 AND confirmed_at IS NOT NULL), \
    count(*) FILTER (WHERE session.second_factor), count(*) FILTER (WHERE NOT session.second_factor) \
    FROM auth.login_policies AS policy LEFT JOIN auth.sessions AS session \
        ON session.identity_id = $1 AND session.tenant_id = policy.tenant_id AND session.impersonator_id IS NULL \
        AND session.revoked_at IS NULL AND session.expires_at > now() \
        AND (policy.session_lifetime_s IS NULL \
            OR session.created_at + make_interval(secs => policy.session_lifetime_s) > now()) \
        AND NOT EXISTS (SELECT FROM auth.refresh_tokens AS token WHERE token.session_id = session.id \
            AND token.used_at IS NULL AND token.revoked_at IS NULL AND token.expires_at <= now()) \
    WHERE policy.tenant_id = $2 AND policy.second_factor_required GROUP BY policy.tenant_id";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[SECOND_FACTOR];

/// What a person has of the second factor that a tenant asks for; `None` where it asks for none.
pub(super) async fn second_factor(
    conn: &mut PgConnection,
    user: UserId,
    tenant: TenantId,
) -> Result<Option<SecondFactor>, Error> {
    let row = sqlx::query_as(SECOND_FACTOR).bind(user.uuid()).bind(tenant.uuid());
    let row: Option<(bool, i64, i64)> = row.fetch_optional(conn).await?;
    Ok(row.map(|(exists, shown_in, not_shown_in)| SecondFactor {
        exists,
        shown_in,
        not_shown_in,
    }))
}
