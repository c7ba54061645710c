//! SQL of plans.

use chrono::{DateTime, Utc};
use rowhouse_context::ServiceName;
use rowhouse_types::{Etag, Limits, ServerName, TenantId};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{Change, NewPlan, Plan, PlanName, TenantPlan};
use crate::error::{Error, Result};

/// A row of `tenant.plans`.
#[derive(sqlx::FromRow)]
struct PlanRow {
    name: String,
    display_name: String,
    limits: Json<Limits>,
    revision: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// A home that does not keep the statement timeout of its tenant's plan yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) tenant: TenantId,
    pub(crate) participant: ServiceName,
    pub(crate) server: ServerName,
    pub(crate) statement_timeout_ms: Option<i32>,
}

/// Adds a plan; `None` where one of this name is there.
pub(crate) async fn insert(connection: &mut PgConnection, new: &NewPlan) -> Result<Option<Plan>> {
    let row: Option<PlanRow> = sqlx::query_as(
        "INSERT INTO tenant.plans (name, display_name, limits) VALUES ($1, $2, $3)
         ON CONFLICT (name) DO NOTHING
         RETURNING name, display_name, limits, revision, created_at, updated_at",
    )
    .bind(new.name.as_str())
    .bind(new.display_name.as_str())
    .bind(Json(new.limits))
    .fetch_optional(connection)
    .await?;
    row.map(Plan::try_from).transpose()
}

/// One plan.
pub(crate) async fn get(connection: &mut PgConnection, name: &PlanName) -> Result<Option<Plan>> {
    let row: Option<PlanRow> = sqlx::query_as(
        "SELECT name, display_name, limits, revision, created_at, updated_at FROM tenant.plans WHERE name = $1",
    )
    .bind(name.as_str())
    .fetch_optional(connection)
    .await?;
    row.map(Plan::try_from).transpose()
}

/// One plan, locked until the transaction ends.
pub(crate) async fn lock(connection: &mut PgConnection, name: &PlanName) -> Result<Option<Plan>> {
    let row: Option<PlanRow> = sqlx::query_as(
        "SELECT name, display_name, limits, revision, created_at, updated_at FROM tenant.plans WHERE name = $1
         FOR UPDATE",
    )
    .bind(name.as_str())
    .fetch_optional(connection)
    .await?;
    row.map(Plan::try_from).transpose()
}

/// At most `limit` plans by name, those after `after`.
pub(crate) async fn list(pool: &PgPool, after: Option<&PlanName>, limit: i64) -> Result<Vec<Plan>> {
    let rows: Vec<PlanRow> = sqlx::query_as(
        "SELECT name, display_name, limits, revision, created_at, updated_at FROM tenant.plans
         WHERE name > coalesce($1, '') ORDER BY name LIMIT $2",
    )
    .bind(after.map(PlanName::as_str))
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Plan::try_from).collect()
}

/// Changes what a change names.
pub(crate) async fn update(connection: &mut PgConnection, change: &Change) -> Result<Plan> {
    let row: PlanRow = sqlx::query_as(
        "UPDATE tenant.plans SET
             display_name = coalesce($2, display_name), limits = coalesce($3, limits),
             revision = revision + 1, updated_at = now()
         WHERE name = $1
         RETURNING name, display_name, limits, revision, created_at, updated_at",
    )
    .bind(change.name.as_str())
    .bind(change.display_name.as_ref().map(|name| name.as_str()))
    .bind(change.limits.map(Json))
    .fetch_one(connection)
    .await?;
    row.try_into()
}

/// Removes a plan.
///
/// # Errors
/// [`Error::PlanInUse`] where a tenant has it.
pub(crate) async fn delete(connection: &mut PgConnection, name: &PlanName) -> Result<()> {
    let deleted = sqlx::query("DELETE FROM tenant.plans WHERE name = $1")
        .bind(name.as_str())
        .execute(connection)
        .await;
    match deleted {
        Ok(_) => Ok(()),
        Err(error) if constraint(&error) == Some("tenants_plan_fkey") => Err(Error::PlanInUse { name: name.clone() }),
        Err(error) => Err(error.into()),
    }
}

/// Which plan a tenant has; `None` where there is no such tenant.
pub(crate) async fn of_tenant(connection: &mut PgConnection, tenant: TenantId) -> Result<Option<TenantPlan>> {
    let row: Option<(String, Json<Limits>, Json<Limits>)> = sqlx::query_as(
        "SELECT tenants.plan, tenants.limit_overrides, plans.limits
         FROM tenant.tenants JOIN tenant.plans ON plans.name = tenants.plan
         WHERE tenants.tenant_id = $1",
    )
    .bind(tenant.uuid())
    .fetch_optional(connection)
    .await?;
    row.map(|(plan, Json(overrides), Json(limits))| {
        Ok(TenantPlan {
            tenant,
            plan: plan.parse().map_err(Error::unreadable)?,
            overrides,
            limits: limits.with(overrides),
        })
    })
    .transpose()
}

/// Gives a tenant a plan.
///
/// # Errors
/// [`Error::PlanNotAssignable`] where there is no such plan.
pub(crate) async fn assign(
    connection: &mut PgConnection,
    tenant: TenantId,
    plan: &PlanName,
    overrides: Limits,
) -> Result<()> {
    let assigned = sqlx::query(
        "UPDATE tenant.tenants SET plan = $2, limit_overrides = $3, revision = revision + 1, updated_at = now()
         WHERE tenant_id = $1",
    )
    .bind(tenant.uuid())
    .bind(plan.as_str())
    .bind(Json(overrides))
    .execute(connection)
    .await;
    match assigned {
        Ok(_) => Ok(()),
        Err(error) if constraint(&error) == Some("tenants_plan_fkey") => Err(Error::PlanNotAssignable),
        Err(error) => Err(error.into()),
    }
}

/// At most one home that does not keep its plan's statement timeout, locked until the transaction ends: of processes that
/// look at once, each gets another.
///
/// `only`: of this tenant.
pub(crate) async fn due(connection: &mut PgConnection, only: Option<TenantId>) -> Result<Option<Due>> {
    let row: Option<(Uuid, String, String, Option<i32>)> = sqlx::query_as(include_str!("sql/due.sql"))
        .bind(only.map(|tenant| tenant.uuid()))
        .fetch_optional(connection)
        .await?;
    row.map(|(tenant, participant, server, statement_timeout_ms)| {
        Ok(Due {
            tenant: TenantId::from_uuid(tenant),
            participant: participant.parse().map_err(Error::unreadable)?,
            server: server.parse().map_err(Error::unreadable)?,
            statement_timeout_ms,
        })
    })
    .transpose()
}

/// Records that a home keeps its plan's statement timeout.
pub(crate) async fn kept(connection: &mut PgConnection, due: &Due) -> Result<()> {
    sqlx::query("UPDATE tenant.homes SET statement_timeout_ms = $3 WHERE tenant_id = $1 AND participant = $2")
        .bind(due.tenant.uuid())
        .bind(due.participant.as_str())
        .bind(due.statement_timeout_ms)
        .execute(connection)
        .await?;
    Ok(())
}

fn constraint(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error().and_then(|fault| fault.constraint())
}

// === impl PlanRow ===

impl TryFrom<PlanRow> for Plan {
    type Error = Error;

    fn try_from(row: PlanRow) -> Result<Self> {
        Ok(Self {
            name: row.name.parse().map_err(Error::unreadable)?,
            display_name: row.display_name,
            limits: row.limits.0,
            etag: Etag::from_revision(row.revision),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}
