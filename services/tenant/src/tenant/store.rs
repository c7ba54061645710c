//! SQL of tenants.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rowhouse_context::Ctx;
use rowhouse_db::requests::{Claimed, Once};
use rowhouse_types::{Etag, OperationId, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{Deletion, State, Tenant};
use crate::error::{Error, Result};
use crate::plan::PlanName;

/// A row of `tenant.tenants`.
#[derive(sqlx::FromRow)]
pub(crate) struct TenantRow {
    tenant_id: Uuid,
    slug: String,
    display_name: String,
    placement: String,
    server: String,
    state: String,
    revision: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    deleted_at: Option<DateTime<Utc>>,
    purge_at: Option<DateTime<Utc>>,
}

/// What a call to create a tenant reserves.
pub(crate) struct Reservation<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) plan: &'a PlanName,
    /// Who calls, as the scope of the request id.
    pub(crate) caller: &'a str,
    pub(crate) once: Option<&'a Once>,
    pub(crate) operation: OperationId,
    pub(crate) payload: &'a Value,
    pub(crate) lease: Uuid,
    pub(crate) lease_secs: f64,
    pub(crate) traceparent: Option<&'a str>,
    pub(crate) after: &'a Value,
}

/// What came of a reservation.
#[derive(Debug)]
pub(crate) enum Reserved {
    /// The slug is ours, and so is the lease of the operation.
    New {
        /// The spare's where there was one, else the one that was asked for.
        id: TenantId,
        /// Whether a spare was taken.
        spare: bool,
        created_at: DateTime<Utc>,
    },
    /// An earlier call has the request id.
    Before(Claimed),
}

#[derive(sqlx::FromRow)]
struct ReservedRow {
    resource_id: Uuid,
    fingerprint: Vec<u8>,
    created_at: Option<DateTime<Utc>>,
    spare: bool,
}

/// Where a list of tenants goes on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Cursor {
    created_at_us: i64,
    id: TenantId,
}

/// Reserves the slug, takes a spare where one is ready, and begins provisioning, in one statement and one round trip: where
/// the slug is taken the spare is not.
pub(crate) async fn reserve(pool: &PgPool, ctx: &Ctx, new: &Reservation<'_>) -> Result<Reserved> {
    let tenant = new.tenant;
    let row: ReservedRow = sqlx::query_as(include_str!("sql/reserve.sql"))
        .bind(new.caller)
        .bind(new.once.map(|once| once.key.uuid()))
        .bind(new.once.map_or(&[][..], |once| &once.fingerprint))
        .bind(tenant.id.uuid())
        .bind(&tenant.slug)
        .bind(&tenant.display_name)
        .bind(tenant.placement.as_str())
        .bind(tenant.server.as_str())
        .bind(new.operation.uuid())
        .bind(new.payload)
        .bind(new.lease)
        .bind(new.lease_secs)
        .bind(ctx.request_id().as_str())
        .bind(new.traceparent)
        .bind(Uuid::now_v7())
        .bind(ctx.principal().actor())
        .bind(ctx.principal().on_behalf_of())
        .bind(tenant.id.to_string())
        .bind(new.after)
        .bind(ctx.address())
        .bind(new.plan.as_str())
        .bind(Uuid::now_v7())
        .bind(ctx.reason())
        .bind(new.once.map(|once| once.method))
        .fetch_one(pool)
        .await
        .map_err(|error| refused(error, tenant))?;
    let compare = |once: &Once| once.compare(row.resource_id, &row.fingerprint);
    Ok(match row.created_at {
        Some(created_at) => Reserved::New {
            id: TenantId::from_uuid(row.resource_id),
            spare: row.spare,
            created_at,
        },
        None => Reserved::Before(new.once.map_or(Claimed::Reused, compare)),
    })
}

/// What a constraint has refused.
fn refused(error: sqlx::Error, tenant: &Tenant) -> Error {
    let constraint = error.as_database_error().and_then(|fault| fault.constraint());
    match constraint {
        Some("tenants_slug_key") => Error::SlugTaken {
            slug: tenant.slug.clone(),
        },
        Some("servers_admission_check") => Error::ServersFull,
        Some("tenants_plan_fkey") => Error::PlanNotAssignable,
        _ => error.into(),
    }
}

/// One tenant.
pub(crate) async fn get(pool: &PgPool, id: TenantId) -> Result<Option<Tenant>> {
    let row: Option<TenantRow> = sqlx::query_as(
        "SELECT tenant_id, slug, display_name, placement, server, state, revision, created_at, updated_at,
             deleted_at, purge_at
         FROM tenant.tenants WHERE tenant_id = $1",
    )
    .bind(id.uuid())
    .fetch_optional(pool)
    .await?;
    row.map(Tenant::try_from).transpose()
}

/// One tenant, locked until the transaction ends.
pub(crate) async fn lock(connection: &mut PgConnection, id: TenantId) -> Result<Option<Tenant>> {
    let row: Option<TenantRow> = sqlx::query_as(
        "SELECT tenant_id, slug, display_name, placement, server, state, revision, created_at, updated_at,
             deleted_at, purge_at
         FROM tenant.tenants WHERE tenant_id = $1 FOR UPDATE",
    )
    .bind(id.uuid())
    .fetch_optional(connection)
    .await?;
    row.map(Tenant::try_from).transpose()
}

/// The tenant that has been due for its purge for longest, locked until the transaction ends. One that another process has
/// locked is passed over, and one that is changed meanwhile (undeleted, or deleted anew with a grace of its own) is none.
pub(crate) async fn lock_due_for_purge(connection: &mut PgConnection) -> Result<Option<Tenant>> {
    let row: Option<TenantRow> = sqlx::query_as(
        "SELECT tenant_id, slug, display_name, placement, server, state, revision, created_at, updated_at,
             deleted_at, purge_at
         FROM tenant.tenants WHERE state = 'deleted' AND purge_at <= now()
         ORDER BY purge_at LIMIT 1 FOR UPDATE SKIP LOCKED",
    )
    .fetch_optional(connection)
    .await?;
    row.map(Tenant::try_from).transpose()
}

/// At most `limit` tenants, the newest first, older than `before`. Their ids do not tell: a spare's is older.
///
/// `deleted`: whether those that are deleted are among them.
pub(crate) async fn list(pool: &PgPool, before: Option<Cursor>, deleted: bool, limit: i64) -> Result<Vec<Tenant>> {
    let rows: Vec<TenantRow> = sqlx::query_as(
        "SELECT tenant_id, slug, display_name, placement, server, state, revision, created_at, updated_at,
             deleted_at, purge_at
         FROM tenant.tenants
         WHERE (created_at, tenant_id)
             < (coalesce($1, 'infinity'), coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
             AND ($3 OR deleted_at IS NULL)
         ORDER BY created_at DESC, tenant_id DESC LIMIT $4",
    )
    .bind(before.and_then(|cursor| DateTime::from_timestamp_micros(cursor.created_at_us)))
    .bind(before.map(|cursor| cursor.id.uuid()))
    .bind(deleted)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Tenant::try_from).collect()
}

/// Gives a tenant another display name.
pub(crate) async fn rename(connection: &mut PgConnection, id: TenantId, display_name: &str) -> Result<Tenant> {
    let row: TenantRow = sqlx::query_as(
        "UPDATE tenant.tenants SET display_name = $2, revision = revision + 1, updated_at = now()
         WHERE tenant_id = $1
         RETURNING tenant_id, slug, display_name, placement, server, state, revision, created_at, updated_at,
             deleted_at, purge_at",
    )
    .bind(id.uuid())
    .bind(display_name)
    .fetch_one(connection)
    .await?;
    row.try_into()
}

/// Moves a tenant from one state to the next; `None` where it is not in `from`.
///
/// `grace`: how long it can be undeleted, where it is deleted.
pub(crate) async fn change_state(
    connection: &mut PgConnection,
    id: TenantId,
    from: State,
    to: State,
    grace: Duration,
) -> Result<Option<Tenant>> {
    let row: Option<TenantRow> = sqlx::query_as(
        "UPDATE tenant.tenants SET state = $3, revision = revision + 1, updated_at = now(),
             deleted_at = CASE WHEN $3 = 'deleting' THEN now() ELSE deleted_at END,
             purge_at = CASE WHEN $3 = 'deleting' THEN now() + make_interval(secs => $4) ELSE purge_at END
         WHERE tenant_id = $1 AND state = $2
         RETURNING tenant_id, slug, display_name, placement, server, state, revision, created_at, updated_at,
             deleted_at, purge_at",
    )
    .bind(id.uuid())
    .bind(from.as_str())
    .bind(to.as_str())
    .bind(grace.as_secs_f64())
    .fetch_optional(connection)
    .await?;
    row.map(Tenant::try_from).transpose()
}

// === impl Cursor ===

impl Cursor {
    /// Behind this tenant.
    pub(crate) fn after(tenant: &Tenant) -> Self {
        Self {
            created_at_us: tenant.created_at.timestamp_micros(),
            id: tenant.id,
        }
    }
}

// === impl TenantRow ===

impl TryFrom<TenantRow> for Tenant {
    type Error = Error;

    fn try_from(row: TenantRow) -> Result<Self> {
        Ok(Self {
            id: TenantId::from_uuid(row.tenant_id),
            slug: row.slug,
            display_name: row.display_name,
            state: row.state.parse().map_err(Error::unreadable)?,
            placement: row.placement.parse().map_err(Error::unreadable)?,
            server: row.server.parse().map_err(Error::unreadable)?,
            etag: Etag::from_revision(row.revision),
            deletion: row
                .deleted_at
                .zip(row.purge_at)
                .map(|(deleted_at, purge_at)| Deletion { deleted_at, purge_at }),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}
