//! SQL of operations. Every write names the lease: a process that lost it changes nothing.

use std::time::Duration;

use rowhouse_types::{OperationId, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use super::{Held, Kind, Step};
use crate::directory::Home;
use crate::error::{Error, Result};
use crate::tenant::Tenant;
use crate::tenant::store::TenantRow;

/// How long a lease lasts: what is left behind by a process that died is resumed that much later. It is renewed three
/// times in that span, so one renewal may fail.
pub(crate) const LEASE: Duration = Duration::from_secs(6);

/// Longest error text that is kept, in characters.
const ERROR_CHARS_MAX: usize = 500;

/// What an operation must remember between its steps.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Payload {
    /// The first administrator's address, while provisioning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) administrator: Option<String>,
}

#[derive(sqlx::FromRow)]
struct OperationRow {
    operation_id: Uuid,
    kind: String,
    step: String,
    attempts: i32,
    tenant_id: Uuid,
    payload: Json<Payload>,
    request_id: String,
    traceparent: Option<String>,
    display_name: String,
    server: String,
    placement: String,
}

/// What the last record has made of the tenant.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) tenant: Tenant,
    /// Whether its plan bounds how long a statement may take. True also where the plan is too new for the statement to see it.
    pub(crate) has_statement_timeout: bool,
}

#[derive(sqlx::FromRow)]
struct FinishedRow {
    #[sqlx(flatten)]
    tenant: TenantRow,
    has_statement_timeout: bool,
}

/// Homes as the columns that a statement unnests.
#[derive(Default)]
struct HomeColumns {
    participants: Vec<String>,
    servers: Vec<String>,
    placements: Vec<String>,
    generations: Vec<i64>,
    versions: Vec<i32>,
    states: Vec<String>,
}

/// Begins an operation, with its lease.
pub(crate) async fn begin(connection: &mut PgConnection, held: &Held) -> Result<()> {
    sqlx::query(
        "INSERT INTO tenant.operations
             (operation_id, tenant_id, kind, step, lease_id, lease_until, request_id, traceparent)
         VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6), $7, $8)",
    )
    .bind(held.id.uuid())
    .bind(held.tenant.uuid())
    .bind(held.kind.as_str())
    .bind(held.step.as_str())
    .bind(held.lease)
    .bind(LEASE.as_secs_f64())
    .bind(held.request.as_str())
    .bind(held.traceparent.as_deref())
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes the lease of an operation that is due: the oldest, or the one asked for.
pub(crate) async fn claim(pool: &PgPool, wanted: Option<OperationId>) -> Result<Option<Held>> {
    let lease = Uuid::new_v4();
    let row: Option<OperationRow> = sqlx::query_as(include_str!("sql/claim.sql"))
        .bind(lease)
        .bind(LEASE.as_secs_f64())
        .bind(wanted.map(|id| id.uuid()))
        .fetch_optional(pool)
        .await?;
    row.map(|row| row.held(lease)).transpose()
}

/// Extends the lease; false where it is no longer ours.
pub(crate) async fn renew(pool: &PgPool, held: &Held) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE tenant.operations SET lease_until = now() + make_interval(secs => $3)
         WHERE operation_id = $1 AND lease_id = $2",
    )
    .bind(held.id.uuid())
    .bind(held.lease)
    .bind(LEASE.as_secs_f64())
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives the lease back, so that another process may go on at once.
pub(crate) async fn release(pool: &PgPool, held: &Held) -> Result<()> {
    sqlx::query(
        "UPDATE tenant.operations SET lease_id = NULL, lease_until = NULL
         WHERE operation_id = $1 AND lease_id = $2",
    )
    .bind(held.id.uuid())
    .bind(held.lease)
    .execute(pool)
    .await?;
    Ok(())
}

/// Records that a step failed, and when to try again: between half of `pause` and all of it from now.
pub(crate) async fn postpone(pool: &PgPool, held: &Held, error: &str, pause: Duration) -> Result<()> {
    let error: String = error.chars().filter(|c| *c != '\0').take(ERROR_CHARS_MAX).collect();
    sqlx::query(
        "UPDATE tenant.operations
         SET attempts = attempts + 1, last_error = $3, lease_id = NULL, lease_until = NULL,
             next_at = now() + make_interval(secs => $4 * (0.5 + random() / 2))
         WHERE operation_id = $1 AND lease_id = $2",
    )
    .bind(held.id.uuid())
    .bind(held.lease)
    .bind(error)
    .bind(pause.as_secs_f64())
    .execute(pool)
    .await?;
    Ok(())
}

/// Records a step that is not the last; false where the lease is no longer ours.
pub(crate) async fn advance(executor: impl PgExecutor<'_>, held: &Held, next: Step, homes: &[Home]) -> Result<bool> {
    let homes = HomeColumns::of(homes);
    let advanced: i64 = sqlx::query_scalar(include_str!("sql/advance.sql"))
        .bind(held.id.uuid())
        .bind(held.lease)
        .bind(held.step.as_str())
        .bind(next.as_str())
        .bind(LEASE.as_secs_f64())
        .bind(homes.participants)
        .bind(homes.servers)
        .bind(homes.placements)
        .bind(homes.generations)
        .bind(homes.versions)
        .bind(homes.states)
        .fetch_one(executor)
        .await?;
    Ok(advanced == 1)
}

/// Records the last step, and the tenant's final state with it; `None` where the lease is no longer ours.
pub(crate) async fn finish(executor: impl PgExecutor<'_>, held: &Held, homes: &[Home]) -> Result<Option<Finished>> {
    let homes = HomeColumns::of(homes);
    let row: Option<FinishedRow> = sqlx::query_as(include_str!("sql/finish.sql"))
        .bind(held.id.uuid())
        .bind(held.lease)
        .bind(held.step.as_str())
        .bind(homes.participants)
        .bind(homes.servers)
        .bind(homes.placements)
        .bind(homes.generations)
        .bind(homes.versions)
        .bind(homes.states)
        .bind(held.kind.state_during().as_str())
        .bind(held.kind.state_after().as_str())
        .bind(Uuid::now_v7())
        .bind(held.kind.event())
        .bind(json!({ "tenant_id": held.tenant }))
        .bind(held.tenant.to_string())
        .bind(held.kind.audited_as())
        .bind(json!({ "state": held.kind.state_during().as_str() }))
        .bind(json!({ "state": held.kind.state_after().as_str() }))
        .bind(Uuid::now_v7())
        .bind(Uuid::now_v7())
        .fetch_optional(executor)
        .await?;
    row.map(|row| {
        Ok(Finished {
            tenant: row.tenant.try_into()?,
            has_statement_timeout: row.has_statement_timeout,
        })
    })
    .transpose()
}

/// The tenant of an operation that has ended; `None` while it runs.
pub(crate) async fn finished(pool: &PgPool, id: OperationId) -> Result<Option<Tenant>> {
    let row: Option<TenantRow> = sqlx::query_as(
        "SELECT tenants.tenant_id, slug, display_name, placement, server, state, revision,
             tenants.created_at, tenants.updated_at, tenants.deleted_at, tenants.purge_at
         FROM tenant.operations JOIN tenant.tenants ON tenants.tenant_id = operations.tenant_id
         WHERE operation_id = $1 AND finished_at IS NOT NULL",
    )
    .bind(id.uuid())
    .fetch_optional(pool)
    .await?;
    row.map(Tenant::try_from).transpose()
}

/// The newest operation of a tenant, ended or not.
pub(crate) async fn newest(connection: &mut PgConnection, tenant: TenantId) -> Result<Option<OperationId>> {
    let id: Option<Uuid> = sqlx::query_scalar(
        "SELECT operation_id FROM tenant.operations WHERE tenant_id = $1 ORDER BY operation_id DESC LIMIT 1",
    )
    .bind(tenant.uuid())
    .fetch_optional(connection)
    .await?;
    Ok(id.map(OperationId::from_uuid))
}

/// The operation that runs for a tenant, where there is one.
pub(crate) async fn open(pool: &PgPool, tenant: TenantId) -> Result<Option<OperationId>> {
    let id: Option<Uuid> =
        sqlx::query_scalar("SELECT operation_id FROM tenant.operations WHERE tenant_id = $1 AND finished_at IS NULL")
            .bind(tenant.uuid())
            .fetch_optional(pool)
            .await?;
    Ok(id.map(OperationId::from_uuid))
}

// === impl OperationRow ===

impl OperationRow {
    fn held(self, lease: Uuid) -> Result<Held> {
        let kind: Kind = self.kind.parse().map_err(Error::unreadable)?;
        Ok(Held {
            id: OperationId::from_uuid(self.operation_id),
            lease,
            kind,
            step: self.step.parse().map_err(Error::unreadable)?,
            attempts: u32::try_from(self.attempts).map_err(Error::unreadable)?,
            // The spare's line is gone. What is resumed goes step by step.
            spare: false,
            tenant: TenantId::from_uuid(self.tenant_id),
            display_name: self.display_name,
            server: self.server.parse().map_err(Error::unreadable)?,
            placement: self.placement.parse().map_err(Error::unreadable)?,
            administrator: self.payload.0.administrator,
            request: self.request_id.parse().map_err(Error::unreadable)?,
            traceparent: self.traceparent,
        })
    }
}

// === impl HomeColumns ===

impl HomeColumns {
    fn of(homes: &[Home]) -> Self {
        let mut columns = Self::default();
        for home in homes {
            columns.participants.push(home.participant.to_string());
            columns.servers.push(home.server.to_string());
            columns.placements.push(home.placement.as_str().to_owned());
            columns.generations.push(home.generation);
            columns.versions.push(home.version);
            columns.states.push(home.state.as_str().to_owned());
        }
        columns
    }
}
