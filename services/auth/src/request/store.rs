//! SQL of repeatable calls.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Claim, Claimed};
use crate::error::Error;

/// The no-op update makes the second of two simultaneous calls wait for the first and then see its row; DO NOTHING would
/// show it nothing. A row that has expired is taken over.
const CLAIM: &str = "INSERT INTO auth.requests AS request \
    (tenant_id, method, request_id, fingerprint, resource_id, expires_at) \
    VALUES ($1, $2, $3, $4, $5, now() + interval '24 hours') \
    ON CONFLICT (tenant_id, method, request_id) DO UPDATE SET \
        fingerprint = CASE WHEN request.expires_at < now() THEN excluded.fingerprint ELSE request.fingerprint END, \
        resource_id = CASE WHEN request.expires_at < now() THEN excluded.resource_id ELSE request.resource_id END, \
        expires_at = CASE WHEN request.expires_at < now() THEN excluded.expires_at ELSE request.expires_at END \
    RETURNING fingerprint, resource_id";

/// Those that a call takes over, or a purge is removing, are left for the next round.
const PRUNE: &str = "DELETE FROM auth.requests WHERE (tenant_id, method, request_id) IN \
    (SELECT tenant_id, method, request_id FROM auth.requests WHERE expires_at < now() LIMIT 1000 FOR UPDATE SKIP LOCKED)";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[CLAIM, PRUNE];

/// Claims a request id within the transaction that does the work.
pub(crate) async fn claim(conn: &mut PgConnection, claim: &Claim) -> Result<Claimed, Error> {
    let (fingerprint, resource): (Vec<u8>, Uuid) = sqlx::query_as(CLAIM)
        .bind(claim.tenant.uuid())
        .bind(claim.method)
        .bind(claim.request)
        .bind(&claim.fingerprint)
        .bind(claim.resource)
        .fetch_one(conn)
        .await?;
    Ok(if resource == claim.resource {
        Claimed::First
    } else if fingerprint == claim.fingerprint {
        Claimed::Repeated(resource)
    } else {
        Claimed::Reused
    })
}

/// Forgets what has expired.
pub(crate) async fn prune(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query(PRUNE).execute(conn).await?;
    Ok(())
}
