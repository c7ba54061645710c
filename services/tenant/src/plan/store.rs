//! SQL of plans.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rowhouse_context::ServiceName;
use rowhouse_types::{Etag, Limits, OperationId, ServerName, TenantId};
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

/// How long an answer is waited for: what a process that died was telling is told again that much later. Longer than a
/// participant is given, so that nobody else tells the same home meanwhile; where it happens, the later order counts.
const LEASE: Duration = Duration::from_secs(10);

/// What the plan of a home's tenant wants.
macro_rules! wanted {
    () => {
        "JOIN tenant.plans ON plans.name = tenants.plan
         CROSS JOIN LATERAL (
             SELECT coalesce(
                 (tenants.limit_overrides ->> 'statement_timeout_ms')::integer,
                 (plans.limits ->> 'statement_timeout_ms')::integer
             ) AS statement_timeout_ms
         ) AS wanted "
    };
}

/// Whether a home does not keep that, or is not known to, and nobody is telling it. One that is being purged may be gone, and needs
/// no timeout; a purged tenant has no plan.
macro_rules! due {
    () => {
        "(homes.limits_lease_until <= now()
          OR homes.limits_lease_until IS NULL
              AND homes.statement_timeout_ms IS DISTINCT FROM wanted.statement_timeout_ms)
         AND tenants.state <> 'purging' "
    };
}

/// Where homes are told: a participant, and one of its servers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) participant: ServiceName,
    pub(crate) server: ServerName,
}

/// An order to a home to keep the statement timeout of its tenant's plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) tenant: TenantId,
    pub(crate) participant: ServiceName,
    pub(crate) server: ServerName,
    /// Later ones are larger.
    pub(crate) order: OperationId,
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

/// Where homes are due, at most `limit` places. A tenant that is being provisioned has its home's line when it is active.
pub(crate) async fn due_places(pool: &PgPool, limit: i64) -> Result<Vec<Place>> {
    let rows: Vec<(String, String)> = sqlx::query_as(concat!(
        "SELECT DISTINCT homes.participant, homes.server
         FROM tenant.homes JOIN tenant.tenants ON tenants.tenant_id = homes.tenant_id ",
        wanted!(),
        "WHERE ",
        due!(),
        "ORDER BY homes.participant, homes.server LIMIT $1"
    ))
    .bind(limit)
    .fetch_all(pool)
    .await?;
    let places = rows.into_iter().map(|(participant, server)| {
        Ok(Place {
            participant: participant.parse().map_err(Error::unreadable)?,
            server: server.parse().map_err(Error::unreadable)?,
        })
    });
    places.collect()
}

/// Whose homes are due at a place, at most `limit`, those after `after`.
pub(crate) async fn due_at(pool: &PgPool, place: &Place, after: Option<TenantId>, limit: i64) -> Result<Vec<TenantId>> {
    let tenants: Vec<Uuid> = sqlx::query_scalar(concat!(
        "SELECT homes.tenant_id
         FROM tenant.homes JOIN tenant.tenants ON tenants.tenant_id = homes.tenant_id ",
        wanted!(),
        "WHERE homes.participant = $1 AND homes.server = $2 AND homes.tenant_id > $3 AND ",
        due!(),
        "ORDER BY homes.tenant_id LIMIT $4"
    ))
    .bind(place.participant.as_str())
    .bind(place.server.as_str())
    .bind(after.map_or(Uuid::nil(), |tenant| tenant.uuid()))
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(tenants.into_iter().map(TenantId::from_uuid).collect())
}

/// An order for a home, which from now on counts for the last; `None` where it is not due, or another tells it.
pub(crate) async fn take(pool: &PgPool, tenant: TenantId, participant: ServiceName) -> Result<Option<Due>> {
    // Of two who made their numbers at once, only the one with the larger may come last.
    let order = OperationId::generate();
    let row: Option<(String, Option<i32>)> = sqlx::query_as(concat!(
        "UPDATE tenant.homes SET limits_order_id = $3, limits_lease_until = now() + make_interval(secs => $4)
         FROM tenant.tenants ",
        wanted!(),
        "WHERE tenants.tenant_id = homes.tenant_id AND homes.tenant_id = $1 AND homes.participant = $2
             AND (homes.limits_order_id IS NULL OR homes.limits_order_id < $3) AND ",
        due!(),
        "RETURNING homes.server, wanted.statement_timeout_ms"
    ))
    .bind(tenant.uuid())
    .bind(participant.as_str())
    .bind(order.uuid())
    .bind(LEASE.as_secs_f64())
    .fetch_optional(pool)
    .await?;
    row.map(|(server, statement_timeout_ms)| {
        Ok(Due {
            tenant,
            participant,
            server: server.parse().map_err(Error::unreadable)?,
            order,
            statement_timeout_ms,
        })
    })
    .transpose()
}

/// Records what a home keeps now. After a later order it says nothing: which of the two the home keeps, that one's answer tells.
pub(crate) async fn kept(pool: &PgPool, due: &Due) -> Result<()> {
    sqlx::query(
        "UPDATE tenant.homes SET statement_timeout_ms = $4, limits_lease_until = NULL
         WHERE tenant_id = $1 AND participant = $2 AND limits_order_id = $3",
    )
    .bind(due.tenant.uuid())
    .bind(due.participant.as_str())
    .bind(due.order.uuid())
    .bind(due.statement_timeout_ms)
    .execute(pool)
    .await?;
    Ok(())
}

/// Lets a home that could not be told be told again.
pub(crate) async fn release(pool: &PgPool, due: &Due) -> Result<()> {
    sqlx::query(
        "UPDATE tenant.homes SET limits_lease_until = now()
         WHERE tenant_id = $1 AND participant = $2 AND limits_order_id = $3",
    )
    .bind(due.tenant.uuid())
    .bind(due.participant.as_str())
    .bind(due.order.uuid())
    .execute(pool)
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
