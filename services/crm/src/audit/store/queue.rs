//! SQL of what waits for its seal in a database, whichever tenant's: said with the relay's login, outside of homes.

use rowhouse_types::TenantId;
use sqlx::PgPool;
use uuid::Uuid;

/// Tenants that have entries waiting in a database, in the order of their numbers.
const TENANTS: &str = "SELECT DISTINCT tenant_id FROM rowhouse.unsealed WHERE $1::uuid IS NULL OR tenant_id > $1 \
    ORDER BY tenant_id LIMIT $2";

/// Takes what waits of a tenant from the queue: its home is gone.
const DROP: &str = "DELETE FROM rowhouse.unsealed WHERE tenant_id = $1";

/// Statements of the relay's login, for the test that prepares them.
#[cfg(test)]
pub(crate) const RELAY_STATEMENTS: &[&str] = &[TENANTS, DROP];

/// Some of the tenants that have entries waiting in the database behind `relay`: those after `after`.
pub(in crate::audit) async fn tenants(
    relay: &PgPool,
    after: Option<TenantId>,
    limit: i64,
) -> Result<Vec<TenantId>, sqlx::Error> {
    let after = after.map(|tenant| tenant.uuid());
    let tenants: Vec<Uuid> = sqlx::query_scalar(TENANTS)
        .bind(after)
        .bind(limit)
        .fetch_all(relay)
        .await?;
    Ok(tenants.into_iter().map(TenantId::from_uuid).collect())
}

/// Forgets what waits of a tenant.
pub(in crate::audit) async fn drop_queue(relay: &PgPool, tenant: TenantId) -> Result<(), sqlx::Error> {
    sqlx::query(DROP).bind(tenant.uuid()).execute(relay).await?;
    Ok(())
}
