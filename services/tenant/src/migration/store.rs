//! SQL of runs. What a process writes about a run's progress names its lease: one that has lost it changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rowhouse_context::{Ctx, ServiceName};
use rowhouse_types::{MigrationRunId, ServerName, TenantId};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{Fault, Plan, Progress, Run, Wave};
use crate::error::{Error, Result};

/// How long a lease lasts: what a process that died has left is carried on that much later.
pub(super) const LEASE: Duration = Duration::from_secs(6);

/// The columns of a run. `attempts` and `last_error` are not among them: each server has its own, in `progress`.
macro_rules! columns {
    () => {
        "run_id, participant, target_version, waves, wave, state, parallelism, failure_budget, round_id, planned, progress,
         faults, revision, request_id, created_at, updated_at, finished_at"
    };
}

/// A run's lease.
pub(super) struct Held {
    pub(super) id: MigrationRunId,
    pub(super) lease: Uuid,
}

/// What is known of a participant's homes on a data server.
pub(super) struct Known<'a> {
    pub(super) participant: ServiceName,
    pub(super) server: &'a ServerName,
    /// The version that they have at least.
    pub(super) version: i32,
    /// Whose may be older: 1,000 at most.
    pub(super) but: &'a [TenantId],
    /// A moment before the participant was asked, by the database's clock. A home that was recorded since may not have been
    /// there to be counted.
    pub(super) asked_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct RunRow {
    run_id: Uuid,
    participant: String,
    target_version: i32,
    waves: Json<Vec<Wave>>,
    wave: i32,
    state: String,
    parallelism: i32,
    failure_budget: i32,
    round_id: Uuid,
    planned: i64,
    progress: Json<BTreeMap<String, Progress>>,
    faults: Json<Vec<Fault>>,
    revision: i64,
    request_id: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
}

/// What the database's clock says: by it, whatever process asks, a server that is away is asked again.
pub(super) async fn now(pool: &PgPool) -> Result<DateTime<Utc>> {
    Ok(sqlx::query_scalar("SELECT now()").fetch_one(pool).await?)
}

/// Starts a run.
///
/// `planned`: houses that are behind. `progress`: of which data server.
pub(super) async fn insert(
    connection: &mut PgConnection,
    ctx: &Ctx,
    id: MigrationRunId,
    plan: &Plan,
    (planned, progress): (i64, &BTreeMap<String, Progress>),
) -> Result<Run> {
    let row: RunRow = sqlx::query_as(concat!(
        "INSERT INTO tenant.migration_runs
             (run_id, participant, target_version, waves, parallelism, failure_budget, round_id, planned, request_id, progress)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING ",
        columns!()
    ))
    .bind(id.uuid())
    .bind(plan.participant.as_str())
    .bind(plan.target)
    .bind(Json(&plan.waves))
    .bind(i32::from(plan.parallelism))
    .bind(plan.failure_budget)
    .bind(Uuid::new_v4())
    .bind(planned)
    .bind(ctx.request_id().as_str())
    .bind(Json(progress))
    .fetch_one(connection)
    .await
    .map_err(|error| refused(error, plan.participant))?;
    row.try_into()
}

/// What a constraint has refused.
fn refused(error: sqlx::Error, participant: ServiceName) -> Error {
    let constraint = error.as_database_error().and_then(|fault| fault.constraint());
    match constraint {
        Some("migration_runs_open_key") => Error::MigrationRunning { participant },
        _ => error.into(),
    }
}

/// One run.
pub(super) async fn get(pool: &PgPool, id: MigrationRunId) -> Result<Option<Run>> {
    let sql = concat!("SELECT ", columns!(), " FROM tenant.migration_runs WHERE run_id = $1");
    let row: Option<RunRow> = sqlx::query_as(sql).bind(id.uuid()).fetch_optional(pool).await?;
    row.map(Run::try_from).transpose()
}

/// One run, locked until the transaction ends.
pub(super) async fn lock(connection: &mut PgConnection, id: MigrationRunId) -> Result<Option<Run>> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM tenant.migration_runs WHERE run_id = $1 FOR NO KEY UPDATE"
    );
    let row: Option<RunRow> = sqlx::query_as(sql).bind(id.uuid()).fetch_optional(connection).await?;
    row.map(Run::try_from).transpose()
}

/// At most `limit` runs, the newest first, those older than `before`.
pub(super) async fn list(pool: &PgPool, before: Option<MigrationRunId>, limit: i64) -> Result<Vec<Run>> {
    let rows: Vec<RunRow> = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM tenant.migration_runs WHERE $1::uuid IS NULL OR run_id < $1 ORDER BY run_id DESC LIMIT $2"
    ))
    .bind(before.map(|id| id.uuid()))
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Run::try_from).collect()
}

/// Records a run's new state and its round, and takes it from whoever carries it on.
pub(super) async fn set_state(connection: &mut PgConnection, run: &Run) -> Result<Run> {
    let row: RunRow = sqlx::query_as(concat!(
        "UPDATE tenant.migration_runs SET
             state = $2, round_id = $3, progress = $4, faults = $5, revision = revision + 1, updated_at = now(),
             lease_id = NULL, lease_until = NULL, next_at = now(),
             finished_at = CASE WHEN $2 IN ('cancelled', 'done') THEN now() END
         WHERE run_id = $1 RETURNING ",
        columns!()
    ))
    .bind(run.id.uuid())
    .bind(run.state.as_str())
    .bind(run.round)
    .bind(Json(&run.progress))
    .bind(Json(&run.faults))
    .fetch_one(connection)
    .await?;
    row.try_into()
}

/// Takes the lease of a run that is due and that no living process carries on: the oldest.
pub(super) async fn claim(pool: &PgPool, lease: Uuid) -> Result<Option<Run>> {
    let row: Option<RunRow> = sqlx::query_as(concat!(
        "UPDATE tenant.migration_runs SET lease_id = $1, lease_until = now() + make_interval(secs => $2)
         WHERE run_id = (
             SELECT run_id FROM tenant.migration_runs
             WHERE state = 'running' AND next_at <= now() AND (lease_until IS NULL OR lease_until <= now())
             ORDER BY next_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
         RETURNING ",
        columns!()
    ))
    .bind(lease)
    .bind(LEASE.as_secs_f64())
    .fetch_optional(pool)
    .await?;
    row.map(Run::try_from).transpose()
}

/// Extends the lease; false where it is no longer ours.
pub(super) async fn renew(pool: &PgPool, held: &Held) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE tenant.migration_runs SET lease_until = now() + make_interval(secs => $3)
         WHERE run_id = $1 AND lease_id = $2",
    )
    .bind(held.id.uuid())
    .bind(held.lease)
    .bind(LEASE.as_secs_f64())
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives the lease back, so that another process may go on at once.
pub(super) async fn release(pool: &PgPool, held: &Held) -> Result<()> {
    sqlx::query(
        "UPDATE tenant.migration_runs SET lease_id = NULL, lease_until = NULL WHERE run_id = $1 AND lease_id = $2",
    )
    .bind(held.id.uuid())
    .bind(held.lease)
    .execute(pool)
    .await?;
    Ok(())
}

/// Records how far a run is; `None` where the lease is no longer ours, because an operator or another process has the run.
/// What has not changed is not written.
pub(super) async fn record(pool: &PgPool, lease: Uuid, run: &Run) -> Result<Option<Run>> {
    let row: Option<RunRow> = sqlx::query_as(concat!(
        "UPDATE tenant.migration_runs SET
             wave = $3, state = $4, progress = $5, faults = $6, planned = $8,
             lease_until = CASE WHEN $4 = 'running' THEN now() + make_interval(secs => $7) END,
             lease_id = CASE WHEN $4 = 'running' THEN lease_id END,
             revision = revision + (CASE WHEN (wave, state, progress, faults, planned) IS DISTINCT FROM ($3, $4, $5, $6, $8)
                 THEN 1 ELSE 0 END),
             updated_at = CASE WHEN (wave, state, progress, faults, planned) IS DISTINCT FROM ($3, $4, $5, $6, $8)
                 THEN now() ELSE updated_at END,
             finished_at = CASE WHEN $4 = 'done' THEN now() END
         WHERE run_id = $1 AND lease_id = $2 AND state = 'running' RETURNING ",
        columns!()
    ))
    .bind(run.id.uuid())
    .bind(lease)
    .bind(i32::try_from(run.wave).map_err(Error::unreadable)?)
    .bind(run.state.as_str())
    .bind(Json(&run.progress))
    .bind(Json(&run.faults))
    .bind(LEASE.as_secs_f64())
    .bind(run.planned)
    .fetch_optional(pool)
    .await?;
    row.map(Run::try_from).transpose()
}

/// Those of the tenants that have a home at the participant.
///
/// `tenants`: 20,000 at most, which is 1,000 in each of 20 waves.
pub(super) async fn with_home(pool: &PgPool, participant: ServiceName, tenants: &[Uuid]) -> Result<BTreeSet<Uuid>> {
    let known: Vec<Uuid> = sqlx::query_scalar(
        "SELECT tenant_id FROM tenant.homes WHERE participant = $1 AND tenant_id = ANY ($2) LIMIT 20000",
    )
    .bind(participant.as_str())
    .bind(tenants)
    .fetch_all(pool)
    .await?;
    Ok(known.into_iter().collect())
}

/// The data server of a tenant, or of an id that was issued ahead.
pub(super) async fn server_of(pool: &PgPool, tenant: TenantId) -> Result<Option<ServerName>> {
    let name: Option<String> = sqlx::query_scalar(
        "SELECT server FROM tenant.tenants WHERE tenant_id = $1
         UNION ALL SELECT server FROM tenant.spares WHERE tenant_id = $1
         LIMIT 1",
    )
    .bind(tenant.uuid())
    .fetch_optional(pool)
    .await?;
    name.map(|name| name.parse().map_err(Error::unreadable)).transpose()
}

/// Tells the directory which version homes have at least; where it says a newer one, it stays. Until then it says an older one,
/// which newer homes serve too. Returns how many homes it learnt of. `updated_at` stays: it says when a home itself was recorded.
pub(super) async fn tell_directory(pool: &PgPool, known: &Known<'_>) -> Result<u64> {
    let but: Vec<Uuid> = known.but.iter().map(TenantId::uuid).collect();
    let told = sqlx::query(
        "UPDATE tenant.homes SET version = $3
         WHERE participant = $1 AND server = $2 AND version < $3 AND updated_at < $4 AND tenant_id <> ALL ($5)",
    )
    .bind(known.participant.as_str())
    .bind(known.server.as_str())
    .bind(known.version)
    .bind(known.asked_at)
    .bind(but)
    .execute(pool)
    .await?;
    Ok(told.rows_affected())
}

// === impl RunRow ===

impl TryFrom<RunRow> for Run {
    type Error = Error;

    fn try_from(row: RunRow) -> Result<Self> {
        Ok(Self {
            id: MigrationRunId::from_uuid(row.run_id),
            plan: Plan {
                participant: row.participant.parse().map_err(Error::unreadable)?,
                target: row.target_version,
                waves: row.waves.0,
                parallelism: u8::try_from(row.parallelism).map_err(Error::unreadable)?,
                failure_budget: row.failure_budget,
            },
            state: row.state.parse().map_err(Error::unreadable)?,
            wave: usize::try_from(row.wave).map_err(Error::unreadable)?,
            round: row.round_id,
            planned: row.planned,
            progress: row.progress.0,
            faults: row.faults.0,
            revision: row.revision,
            request: row.request_id.parse().map_err(Error::unreadable)?,
            created_at: row.created_at,
            updated_at: row.updated_at,
            finished_at: row.finished_at,
        })
    }
}
