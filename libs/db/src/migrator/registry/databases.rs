//! Which tenants have a database of their own: `rowhouse.databases` of the server's main database. SQL only.

use rowhouse_context::ServiceName;
use rowhouse_types::{OperationId, TenantId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::migrator::ProvisionError;
use crate::migrator::registry::{self, House};

/// What is known here of a tenant's own database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::migrator) enum State {
    /// It may be there or not, in part or complete. Nobody was told of it.
    Building,
    /// It is there, and its registry says everything else.
    Ready,
    /// What had to be kept stands here. It may be gone already.
    Leaving,
}

pub(in crate::migrator) async fn state_of(
    connection: &mut PgConnection,
    tenant: TenantId,
    participant: ServiceName,
) -> Result<Option<State>, ProvisionError> {
    let sql = "SELECT state FROM rowhouse.databases WHERE tenant_id = $1 AND participant = $2";
    let state: Option<String> = sqlx::query_scalar(sql)
        .bind(tenant.uuid())
        .bind(participant.as_str())
        .fetch_optional(connection)
        .await?;
    state.as_deref().map(State::read).transpose()
}

/// Says that the operation is about to create the database, or that a spare is to be built where there is none. The home's line
/// has no house here, and its next generation is the new home's.
pub(in crate::migrator) async fn claim(
    connection: &mut PgConnection,
    tenant: TenantId,
    participant: ServiceName,
    name: &str,
    operation: Option<OperationId>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO rowhouse.homes (tenant_id, participant, house_id, generation, state, operation_id)
         VALUES ($1, $2, NULL, 1, 'dropped', $3)
         ON CONFLICT (tenant_id, participant) DO UPDATE SET
             generation = homes.generation + 1, operation_id = excluded.operation_id, state_operation_id = NULL,
             updated_at = excluded.updated_at",
    )
    .bind(tenant.uuid())
    .bind(participant.as_str())
    .bind(operation.map(|operation| operation.uuid()))
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO rowhouse.databases (tenant_id, participant, database_name, state) VALUES ($1, $2, $3, 'building')",
    )
    .bind(tenant.uuid())
    .bind(participant.as_str())
    .bind(name)
    .execute(connection)
    .await
    .map(drop)
}

/// Says that the spare, where there is one that is complete, is this operation's: from now on no other takes it.
pub(in crate::migrator) async fn claim_spare(
    connection: &mut PgConnection,
    tenant: TenantId,
    participant: ServiceName,
    operation: OperationId,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE rowhouse.homes AS home SET operation_id = $3, updated_at = now()
         FROM rowhouse.databases AS own
         WHERE home.tenant_id = $1 AND home.participant = $2 AND home.operation_id IS NULL
             AND own.tenant_id = home.tenant_id AND own.participant = home.participant AND own.state = 'ready'",
    )
    .bind(tenant.uuid())
    .bind(participant.as_str())
    .bind(operation.uuid())
    .execute(connection)
    .await
    .map(drop)
}

/// Says that the database is complete and what opens it, and enters its house into the ledger.
pub(in crate::migrator) async fn set_ready(
    connection: &mut PgConnection,
    tenant: TenantId,
    participant: ServiceName,
    house: &House,
    platform_version: i64,
    sealed_password: &[u8],
) -> Result<(), sqlx::Error> {
    registry::insert_house(connection, participant, house).await?;
    sqlx::query(
        "UPDATE rowhouse.databases SET state = 'ready', house_id = $2, platform_version = $3, sealed_password = $4
         WHERE tenant_id = $1",
    )
    .bind(tenant.uuid())
    .bind(house.house_id)
    .bind(platform_version)
    .bind(sealed_password)
    .execute(connection)
    .await
    .map(drop)
}

/// Says that the database is about to go, and takes its house out of the ledger. Waits for whoever migrates it.
pub(in crate::migrator) async fn set_leaving(
    connection: &mut PgConnection,
    tenant: TenantId,
) -> Result<(), sqlx::Error> {
    let house: Option<Uuid> = sqlx::query_scalar("SELECT house_id FROM rowhouse.databases WHERE tenant_id = $1")
        .bind(tenant.uuid())
        .fetch_one(&mut *connection)
        .await?;
    sqlx::query("UPDATE rowhouse.databases SET state = 'leaving', house_id = NULL WHERE tenant_id = $1")
        .bind(tenant.uuid())
        .execute(&mut *connection)
        .await?;
    match house {
        Some(house) => registry::forget_house(connection, house).await,
        None => Ok(()),
    }
}

/// Forgets a database that was dropped.
pub(in crate::migrator) async fn forget(connection: &mut PgConnection, tenant: TenantId) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM rowhouse.databases WHERE tenant_id = $1")
        .bind(tenant.uuid())
        .execute(connection)
        .await
        .map(drop)
}

/// Tenants with a database in use whose schema `rowhouse` is older than `platform_version`, or which has no login of its own,
/// after `after`, at most `limit`.
pub(in crate::migrator) async fn behind(
    connection: &mut PgConnection,
    participant: ServiceName,
    platform_version: i64,
    after: Uuid,
    limit: i64,
) -> Result<Vec<TenantId>, ProvisionError> {
    let tenants: Vec<Uuid> = sqlx::query_scalar(
        "SELECT tenant_id FROM rowhouse.databases
         WHERE participant = $1 AND state = 'ready' AND (platform_version < $2 OR sealed_password IS NULL)
             AND tenant_id > $3
         ORDER BY tenant_id
         LIMIT $4",
    )
    .bind(participant.as_str())
    .bind(platform_version)
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(tenants.into_iter().map(TenantId::from_uuid).collect())
}

/// Whether the tenant's database is in use and has no login of its own; whoever works on it is waited for.
pub(in crate::migrator) async fn lacks_login(
    connection: &mut PgConnection,
    tenant: TenantId,
) -> Result<bool, sqlx::Error> {
    let lacks: Option<bool> = sqlx::query_scalar(
        "SELECT sealed_password IS NULL FROM rowhouse.databases WHERE tenant_id = $1 AND state = 'ready' FOR UPDATE",
    )
    .bind(tenant.uuid())
    .fetch_optional(connection)
    .await?;
    Ok(lacks.unwrap_or_default())
}

/// Tenants with a database in use that has a login of its own, with its sealed password, after `after`, at most `limit`. What
/// opens one that is leaving nobody needs any more.
pub(in crate::migrator) async fn sealed_passwords(
    connection: &mut PgConnection,
    participant: ServiceName,
    after: Uuid,
    limit: i64,
) -> Result<Vec<(TenantId, Vec<u8>)>, sqlx::Error> {
    let logins: Vec<(Uuid, Vec<u8>)> = sqlx::query_as(
        "SELECT tenant_id, sealed_password FROM rowhouse.databases
         WHERE participant = $1 AND state = 'ready' AND sealed_password IS NOT NULL AND tenant_id > $2
         ORDER BY tenant_id
         LIMIT $3",
    )
    .bind(participant.as_str())
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    let logins = logins.into_iter();
    Ok(logins
        .map(|(tenant, sealed)| (TenantId::from_uuid(tenant), sealed))
        .collect())
}

/// Tenants with a database in use whose login may have another number of sessions than `connections_max`, after `after`, at most
/// `limit`.
pub(in crate::migrator) async fn bounded_otherwise(
    connection: &mut PgConnection,
    participant: ServiceName,
    connections_max: i32,
    after: Uuid,
    limit: i64,
) -> Result<Vec<TenantId>, sqlx::Error> {
    let tenants: Vec<Uuid> = sqlx::query_scalar(
        "SELECT own.tenant_id FROM rowhouse.databases AS own
         JOIN pg_catalog.pg_roles AS login ON login.rolname = own.database_name
         WHERE own.participant = $1 AND own.state = 'ready' AND login.rolconnlimit <> $2 AND own.tenant_id > $3
         ORDER BY own.tenant_id
         LIMIT $4",
    )
    .bind(participant.as_str())
    .bind(connections_max)
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(tenants.into_iter().map(TenantId::from_uuid).collect())
}

/// The sealed password of one in use, which nobody else changes before the end of the transaction; whoever does is waited for.
pub(in crate::migrator) async fn lock_sealed_password(
    connection: &mut PgConnection,
    tenant: TenantId,
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let sql = "SELECT sealed_password FROM rowhouse.databases WHERE tenant_id = $1 AND state = 'ready' FOR UPDATE";
    let sealed: Option<Option<Vec<u8>>> = sqlx::query_scalar(sql)
        .bind(tenant.uuid())
        .fetch_optional(connection)
        .await?;
    Ok(sealed.flatten())
}

/// Says what opens the tenant's database.
pub(in crate::migrator) async fn set_sealed_password(
    connection: &mut PgConnection,
    tenant: TenantId,
    sealed_password: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE rowhouse.databases SET sealed_password = $2 WHERE tenant_id = $1")
        .bind(tenant.uuid())
        .bind(sealed_password)
        .execute(connection)
        .await
        .map(drop)
}

/// Records up to which migration a database's schema `rowhouse` is.
pub(in crate::migrator) async fn set_platform_version(
    connection: &mut PgConnection,
    tenant: TenantId,
    platform_version: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE rowhouse.databases SET platform_version = $2 WHERE tenant_id = $1 AND platform_version < $2")
        .bind(tenant.uuid())
        .bind(platform_version)
        .execute(connection)
        .await
        .map(drop)
}

/// Copies into the ledger how far the house in the tenant's own database is. The caller holds its line.
pub(in crate::migrator) async fn copy_versions(
    connection: &mut PgConnection,
    line: Uuid,
    house: &House,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE rowhouse.houses SET version = $2, deferred_version = $3 WHERE house_id = $1")
        .bind(line)
        .bind(house.version)
        .bind(house.deferred_version)
        .execute(connection)
        .await
        .map(drop)
}

/// The line in the ledger of the tenant's own house; `None` where the tenant has no database that is in use.
pub(in crate::migrator) async fn line_of(
    connection: &mut PgConnection,
    tenant: TenantId,
    participant: ServiceName,
) -> Result<Option<Uuid>, sqlx::Error> {
    let sql = "SELECT house_id FROM rowhouse.databases WHERE tenant_id = $1 AND participant = $2";
    let line: Option<Option<Uuid>> = sqlx::query_scalar(sql)
        .bind(tenant.uuid())
        .bind(participant.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(line.flatten())
}

// === impl State ===

impl State {
    fn read(word: &str) -> Result<Self, ProvisionError> {
        match word {
            "building" => Ok(Self::Building),
            "ready" => Ok(Self::Ready),
            "leaving" => Ok(Self::Leaving),
            _ => Err(ProvisionError::Damaged(format!("a database is in state {word}"))),
        }
    }
}
