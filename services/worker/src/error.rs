//! What can go wrong in this service, as facts, and what the caller hears of it.

use std::time::Duration;

use rowhouse_context::NoTenant;
use rowhouse_db::control::is_away;
use rowhouse_status::{Failure, Reason};
use rowhouse_types::{ReportId, TenantId};

use crate::report::State;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no such report, or none that the caller may know of.
    #[error("there is no report {id}")]
    ReportUnknown {
        /// As asked for.
        id: ReportId,
    },
    /// The report has no file.
    #[error("report {id} is {state} and has no file")]
    NoFile {
        /// The report.
        id: ReportId,
        /// Its state.
        state: State,
    },
    /// The tenant's plan allows no more reports that are not finished.
    #[error("the tenant's plan allows {most} reports in flight")]
    QuotaExceeded {
        /// The tenant.
        tenant: TenantId,
        /// How many it allows.
        most: u32,
    },
    /// The tenant was purged.
    #[error("tenant {tenant} was purged")]
    TenantGone {
        /// The tenant.
        tenant: TenantId,
    },
    /// The request id was used for something else.
    #[error("the request id was used with other content")]
    RequestReused,
    /// Nobody in particular asked.
    #[error("the call has no person behind it")]
    NoPerson,
    /// The call names no tenant.
    #[error(transparent)]
    NoTenant(#[from] NoTenant),
    /// The database failed or did not answer.
    #[error("the control database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The store of files failed or did not answer.
    #[error("the store of files failed: {0}")]
    Files(#[from] object_store::Error),
    /// A row holds what this code cannot read.
    #[error("the database holds what this code cannot read: {what}")]
    Unreadable {
        /// Which value.
        what: String,
    },
}

/// What a statement or an action answers.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::ReportUnknown { id } => Self::not_found("report", id),
            Error::TenantGone { tenant } => Self::not_found("tenant", tenant),
            Error::NoFile { id, state } => Self::new(
                Reason::StateForbids,
                format!("a report that is {state} cannot be downloaded"),
            )
            .with("state", state)
            .about("report", id),
            // A report takes seconds.
            Error::QuotaExceeded { tenant, most } => {
                Self::quota(tenant, "jobs_in_flight", most).retry_after(Duration::from_secs(5))
            }
            Error::RequestReused => Self::request_id_reused(),
            Error::Database(fault) if is_away(&fault) => Self::unavailable("database", fault),
            Error::Files(object_store::Error::NotFound { .. }) => Self::internal("the file of a report is not there"),
            Error::Files(fault) => Self::unavailable("store of files", fault),
            Error::Database(_) | Error::NoPerson | Error::NoTenant(_) | Error::Unreadable { .. } => {
                Self::internal(error)
            }
        }
    }
}
