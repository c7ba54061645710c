//! What can keep auth from doing what was asked: facts, and the kind of failure that each one is.

use std::fmt::Display;
use std::time::Duration;

use rowhouse_context::NoTenant;
use rowhouse_db::control::is_away;
use rowhouse_status::{Failure, Reason};
use rowhouse_types::{ApiKeyId, TenantId};

use crate::second_factor::CODE;
use crate::team::Obstacle;

/// A fact that ends an action.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Account, password or membership do not match: never told apart.
    #[error("e-mail and password do not match an account that may log in here")]
    LoginFailed,
    /// The API key is unknown, expired or revoked, or its account disabled: never told apart.
    #[error("the API key is not valid")]
    ApiKeyInvalid,
    /// A program calls what is about a person's account.
    #[error("a service account has no password and no address")]
    NotAPerson,
    /// Whoever is no member cannot leave: a program, an operator, somebody who acts as another.
    #[error("only a member leaves a tenant: a person who is logged in there under their own name")]
    NotAMember,
    /// The person belongs to several tenants and named none.
    #[error("the account belongs to several tenants")]
    TenantChoiceRequired,
    /// The tenant is suspended.
    #[error("the tenant is suspended")]
    TenantSuspended,
    /// The tenant is not suspended, so it cannot be purged.
    #[error("a tenant that is open cannot be purged")]
    TenantOpen,
    /// The tenant is still being provisioned.
    #[error("the tenant is not ready yet")]
    TenantNotReady,
    /// The refresh token is unknown, expired, revoked or was used.
    #[error("the refresh token is not valid")]
    RefreshTokenInvalid,
    /// The invitation is unknown, expired or was used: never told apart.
    #[error("the invitation is not valid")]
    InvitationInvalid,
    /// The link from a mail is unknown, expired, or was used or replaced: never told apart.
    #[error("the link is not valid")]
    LinkInvalid,
    /// Another account has the address.
    #[error("another account has this address")]
    EmailTaken,
    /// Enough for now.
    #[error("too many attempts")]
    TooManyAttempts {
        /// When to try again.
        retry: Duration,
    },
    /// As many signing keys are honoured as can be.
    #[error("too many signing keys are honoured still; wait until the oldest retire")]
    TooManyKeys,
    /// The account has a second factor, and it is missing or wrong.
    #[error("the account's second factor is missing or wrong")]
    SecondFactorRequired,
    /// Whoever is logged in shows no code of the account's second factor where it is asked for again.
    #[error("the account has a second factor, and no code of it was sent")]
    CodeMissing,
    /// The tenant asks for a second factor, which was not shown in the session.
    #[error("the tenant asks for a second factor, which was not shown in this session")]
    SecondFactorNotShown,
    /// The account has a second factor.
    #[error("the account has a second factor")]
    SecondFactorExists,
    /// The account has no second factor, or none that is being set up.
    #[error("the account has no second factor")]
    NoSecondFactor,
    /// The session, the account or the membership was ended.
    #[error("the session was revoked or the account disabled")]
    Revoked,
    /// The tenant lets no session last as long as the caller's has, which goes on where it is.
    #[error("the tenant lets no session last as long as this one has; log in there")]
    SessionTooOld,
    /// There is no such thing, or none that the caller may know of.
    #[error("{kind} not found")]
    NotFound {
        /// What was looked for.
        kind: &'static str,
        /// Its id, as the caller sent it.
        id: String,
    },
    /// The address belongs to a member already.
    #[error("a member with this address exists")]
    MemberExists,
    /// The tenant's plan allows no more.
    #[error("the tenant's plan allows {most} of {limit}")]
    QuotaExceeded {
        /// The tenant.
        tenant: TenantId,
        /// Which bound, by its name in `Limits`.
        limit: &'static str,
        /// How many it allows.
        most: u32,
    },
    /// A field is wrong in a way that only the action can see.
    #[error("{field} {description}")]
    Field {
        /// Path of the field.
        field: &'static str,
        /// What it must be.
        description: String,
    },
    /// The caller would give more than they hold.
    #[error("the role gives a permission that the caller does not hold")]
    RoleNotCovered {
        /// The first of what is lacking.
        permission: String,
    },
    /// The tenant has no such role.
    #[error("the tenant has no such role")]
    RoleUnknown {
        /// Path of the field that names it.
        field: &'static str,
    },
    /// The tenant has a role of this name.
    #[error("a role of this name exists")]
    RoleExists,
    /// The tenant has as many roles as it can have.
    #[error("a tenant has at most {most} roles of its own")]
    TooManyRoles {
        /// How many it can have.
        most: u32,
    },
    /// The caller would move people to whom they could not give what the move gives.
    #[error("members' roles give a permission for their teams that the caller does not hold for everybody's records")]
    TeamsNotCovered {
        /// The first of what is lacking.
        permission: String,
    },
    /// The tenant has a team of this name.
    #[error("a team of this name exists")]
    TeamExists,
    /// The tenant's teams do not allow it.
    #[error(transparent)]
    Team(#[from] Obstacle),
    /// The tenant has a service account of this name.
    #[error("a service account of this name exists")]
    ServiceAccountExists,
    /// The tenant has as many service accounts as it can have.
    #[error("a tenant has at most {most} service accounts")]
    TooManyServiceAccounts {
        /// How many it can have.
        most: u32,
    },
    /// The service account has as many good keys as it can have.
    #[error("a service account has at most {most} keys that are good; revoke one first")]
    TooManyApiKeys {
        /// How many it can have.
        most: u32,
    },
    /// An earlier call with this request id has made a key, which is told once.
    #[error(
        "an earlier call with this request id made an API key, which is told only once; revoke it and make another"
    )]
    ApiKeyTold {
        /// The key's id.
        key: ApiKeyId,
    },
    /// Somebody has the role, or would get it.
    #[error(
        "somebody has the role or is invited to it (members: {members}, open invitations: {invitations}, service accounts: {service_accounts})"
    )]
    RoleHeld {
        /// Members with it, disabled ones too.
        members: i64,
        /// Invitations that would give it.
        invitations: i64,
        /// Service accounts with it.
        service_accounts: i64,
    },
    /// The member, role or team has changed since the etag was issued.
    #[error("it has changed since the etag was issued")]
    EtagMismatch,
    /// The tenant would be left without an administrator.
    #[error("the last active administrator cannot be demoted, disabled or removed, and cannot leave")]
    LastAdministrator,
    /// The platform would be left without an operator.
    #[error("the last active operator stays one; make another first")]
    LastOperator,
    /// The operation belongs to another tenant.
    #[error("the operation belongs to another tenant")]
    OperationReused,
    /// The request id was used for something else.
    #[error("the request id was used before with different content")]
    RequestIdReused,
    /// The page token is not one of ours for this list.
    #[error("the page token is not valid for this list")]
    PageToken,
    /// As much hashing is waiting as may wait.
    #[error("too many log-ins at once")]
    Overloaded,
    /// The caller stopped waiting.
    #[error("the work did not finish within the deadline")]
    DeadlineExceeded,
    /// The database did not answer.
    #[error("the database does not answer")]
    DatabaseUnavailable(String),
    /// A fault of ours.
    #[error("{0}")]
    Fault(String),
}

// === impl Error ===

impl Error {
    /// A fault of ours, with words for operators.
    pub(crate) fn fault(cause: impl Display) -> Self {
        Self::Fault(cause.to_string())
    }

    fn reason(&self) -> Reason {
        match self {
            Self::LoginFailed | Self::ApiKeyInvalid => Reason::LoginFailed,
            Self::NotAPerson | Self::NotAMember => Reason::AudienceMismatch,
            Self::TenantSuspended => Reason::TenantSuspended,
            Self::TenantNotReady => Reason::TenantNotReady,
            Self::RefreshTokenInvalid => Reason::RefreshTokenInvalid,
            Self::InvitationInvalid => Reason::InvitationInvalid,
            Self::LinkInvalid => Reason::LinkInvalid,
            Self::TooManyAttempts { .. } => Reason::TooManyAttempts,
            Self::SecondFactorRequired => Reason::SecondFactorRequired,
            Self::SecondFactorNotShown => Reason::SecondFactorNotShown,
            Self::Revoked => Reason::SessionRevoked,
            Self::SessionTooOld => Reason::SessionTooOld,
            Self::NotFound { .. } => Reason::ResourceNotFound,
            Self::MemberExists
            | Self::EmailTaken
            | Self::RoleExists
            | Self::TeamExists
            | Self::ServiceAccountExists
            | Self::ApiKeyTold { .. } => Reason::ResourceAlreadyExists,
            Self::TenantChoiceRequired | Self::CodeMissing | Self::Field { .. } | Self::RoleUnknown { .. } => {
                Reason::FieldInvalid
            }
            Self::RoleNotCovered { .. } | Self::TeamsNotCovered { .. } => Reason::PermissionMissing,
            Self::EtagMismatch => Reason::EtagMismatch,
            Self::LastAdministrator
            | Self::LastOperator
            | Self::OperationReused
            | Self::TooManyKeys
            | Self::TooManyServiceAccounts { .. }
            | Self::TooManyApiKeys { .. }
            | Self::SecondFactorExists
            | Self::NoSecondFactor
            | Self::TenantOpen
            | Self::TooManyRoles { .. }
            | Self::Team(_)
            | Self::RoleHeld { .. } => Reason::StateForbids,
            Self::RequestIdReused => Reason::RequestIdReused,
            Self::PageToken => Reason::PageTokenInvalid,
            Self::QuotaExceeded { .. } => Reason::QuotaExceeded,
            Self::Overloaded => Reason::Overloaded,
            Self::DeadlineExceeded => Reason::DeadlineExceeded,
            Self::DatabaseUnavailable(_) => Reason::DependencyUnavailable,
            Self::Fault(_) => Reason::Internal,
        }
    }
}

/// When to try again where a plan allows no more: seats are given up, and a day's mails grow old, in their own time.
const QUOTA_RETRY: Duration = Duration::from_secs(60 * 60);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::NotFound { kind, id } => Self::not_found(kind, id),
            Error::QuotaExceeded { tenant, limit, most } => Self::quota(tenant, limit, *most).retry_after(QUOTA_RETRY),
            Error::Field { field, description } => Self::field(*field, description),
            Error::CodeMissing => Self::field(CODE, "must be a code of the account's second factor"),
            Error::TenantChoiceRequired => Self::field("tenant_id", "must name one of the account's tenants"),
            Error::RoleNotCovered { permission } | Error::TeamsNotCovered { permission } => {
                Self::new(error.reason(), error.to_string()).with("permission", permission)
            }
            Error::RoleUnknown { field } => Self::field(*field, "must be a role of the tenant"),
            Error::RoleExists => Self::new(error.reason(), error.to_string())
                .in_field("role.name", "must be a name that no role of the tenant has"),
            Error::TeamExists => Self::new(error.reason(), error.to_string())
                .in_field("team.display_name", "must be a name that no team of the tenant has"),
            Error::ServiceAccountExists => Self::new(error.reason(), error.to_string()).in_field(
                "service_account.display_name",
                "must be a name that no service account of the tenant has",
            ),
            Error::ApiKeyTold { key } => Self::new(error.reason(), error.to_string())
                .about("API key", key)
                .in_field("request_id", "must be new to make another key"),
            Error::RequestIdReused => Self::request_id_reused(),
            Error::PageToken => Self::page_token_invalid(),
            Error::MemberExists => {
                Self::new(error.reason(), error.to_string()).in_field("email", "must be an address that no member has")
            }
            Error::TooManyAttempts { retry } => Self::new(error.reason(), error.to_string()).retry_after(*retry),
            Error::Overloaded => Self::new(error.reason(), error.to_string()).retry_after(Duration::from_secs(1)),
            Error::DatabaseUnavailable(cause) => Self::unavailable("database", cause),
            Error::Fault(cause) => Self::internal(cause),
            _ => Self::new(error.reason(), error.to_string()),
        }
    }
}

impl From<NoTenant> for Error {
    fn from(fault: NoTenant) -> Self {
        Self::fault(fault)
    }
}

impl From<rowhouse_seal::Error> for Error {
    fn from(fault: rowhouse_seal::Error) -> Self {
        Self::fault(fault)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if is_away(&error) {
            Self::DatabaseUnavailable(error.to_string())
        } else {
            Self::fault(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_a_fault_is_for_the_log_alone() {
        let cause = "relation \"auth.x\"".to_owned();
        for error in [Error::Fault(cause.clone()), Error::DatabaseUnavailable(cause.clone())] {
            let failure = Failure::from(error);
            assert!(!failure.to_string().contains("relation"), "{failure}");
            assert!(failure.cause().is_some_and(|told| told.contains(&cause)), "{failure:?}");
        }
    }

    #[test]
    fn refusals_of_one_field_name_it_beside_their_reason() {
        let key = ApiKeyId::generate();
        let told = Error::ApiKeyTold { key };
        for (error, reason, field) in [
            (Error::PageToken, Reason::PageTokenInvalid, "page_token"),
            (Error::RequestIdReused, Reason::RequestIdReused, "request_id"),
            (Error::MemberExists, Reason::ResourceAlreadyExists, "email"),
            (told, Reason::ResourceAlreadyExists, "request_id"),
            (Error::TenantChoiceRequired, Reason::FieldInvalid, "tenant_id"),
            (Error::CodeMissing, Reason::FieldInvalid, "code"),
        ] {
            let failure = Failure::from(error);
            assert_eq!(failure.reason(), reason);
            let fields: Vec<&str> = failure
                .violations()
                .iter()
                .map(|violation| violation.field.as_str())
                .collect();
            assert_eq!(fields, [field]);
        }
    }

    #[test]
    fn a_pool_that_is_exhausted_is_no_fault_of_ours() {
        assert_eq!(
            Failure::from(Error::from(sqlx::Error::PoolTimedOut)).reason(),
            Reason::DependencyUnavailable
        );
        assert_eq!(
            Failure::from(Error::from(sqlx::Error::RowNotFound)).reason(),
            Reason::Internal
        );
    }
}
