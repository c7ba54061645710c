//! What an action answers when it does not succeed.

use std::fmt;
use std::time::Duration;

use crate::Reason;

/// A refusal or a fault, with everything the caller may know. What only operators may know is in `cause`.
#[derive(Clone, Debug)]
pub struct Failure {
    pub(crate) reason: Reason,
    pub(crate) message: String,
    pub(crate) metadata: Vec<(&'static str, String)>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) resource: Option<(&'static str, String)>,
    /// Whose, and what is at most; boxed, for few failures have it.
    pub(crate) quota: Option<Box<(String, String)>>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) cause: Option<String>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field as in the proto: `contact.email`.
    pub field: String,
    /// What it must be.
    pub description: String,
}

// === impl Failure ===

impl Failure {
    /// A refusal with a reason.
    ///
    /// `message`: for the developer of the client; it holds nothing that the caller did not send or may not know.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            metadata: Vec::new(),
            violations: Vec::new(),
            resource: None,
            quota: None,
            retry_after: None,
            cause: None,
        }
    }

    /// A field is wrong.
    #[must_use]
    pub fn field(field: impl Into<String>, description: impl fmt::Display) -> Self {
        Self::fields(vec![Violation {
            field: field.into(),
            description: description.to_string(),
        }])
    }

    /// Fields are wrong.
    #[must_use]
    pub fn fields(violations: Vec<Violation>) -> Self {
        Self {
            violations,
            ..Self::new(Reason::FieldInvalid, "the request has invalid fields")
        }
    }

    /// There is no such resource, or none that the caller may know of: the two are never told apart.
    ///
    /// `kind`: such as `contact`. `id`: as the caller sent it.
    #[must_use]
    pub fn not_found(kind: &'static str, id: impl fmt::Display) -> Self {
        Self {
            resource: Some((kind, id.to_string())),
            ..Self::new(Reason::ResourceNotFound, format!("{kind} not found"))
        }
    }

    /// The request id was used before for something else.
    #[must_use]
    pub fn request_id_reused() -> Self {
        Self::new(
            Reason::RequestIdReused,
            "the request_id was used before with other content",
        )
        .in_field("request_id", "must be new, or the one of the same call repeated")
    }

    /// The page token is none of ours, or another list's or caller's.
    #[must_use]
    pub fn page_token_invalid() -> Self {
        Self::new(
            Reason::PageTokenInvalid,
            "the page token is damaged or was issued for another list or caller",
        )
        .in_field("page_token", "must be one that this list answered to this caller")
    }

    /// A fault of ours. The caller gets a fixed text; `cause` is logged.
    #[must_use]
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self {
            cause: Some(cause.to_string()),
            ..Self::new(Reason::Internal, INTERNAL_TEXT)
        }
    }

    /// A server that we depend on did not answer. `what` names it for the caller (`database`); `cause` is logged.
    #[must_use]
    pub fn unavailable(what: &'static str, cause: impl fmt::Display) -> Self {
        Self {
            cause: Some(cause.to_string()),
            retry_after: Some(Duration::from_secs(1)),
            ..Self::new(Reason::DependencyUnavailable, format!("the {what} does not answer"))
        }
    }

    /// A tenant's plan does not allow more (`google.rpc.QuotaFailure`).
    ///
    /// `tenant`: its id. `bound`: the name of the field in `rowhouse.common.v1.Limits`. `value`: what the plan allows.
    #[must_use]
    pub fn quota(tenant: impl fmt::Display, bound: &'static str, value: u32) -> Self {
        let words = bound.replace('_', " ");
        Self::new(
            Reason::QuotaExceeded,
            format!("the tenant's plan allows {value} {words}"),
        )
        .over_quota(tenant.to_string(), format!("{bound}: at most {value}"))
        .with("limit", bound)
        .with("value", value)
    }

    /// The same where who refuses knows which bound it is, and not what the plan allows.
    ///
    /// `message`: as for [`Failure::new`].
    #[must_use]
    pub fn quota_named(tenant: impl fmt::Display, bound: &'static str, message: impl Into<String>) -> Self {
        Self::new(Reason::QuotaExceeded, message)
            .over_quota(tenant.to_string(), bound)
            .with("limit", bound)
    }

    /// The same failure, with the quota that it is about (`google.rpc.QuotaFailure`): for a refusal that is passed on, since
    /// [`Failure::quota`] names its own.
    ///
    /// `subject`: whose it is. `description`: which one, and what it allows.
    #[must_use]
    pub fn over_quota(mut self, subject: impl Into<String>, description: impl Into<String>) -> Self {
        self.quota = Some(Box::new((subject.into(), description.into())));
        self
    }

    /// The same failure with an entry in the metadata of its `ErrorInfo`.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }

    /// The same failure with advice when to try again (`google.rpc.RetryInfo`).
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// The same failure, about one resource (`google.rpc.ResourceInfo`).
    #[must_use]
    pub fn about(mut self, kind: &'static str, id: impl fmt::Display) -> Self {
        self.resource = Some((kind, id.to_string()));
        self
    }

    /// The same failure, bound to one field of the request (`google.rpc.BadRequest`). A reason of its own says more than
    /// `FIELD_INVALID`; a form still finds the input to mark.
    ///
    /// `field`: its path as in the proto. `description`: what it must be.
    #[must_use]
    pub fn in_field(mut self, field: impl Into<String>, description: impl fmt::Display) -> Self {
        self.violations.push(Violation {
            field: field.into(),
            description: description.to_string(),
        });
        self
    }

    /// What is wrong with which fields, in the order in which it was found.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// What only operators may know.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }
}

/// The one text of INTERNAL: a fault's own words could hold SQL or another tenant's data.
pub(crate) const INTERNAL_TEXT: &str = "internal error; the request id leads to it in the logs";

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_info(), self.message)
    }
}

impl std::error::Error for Failure {}
