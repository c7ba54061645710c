//! SQL of homes.

use rowhouse_context::ServiceName;
use rowhouse_types::{HomeState, TenantId};
use sqlx::{PgConnection, PgPool};

use super::Home;
use crate::error::{Error, Result};

#[derive(sqlx::FromRow)]
struct HomeRow {
    server: Option<String>,
    placement: Option<String>,
    generation: Option<i64>,
    version: Option<i32>,
    state: Option<String>,
    transactions_max: Option<i32>,
}

/// A tenant's home at one participant.
///
/// # Errors
/// [`Error::TenantUnknown`] where there is no such tenant, or none any more, [`Error::NotReady`] where it has no home there yet.
pub(crate) async fn find(pool: &PgPool, tenant: TenantId, participant: ServiceName) -> Result<Home> {
    let row: Option<HomeRow> = sqlx::query_as(
        "SELECT homes.server, homes.placement, homes.generation, homes.version, homes.state,
             coalesce(tenants.limit_overrides -> 'concurrent_transactions', plans.limits -> 'concurrent_transactions')::integer
                 AS transactions_max
         FROM tenant.tenants JOIN tenant.plans ON plans.name = tenants.plan
         LEFT JOIN tenant.homes
             ON homes.tenant_id = tenants.tenant_id AND homes.participant = $2 AND tenants.state <> 'provisioning'
         WHERE tenants.tenant_id = $1 AND tenants.state NOT IN ('purging', 'purged')",
    )
    .bind(tenant.uuid())
    .bind(participant.as_str())
    .fetch_optional(pool)
    .await?;
    let row = row.ok_or(Error::TenantUnknown { id: tenant })?;
    let not_ready = || Error::NotReady { id: tenant };
    Ok(Home {
        tenant,
        participant,
        server: row.server.ok_or_else(not_ready)?.parse().map_err(Error::unreadable)?,
        placement: row
            .placement
            .ok_or_else(not_ready)?
            .parse()
            .map_err(Error::unreadable)?,
        generation: row.generation.ok_or_else(not_ready)?,
        version: row.version.ok_or_else(not_ready)?,
        state: row.state.ok_or_else(not_ready)?.parse().map_err(Error::unreadable)?,
        transactions_max: row.transactions_max,
    })
}

/// Marks every home of a tenant, so that the directory says so from the moment an operation is accepted.
pub(crate) async fn mark(connection: &mut PgConnection, tenant: TenantId, state: HomeState) -> Result<()> {
    sqlx::query("UPDATE tenant.homes SET state = $2, updated_at = now() WHERE tenant_id = $1")
        .bind(tenant.uuid())
        .bind(state.as_str())
        .execute(connection)
        .await?;
    Ok(())
}
