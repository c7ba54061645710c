//! From a [`Failure`] to a `tonic::Status` with `google.rpc` details; and the completion of statuses that others made.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::failure::INTERNAL_TEXT;
use crate::{Failure, Reason};

/// Domain of every `ErrorInfo` of the suite.
pub const DOMAIN: &str = "rowhouse";

/// The status code that a reason goes with. The proto's comments say the same.
#[must_use]
pub fn code(reason: Reason) -> Code {
    match reason {
        Reason::CredentialsMissing
        | Reason::CredentialsMalformed
        | Reason::TokenInvalid
        | Reason::TokenExpired
        | Reason::SessionRevoked
        | Reason::LoginFailed
        | Reason::RefreshTokenInvalid
        | Reason::ServiceIdentityInvalid
        | Reason::InvitationInvalid
        | Reason::LinkInvalid
        | Reason::SecondFactorRequired => Code::Unauthenticated,
        Reason::PermissionMissing
        | Reason::AudienceMismatch
        | Reason::TenantMismatch
        | Reason::ImpersonationForbids => Code::PermissionDenied,
        Reason::TenantRequired
        | Reason::TenantMetadataInvalid
        | Reason::TenantUnexpected
        | Reason::ReasonRequired
        | Reason::FieldInvalid
        | Reason::MessageMalformed
        | Reason::PageTokenInvalid
        | Reason::RequestIdReused
        | Reason::MetadataInvalid
        | Reason::MigrationVersionUnknown => Code::InvalidArgument,
        Reason::TenantSuspended
        | Reason::TenantReadOnly
        | Reason::TenantNotReady
        | Reason::StateForbids
        | Reason::ServerNotReady
        | Reason::NoServerFits
        | Reason::SecondFactorNotShown
        | Reason::SessionTooOld
        | Reason::MigrationRunning => Code::FailedPrecondition,
        Reason::ResourceNotFound => Code::NotFound,
        Reason::ResourceAlreadyExists => Code::AlreadyExists,
        Reason::EtagMismatch => Code::Aborted,
        Reason::DeadlineExceeded => Code::DeadlineExceeded,
        Reason::MessageTooLarge
        | Reason::MetadataTooLarge
        | Reason::Overloaded
        | Reason::TooManyAttempts
        | Reason::ServersFull
        | Reason::QuotaExceeded => Code::ResourceExhausted,
        Reason::DependencyUnavailable => Code::Unavailable,
        Reason::MethodUnknown | Reason::EncodingUnsupported => Code::Unimplemented,
        Reason::Cancelled => Code::Cancelled,
        Reason::Unspecified | Reason::Internal => Code::Internal,
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        if let Some(cause) = &failure.cause {
            // Here and nowhere else: each fault is logged once, at the boundary, inside the request's span.
            tracing::error!(reason = failure.reason.as_info(), cause, "a call failed");
        }
        let metadata: HashMap<String, String> = failure
            .metadata
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let mut details = ErrorDetails::with_error_info(failure.reason.as_info(), DOMAIN, metadata);
        for violation in failure.violations {
            details.add_bad_request_violation(violation.field, violation.description);
        }
        if let Some((kind, name)) = failure.resource {
            details.set_resource_info(kind, name, "", failure.message.clone());
        }
        if let Some(quota) = failure.quota {
            let (subject, description) = *quota;
            details.add_quota_failure_violation(subject, description);
        }
        if let Some(delay) = failure.retry_after {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details(code(failure.reason), failure.message, details)
    }
}

/// Why, as a service of the suite has said it; nothing where the status was made by somebody else.
#[must_use]
pub fn reason(status: &Status) -> Option<Reason> {
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == DOMAIN)?;
    Reason::from_str_name(&format!("ERROR_REASON_{}", info.reason))
}

/// Completes a status on its way out: every status that is not OK carries an `ErrorInfo` and a `RequestInfo`.
///
/// tonic makes statuses of its own (an empty body, a message too large, an unknown method); those get the reason that
/// goes with their code, and INTERNAL gets its one fixed text. `request_id`: the id the caller finds in `x-request-id`.
#[must_use]
pub fn complete(status: Status, request_id: &str) -> Status {
    let mut details = status.get_error_details();
    let mut message = status.message().to_owned();
    let mut code = status.code();
    if details.error_info().is_none() {
        let reason = reason_of_foreign(&status);
        code = self::code(reason);
        if reason == Reason::Internal {
            tracing::error!(code = ?status.code(), cause = status.message(), "a call failed");
            message = INTERNAL_TEXT.to_owned();
        }
        details.set_error_info(reason.as_info(), DOMAIN, HashMap::new());
    }
    details.set_request_info(request_id, "");
    let mut completed = Status::with_error_details(code, message, details);
    let metadata = completed.metadata_mut();
    for entry in status.metadata().iter() {
        if let tonic::metadata::KeyAndValueRef::Ascii(key, value) = entry {
            metadata.append(key, value.clone());
        }
    }
    completed
}

/// The reason behind a status that tonic made.
fn reason_of_foreign(status: &Status) -> Reason {
    // tonic tells an empty body and a body cut short from a real fault by nothing but the text.
    let broken_body = [
        "Missing request message",
        "Unexpected EOF",
        "protocol error",
        "Error decompressing",
        "Message encoded with",
    ];
    let blames_body = broken_body.iter().any(|text| status.message().contains(text));
    match status.code() {
        Code::Internal | Code::Unknown if blames_body => Reason::MessageMalformed,
        Code::InvalidArgument => Reason::MessageMalformed,
        Code::OutOfRange | Code::ResourceExhausted => Reason::MessageTooLarge,
        // The health service's answer about a service that it does not know.
        Code::NotFound => Reason::ResourceNotFound,
        Code::Unimplemented if status.message().contains("Content is compressed") => Reason::EncodingUnsupported,
        Code::Unimplemented => Reason::MethodUnknown,
        Code::DeadlineExceeded => Reason::DeadlineExceeded,
        Code::Cancelled => Reason::Cancelled,
        Code::Unavailable => Reason::DependencyUnavailable,
        _ => Reason::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_one_error_info_and_its_violations() {
        let status = Status::from(Failure::field("contact.email", "must be an address"));
        let details = status.get_error_details();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(details.error_info().unwrap().reason, "FIELD_INVALID");
        assert_eq!(details.error_info().unwrap().domain, DOMAIN);
        assert_eq!(
            details.bad_request().unwrap().field_violations[0].field,
            "contact.email"
        );
    }

    #[test]
    fn a_refusal_with_a_reason_of_its_own_names_its_field_too() {
        let failure = Failure::new(Reason::PageTokenInvalid, "the page token is damaged");
        let status = Status::from(failure.in_field("page_token", "must be one that this list answered"));
        // What the stack does on the way out loses neither.
        let details = complete(status, "request-1").get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "PAGE_TOKEN_INVALID");
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!((violations.len(), violations[0].field.as_str()), (1, "page_token"));
        assert_eq!(details.request_info().unwrap().request_id, "request-1");
    }

    #[test]
    fn a_quota_is_named_whether_its_number_is_known_or_not() {
        let known = Failure::quota("tenant_x", "concurrent_transactions", 3);
        let unknown = Failure::quota_named("tenant_x", "statement_timeout_ms", "a statement took too long");
        for (failure, described) in [
            (known, "concurrent_transactions: at most 3"),
            (unknown, "statement_timeout_ms"),
        ] {
            let status = Status::from(failure);
            assert_eq!(status.code(), Code::ResourceExhausted);
            let details = status.get_error_details();
            let violation = &details.quota_failure().unwrap().violations[0];
            assert_eq!((&*violation.subject, &*violation.description), ("tenant_x", described));
        }
    }

    #[test]
    fn the_cause_of_an_internal_fault_does_not_reach_the_caller() {
        let status = Status::from(Failure::internal("relation \"t_17.contacts\" does not exist"));
        assert!(!format!("{status:?}").contains("t_17"));
        let foreign = complete(Status::internal("relation \"t_17.contacts\""), "id");
        assert_eq!(foreign.message(), INTERNAL_TEXT);
    }

    #[test]
    fn foreign_statuses_are_completed_and_own_ones_kept() {
        let completed = complete(Status::unimplemented(""), "request-1");
        let details = completed.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "METHOD_UNKNOWN");
        assert_eq!(details.request_info().unwrap().request_id, "request-1");
        let compressed = complete(
            Status::unimplemented("Content is compressed with `gzip` which isn't supported"),
            "id",
        );
        assert_eq!(
            compressed.get_error_details().error_info().unwrap().reason,
            "ENCODING_UNSUPPORTED"
        );
        let kept = complete(Failure::not_found("contact", "contact_x").into(), "request-2");
        assert_eq!(
            kept.get_error_details().error_info().unwrap().reason,
            "RESOURCE_NOT_FOUND"
        );
        assert_eq!(kept.code(), Code::NotFound);
    }

    #[test]
    fn an_empty_body_is_the_callers_fault() {
        let completed = complete(Status::internal("Missing request message."), "id");
        assert_eq!(completed.code(), Code::InvalidArgument);
    }
}
