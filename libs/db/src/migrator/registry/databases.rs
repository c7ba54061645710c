//! Which tenants have a database of their own: `rowhouse.databases` of the server's main database. SQL only.

use rowhouse_context::ServiceName;
use rowhouse_types::{OperationId, TenantId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::migrator::ProvisionError;

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

/// Says that the operation is about to create the database. The home's line has no house here, and its next generation is
/// this operation's.
pub(in crate::migrator) async fn claim(
    connection: &mut PgConnection,
    tenant: TenantId,
    participant: ServiceName,
    name: &str,
    operation: OperationId,
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
    .bind(operation.uuid())
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

pub(in crate::migrator) async fn set_state(
    connection: &mut PgConnection,
    tenant: TenantId,
    state: State,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE rowhouse.databases SET state = $2 WHERE tenant_id = $1")
        .bind(tenant.uuid())
        .bind(state.as_str())
        .execute(connection)
        .await
        .map(drop)
}

/// Forgets a database that was dropped.
pub(in crate::migrator) async fn forget(connection: &mut PgConnection, tenant: TenantId) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM rowhouse.databases WHERE tenant_id = $1")
        .bind(tenant.uuid())
        .execute(connection)
        .await
        .map(drop)
}

/// Tenants with a database that is in use, after `after`, at most `limit`.
pub(in crate::migrator) async fn ready(
    connection: &mut PgConnection,
    participant: ServiceName,
    after: Uuid,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT tenant_id FROM rowhouse.databases
         WHERE participant = $1 AND state = 'ready' AND tenant_id > $2
         ORDER BY tenant_id
         LIMIT $3",
    )
    .bind(participant.as_str())
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await
}

// === impl State ===

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Ready => "ready",
            Self::Leaving => "leaving",
        }
    }

    fn read(word: &str) -> Result<Self, ProvisionError> {
        [Self::Building, Self::Ready, Self::Leaving]
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or_else(|| ProvisionError::Damaged(format!("a database is in state {word}")))
    }
}
