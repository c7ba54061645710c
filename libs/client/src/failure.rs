//! What a peer's status means for our own caller.

use std::error::Error as _;
use std::time::Duration;

use rowhouse_status::{Failure, Reason, wire};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What the `ErrorInfo` of a quota names beside the reason.
const QUOTA_METADATA: [&str; 2] = ["limit", "value"];

/// Maps the status of a peer's answer to a failure of ours.
///
/// A refusal that concerns the person, the tenant or the resource is passed on with its reason and text, and with the
/// quota where it names one. One that says that *we* asked wrongly (fields, metadata, identity) is a fault of ours.
/// Without an `ErrorInfo` of the suite the status was not made by a peer's stack but by the transport, so the peer did
/// not answer.
#[must_use]
pub fn failure(status: Status) -> Failure {
    let details = status.get_error_details();
    let Some(reason) = wire::reason(&status) else {
        return transport_failure(&status);
    };
    let retry_after = details.retry_info().and_then(|info| info.retry_delay);
    match reason {
        Reason::DependencyUnavailable => retry(
            Failure::unavailable("service behind this one", status.message()),
            retry_after,
        ),
        _ if is_passed_on(reason) => {
            let refusal = Failure::new(reason, status.message());
            retry(with_quota(refusal, &details), retry_after)
        }
        _ => Failure::internal(format!(
            "a peer refused with {}: {}",
            reason.as_info(),
            status.message()
        )),
    }
}

/// Reasons that are as true for our caller as they were for us.
fn is_passed_on(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::TokenExpired
            | Reason::SessionRevoked
            | Reason::LoginFailed
            | Reason::InvitationInvalid
            | Reason::LinkInvalid
            | Reason::SecondFactorRequired
            | Reason::SecondFactorNotShown
            | Reason::SessionTooOld
            | Reason::TooManyAttempts
            | Reason::PermissionMissing
            | Reason::TenantSuspended
            | Reason::TenantReadOnly
            | Reason::TenantNotReady
            | Reason::StateForbids
            | Reason::ServerNotReady
            | Reason::MigrationVersionUnknown
            | Reason::QuotaExceeded
            | Reason::ResourceNotFound
            | Reason::ResourceAlreadyExists
            | Reason::EtagMismatch
            | Reason::RequestIdReused
            | Reason::DeadlineExceeded
            | Reason::Overloaded
            | Reason::Cancelled
    )
}

/// The same failure with the quota that a peer's refusal names: our caller could not tell which one it is by the text.
fn with_quota(failure: Failure, details: &ErrorDetails) -> Failure {
    let violation = details.quota_failure().and_then(|quota| quota.violations.first());
    let (Some(violation), Some(info)) = (violation, details.error_info()) else {
        return failure;
    };
    let failure = failure.over_quota(&*violation.subject, &*violation.description);
    QUOTA_METADATA
        .into_iter()
        .filter_map(|key| Some((key, info.metadata.get(key)?)))
        .fold(failure, |failure, (key, value)| failure.with(key, value))
}

fn retry(failure: Failure, delay: Option<Duration>) -> Failure {
    match delay {
        Some(delay) => failure.retry_after(delay),
        None => failure,
    }
}

fn transport_failure(status: &Status) -> Failure {
    // tonic's client says CANCELLED where its own timer ran out, and tells it from a reset by the text alone.
    let timed_out = status.code() == Code::Cancelled && status.message() == "Timeout expired";
    match status.code() {
        Code::DeadlineExceeded => deadline(),
        Code::Cancelled if timed_out => deadline(),
        Code::OutOfRange | Code::ResourceExhausted => {
            Failure::internal(format!("a peer's message is too large: {}", status.message()))
        }
        Code::InvalidArgument => Failure::internal(format!("a peer's answer is damaged: {}", status.message())),
        code => Failure::unavailable("service behind this one", format_args!("{code:?}: {}", causes(status))),
    }
}

/// The status's text and what is behind it: by itself it is mostly "transport error".
fn causes(status: &Status) -> String {
    let behind = std::iter::successors(status.source(), |&error| error.source());
    let mut causes = vec![status.message().to_owned()];
    causes.extend(behind.map(ToString::to_string));
    causes.dedup();
    causes.join(": ")
}

fn deadline() -> Failure {
    Failure::new(Reason::DeadlineExceeded, "the work did not finish within the deadline")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_about_the_person_or_the_resource_are_passed_on() {
        for reason in [
            Reason::SessionRevoked,
            Reason::SessionTooOld,
            Reason::ResourceNotFound,
            Reason::TenantSuspended,
        ] {
            let status = Status::from(Failure::new(reason, "said by the peer"));
            let passed = failure(status);
            assert_eq!(passed.reason(), reason);
            assert!(passed.to_string().contains("said by the peer"), "{passed}");
        }
    }

    #[test]
    fn a_quota_is_passed_on_as_the_peer_has_named_it() {
        let told = |status: &Status| {
            let details = status.get_error_details();
            let violation = details.quota_failure().unwrap().violations[0].clone();
            let retry_delay = details.retry_info().and_then(|info| info.retry_delay);
            let metadata = details.error_info().unwrap().metadata.clone();
            (violation.subject, violation.description, retry_delay, metadata)
        };
        let known = Failure::quota("tenant_x", "concurrent_transactions", 3).retry_after(Duration::from_millis(200));
        let unknown = Failure::quota_named("tenant_x", "statement_timeout_ms", "a statement took too long");
        for refusal in [known, unknown] {
            let said = Status::from(refusal);
            let passed = Status::from(failure(said.clone()));
            assert_eq!((passed.code(), passed.message()), (said.code(), said.message()));
            assert_eq!(told(&passed), told(&said));
        }
    }

    #[test]
    fn what_we_asked_wrongly_is_our_fault() {
        for reason in [
            Reason::FieldInvalid,
            Reason::ServiceIdentityInvalid,
            Reason::AudienceMismatch,
            Reason::MethodUnknown,
            Reason::Internal,
        ] {
            let status = Status::from(Failure::new(reason, "text of the peer"));
            assert_eq!(failure(status).reason(), Reason::Internal, "{reason:?}");
        }
    }

    #[test]
    fn a_peer_that_does_not_answer_is_unavailable() {
        for status in [
            Status::unavailable("tcp connect error"),
            Status::unknown("transport error"),
            Status::internal("h2 protocol error"),
            Status::cancelled("stream reset"),
            Status::from(Failure::unavailable("database", "connection refused")),
        ] {
            let failure = failure(status);
            assert_eq!(failure.reason(), Reason::DependencyUnavailable);
            let answered = Status::from(failure);
            assert!(answered.get_error_details().retry_info().is_some());
            assert!(!answered.message().contains("error"), "{answered:?}");
        }
    }

    #[test]
    fn time_that_ran_out_is_said_as_such() {
        for status in [Status::deadline_exceeded("late"), Status::cancelled("Timeout expired")] {
            assert_eq!(failure(status).reason(), Reason::DeadlineExceeded);
        }
    }

    #[test]
    fn an_info_of_another_domain_is_not_believed() {
        let mut details = tonic_types::ErrorDetails::new();
        details.set_error_info(
            "RESOURCE_NOT_FOUND",
            "elsewhere.example",
            std::collections::HashMap::new(),
        );
        let status = Status::with_error_details(Code::NotFound, "proxy page", details);
        assert_eq!(failure(status).reason(), Reason::DependencyUnavailable);
    }
}
