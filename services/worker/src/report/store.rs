//! SQL of reports.

use rowhouse_types::{ReportId, TenantId, UserId};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;

use super::{FileOwners, NewReport, Report};
use crate::error::{Error, Result};
use crate::peer::Requester;

macro_rules! columns {
    () => {
        "tenant_id, id, kind, state, requester_id, platform, reason, progress_percent, row_count, size_bytes, file, \
         failure, created_at, finished_at"
    };
}

const INSERT: &str = concat!(
    "INSERT INTO worker.reports (tenant_id, id, kind, requester_id, platform, reason) ",
    "VALUES ($1, $2, $3, $4, $5, $6) RETURNING ",
    columns!()
);

/// Puts the tenant's bounded calls in order, until the transaction ends, so that the count is exact.
const LOCK_TENANT: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1::text, 4801))";

const IN_FLIGHT: &str = "SELECT count(*) FROM worker.reports WHERE tenant_id = $1 AND state IN ('queued', 'running')";

const GET: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM worker.reports WHERE tenant_id = $1 AND id = $2"
);

const OWNERS: &str = "SELECT owner_ids FROM worker.reports WHERE tenant_id = $1 AND id = $2";

const CLAIM: &str = concat!(
    "UPDATE worker.reports SET state = 'running', attempt = attempt + 1, progress_percent = 0, updated_at = now() ",
    "WHERE tenant_id = $1 AND id = $2 AND state IN ('queued', 'running') RETURNING attempt, ",
    columns!()
);

const PROGRESS: &str = "UPDATE worker.reports SET progress_percent = $4, updated_at = now() \
    WHERE tenant_id = $1 AND id = $2 AND attempt = $3 AND state = 'running'";

const SUCCEED: &str = "UPDATE worker.reports SET state = 'succeeded', progress_percent = 100, row_count = $4, \
    size_bytes = $5, file = $6, owner_ids = $7, finished_at = now(), updated_at = now() \
    WHERE tenant_id = $1 AND id = $2 AND attempt = $3 AND state = 'running'";

const FAIL: &str = "UPDATE worker.reports SET state = 'failed', failure = $4, finished_at = now(), updated_at = now() \
    WHERE tenant_id = $1 AND id = $2 AND attempt = $3 AND state = 'running'";

/// A report whose attempts all ended without an outcome, each with its process, would be running for ever.
const GIVE_UP: &str = "UPDATE worker.reports SET state = 'failed', failure = $1, finished_at = now(), updated_at = now() \
    WHERE (tenant_id, id) IN (SELECT tenant_id, id FROM worker.reports \
        WHERE state IN ('queued', 'running') AND updated_at < now() - interval '1 day' LIMIT 1000 \
        FOR UPDATE SKIP LOCKED)";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    INSERT,
    LOCK_TENANT,
    IN_FLIGHT,
    GET,
    OWNERS,
    CLAIM,
    PROGRESS,
    SUCCEED,
    FAIL,
    GIVE_UP,
];

/// An attempt at a report. Whoever begins a later one takes the report away from this.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) number: i32,
    pub(crate) report: Report,
}

/// What was made of a report's records.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) row_count: i64,
    pub(crate) size_bytes: i64,
    pub(crate) file: String,
    pub(crate) owners: FileOwners,
}

/// How many of the tenant's reports are not finished; it stays so until the transaction ends, if all who add one ask first.
pub(crate) async fn in_flight(connection: &mut PgConnection, tenant: TenantId) -> Result<i64> {
    sqlx::query(LOCK_TENANT)
        .bind(tenant.uuid())
        .execute(&mut *connection)
        .await?;
    let count = sqlx::query_scalar(IN_FLIGHT).bind(tenant.uuid());
    Ok(count.fetch_one(connection).await?)
}

/// Queues a report.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    id: ReportId,
    new: NewReport,
    requester: Requester,
    reason: Option<&str>,
) -> Result<Report> {
    let row = sqlx::query(INSERT)
        .bind(requester.tenant.uuid())
        .bind(id.uuid())
        .bind(new.kind.as_str())
        .bind(requester.user.uuid())
        .bind(requester.platform)
        .bind(reason)
        .fetch_one(connection)
        .await?;
    read(&row)
}

/// A tenant's report.
pub(crate) async fn get(pool: &PgPool, tenant: TenantId, id: ReportId) -> Result<Option<Report>> {
    let row = sqlx::query(GET)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .fetch_optional(pool)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Whose records stand in the file of a report that has succeeded.
pub(crate) async fn owners(pool: &PgPool, report: &Report) -> Result<FileOwners> {
    let ids = sqlx::query_scalar(OWNERS)
        .bind(report.tenant.uuid())
        .bind(report.id.uuid());
    let ids: Option<Option<Vec<Uuid>>> = ids.fetch_optional(pool).await?;
    Ok(FileOwners::stored(ids.flatten()))
}

/// Begins an attempt, unless the report is finished or not there.
pub(crate) async fn claim(pool: &PgPool, tenant: TenantId, id: ReportId) -> Result<Option<Attempt>> {
    let row = sqlx::query(CLAIM)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .fetch_optional(pool)
        .await?;
    let attempt = |row: &PgRow| {
        Ok(Attempt {
            number: row.try_get("attempt")?,
            report: read(row)?,
        })
    };
    row.as_ref().map(attempt).transpose()
}

/// Notes how far an attempt is; `false` where the report is no longer this attempt's.
pub(crate) async fn progress(pool: &PgPool, attempt: &Attempt, percent: i32) -> Result<bool> {
    let report = &attempt.report;
    let done = sqlx::query(PROGRESS)
        .bind(report.tenant.uuid())
        .bind(report.id.uuid())
        .bind(attempt.number)
        .bind(percent)
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends a report with a file; `false` where it is no longer this attempt's.
pub(crate) async fn succeed(connection: &mut PgConnection, attempt: &Attempt, made: &Made) -> Result<bool> {
    let report = &attempt.report;
    let done = sqlx::query(SUCCEED)
        .bind(report.tenant.uuid())
        .bind(report.id.uuid())
        .bind(attempt.number)
        .bind(made.row_count)
        .bind(made.size_bytes)
        .bind(&made.file)
        .bind(made.owners.to_stored())
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends a report without a file; `false` where it is no longer this attempt's.
pub(crate) async fn fail(connection: &mut PgConnection, attempt: &Attempt, failure: &str) -> Result<bool> {
    let report = &attempt.report;
    let done = sqlx::query(FAIL)
        .bind(report.tenant.uuid())
        .bind(report.id.uuid())
        .bind(attempt.number)
        .bind(failure)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends reports that nobody has worked on for a day; answers how many.
pub(crate) async fn give_up(pool: &PgPool) -> Result<u64> {
    let ended = sqlx::query(GIVE_UP).bind(super::GIVEN_UP).execute(pool).await?;
    Ok(ended.rows_affected())
}

fn read(row: &PgRow) -> Result<Report> {
    let unreadable = |fault: super::ParseWordError| Error::Unreadable {
        what: fault.to_string(),
    };
    let (kind, state): (&str, &str) = (row.try_get("kind")?, row.try_get("state")?);
    Ok(Report {
        tenant: TenantId::from_uuid(row.try_get("tenant_id")?),
        id: ReportId::from_uuid(row.try_get("id")?),
        kind: kind.parse().map_err(unreadable)?,
        state: state.parse().map_err(unreadable)?,
        requester: UserId::from_uuid(row.try_get("requester_id")?),
        platform: row.try_get("platform")?,
        reason: row.try_get("reason")?,
        progress_percent: row.try_get("progress_percent")?,
        row_count: row.try_get::<Option<i64>, _>("row_count")?.unwrap_or(0),
        size_bytes: row.try_get::<Option<i64>, _>("size_bytes")?.unwrap_or(0),
        file: row.try_get("file")?,
        failure: row.try_get("failure")?,
        created_at: row.try_get("created_at")?,
        finished_at: row.try_get("finished_at")?,
    })
}
