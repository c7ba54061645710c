//! What auth and crm are asked, and what their answers mean for work that nobody waits for.

mod auth;
mod crm;

use rowhouse_status::{Failure, Reason};
use tonic::Status;

pub(crate) use auth::{AccountMailKind, Auth, OperatorChange, Requester};
pub(crate) use crm::Crm;

/// Why a peer did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerError {
    /// The person behind the work may not, or no longer.
    #[error("refused: {0}")]
    Refused(&'static str),
    /// There is no such thing, or no longer.
    #[error("not found")]
    NotFound,
    /// It was away, its answer did not end in time, or the tenant's plan ended it. What had arrived before is good.
    #[error("cut off: {0}")]
    Cut(String),
    /// It may answer later.
    #[error("no answer: {0}")]
    Later(String),
}

// === impl PeerError ===

impl PeerError {
    /// Reads a peer's status. What concerns the person ends the work; all else is worth another try, a fault of ours
    /// too: it may be gone with the next version.
    fn read(status: Status) -> Self {
        let failure: Failure = rowhouse_client::failure(status);
        match failure.reason() {
            Reason::ResourceNotFound => Self::NotFound,
            Reason::SessionRevoked => Self::Refused("the requester is no longer an active member"),
            Reason::PermissionMissing => Self::Refused("the requester is not allowed to export this data"),
            Reason::TenantSuspended => Self::Refused("the organisation is suspended"),
            reason => {
                let cause = failure.cause().map_or_else(|| failure.to_string(), str::to_owned);
                match reason {
                    Reason::DeadlineExceeded | Reason::QuotaExceeded | Reason::DependencyUnavailable => {
                        Self::Cut(cause)
                    }
                    _ => Self::Later(cause),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_the_person_end_the_work_and_faults_do_not() {
        let read = |failure: Failure| PeerError::read(Status::from(failure));
        for reason in [
            Reason::SessionRevoked,
            Reason::PermissionMissing,
            Reason::TenantSuspended,
        ] {
            assert!(
                matches!(read(Failure::new(reason, "said")), PeerError::Refused(_)),
                "{reason:?}"
            );
        }
        assert_eq!(read(Failure::not_found("invitation", "x")), PeerError::NotFound);
        for reason in [Reason::ServiceIdentityInvalid, Reason::Overloaded, Reason::Internal] {
            assert!(
                matches!(read(Failure::new(reason, "said")), PeerError::Later(_)),
                "{reason:?}"
            );
        }
    }

    #[test]
    fn an_answer_that_was_cut_off_is_told_from_a_fault() {
        let deadline = Failure::new(Reason::DeadlineExceeded, "late");
        let dependency = Failure::unavailable("database", "connection refused");
        let statement = Failure::quota_named("tenant_x", "statement_timeout_ms", "a statement took too long");
        for status in [
            Status::from(deadline),
            Status::from(statement),
            Status::from(dependency),
            Status::unavailable("away"),
            // tonic's words for a connection that ended within an answer.
            Status::unknown("h2 protocol error: connection reset"),
        ] {
            assert!(
                matches!(PeerError::read(status.clone()), PeerError::Cut(_)),
                "{status:?}"
            );
        }
    }
}
