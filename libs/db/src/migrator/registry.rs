//! The registry of homes: `rowhouse.houses` and `rowhouse.homes`. SQL only.

use rowhouse_context::ServiceName;
use rowhouse_types::{HomeState, OperationId, Placement, ServerName, TenantId};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::ProvisionError;
use crate::home::Home;

/// One line of the registry.
pub(super) struct Entry {
    pub(super) generation: i64,
    /// Which built it.
    pub(super) operation: Uuid,
    /// Which ordered its state last; none while it is as it was built.
    pub(super) state_operation: Option<Uuid>,
    /// None once the home was dropped.
    pub(super) house: Option<House>,
}

pub(super) struct House {
    pub(super) house_id: Uuid,
    pub(super) schema: String,
    pub(super) placement: Placement,
    pub(super) version: i32,
    pub(super) state: HomeState,
}

/// Lets only one at a time build, migrate or drop the tenant's home; the readers and writers of the home go on.
pub(super) async fn lock_work(connection: &mut PgConnection, tenant: TenantId) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1::text, 4662))")
        .bind(tenant.uuid().to_string())
        .execute(connection)
        .await
        .map(drop)
}

/// Waits until no transaction that entered the tenant's home is left, and lets no other enter before the end of this one.
pub(super) async fn lock_tenant(connection: &mut PgConnection, tenant: TenantId) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(rowhouse.tenant_lock($1))")
        .bind(tenant.uuid())
        .execute(connection)
        .await
        .map(drop)
}

pub(super) async fn find(
    connection: &mut PgConnection,
    tenant: TenantId,
    participant: ServiceName,
) -> Result<Option<Entry>, ProvisionError> {
    let row = sqlx::query(
        "SELECT home.generation, home.operation_id, home.state_operation_id, home.state, house.house_id, house.schema_name,
                house.placement, house.version
         FROM rowhouse.homes AS home
         LEFT JOIN rowhouse.houses AS house ON house.house_id = home.house_id
         WHERE home.tenant_id = $1 AND home.participant = $2",
    )
    .bind(tenant.uuid())
    .bind(participant.as_str())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let house = match row.try_get::<Option<Uuid>, _>("house_id")? {
        None => None,
        Some(house_id) => Some(House {
            house_id,
            schema: row.try_get("schema_name")?,
            placement: word(row.try_get("placement")?)?,
            version: row.try_get("version")?,
            state: word(row.try_get("state")?)?,
        }),
    };
    Ok(Some(Entry {
        generation: row.try_get("generation")?,
        operation: row.try_get("operation_id")?,
        state_operation: row.try_get("state_operation_id")?,
        house,
    }))
}

fn word<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, ProvisionError> {
    text.parse()
        .map_err(|fault: T::Err| ProvisionError::Damaged(fault.to_string()))
}

/// Enters a newly built home. A line of a dropped one is taken over with the next generation.
pub(super) async fn insert(
    connection: &mut PgConnection,
    tenant: TenantId,
    participant: ServiceName,
    house: &House,
    operation: OperationId,
) -> Result<i64, sqlx::Error> {
    sqlx::query(
        "INSERT INTO rowhouse.houses (house_id, participant, schema_name, placement, version) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(house.house_id)
    .bind(participant.as_str())
    .bind(&house.schema)
    .bind(house.placement.as_str())
    .bind(house.version)
    .execute(&mut *connection)
    .await?;
    sqlx::query_scalar(
        "INSERT INTO rowhouse.homes (tenant_id, participant, house_id, generation, state, operation_id)
         VALUES ($1, $2, $3, 1, $4, $5)
         ON CONFLICT (tenant_id, participant) DO UPDATE SET
             house_id = excluded.house_id, generation = homes.generation + 1, state = excluded.state,
             operation_id = excluded.operation_id, state_operation_id = NULL, updated_at = excluded.updated_at
         RETURNING generation",
    )
    .bind(tenant.uuid())
    .bind(participant.as_str())
    .bind(house.house_id)
    .bind(house.state.as_str())
    .bind(operation.uuid())
    .fetch_one(connection)
    .await
}

pub(super) async fn set_state(
    connection: &mut PgConnection,
    tenant: TenantId,
    participant: ServiceName,
    state: HomeState,
    operation: OperationId,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE rowhouse.homes SET state = $3, state_operation_id = $4, updated_at = now()
         WHERE tenant_id = $1 AND participant = $2 AND house_id IS NOT NULL",
    )
    .bind(tenant.uuid())
    .bind(participant.as_str())
    .bind(state.as_str())
    .bind(operation.uuid())
    .execute(connection)
    .await
    .map(drop)
}

pub(super) async fn set_version(
    connection: &mut PgConnection,
    house_id: Uuid,
    version: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE rowhouse.houses SET version = $2 WHERE house_id = $1")
        .bind(house_id)
        .bind(version)
        .execute(connection)
        .await
        .map(drop)
}

/// Keeps the home's line, so that its generation is never given again, and forgets its house.
pub(super) async fn forget(
    connection: &mut PgConnection,
    tenant: TenantId,
    participant: ServiceName,
    house_id: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE rowhouse.homes SET state = 'dropped', house_id = NULL, updated_at = now()
         WHERE tenant_id = $1 AND participant = $2",
    )
    .bind(tenant.uuid())
    .bind(participant.as_str())
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM rowhouse.houses WHERE house_id = $1")
        .bind(house_id)
        .execute(connection)
        .await
        .map(drop)
}

/// Tenants whose homes are older than `version`, after `after`, at most `limit`.
pub(super) async fn behind(
    connection: &mut PgConnection,
    participant: ServiceName,
    version: i32,
    after: Uuid,
    limit: i64,
) -> Result<Vec<TenantId>, sqlx::Error> {
    let tenants: Vec<Uuid> = sqlx::query_scalar(
        "SELECT home.tenant_id
         FROM rowhouse.homes AS home
         JOIN rowhouse.houses AS house ON house.house_id = home.house_id
         WHERE home.participant = $1 AND house.version < $2 AND home.tenant_id > $3
         ORDER BY home.tenant_id
         LIMIT $4",
    )
    .bind(participant.as_str())
    .bind(version)
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(tenants.into_iter().map(TenantId::from_uuid).collect())
}

// === impl Entry ===

impl Entry {
    /// Whether a newer operation than `operation` has ordered the home's state.
    pub(super) fn has_overtaken(&self, operation: OperationId) -> bool {
        self.state_operation.is_some_and(|last| last > operation.uuid())
    }

    /// The home, where it was not dropped.
    pub(super) fn home(&self, tenant: TenantId, server: &ServerName) -> Option<Home> {
        self.house.as_ref().map(|house| Home {
            tenant,
            server: server.clone(),
            placement: house.placement,
            generation: self.generation,
            version: house.version,
            state: house.state,
        })
    }
}
