//! What can go wrong in this service, as facts, and what the caller hears of it.

use std::time::Duration;

use rowhouse_client::RightsError;
use rowhouse_context::NoTenant;
use rowhouse_status::{Failure, Reason};
use rowhouse_types::{ContactId, TenantId};

use crate::contact::COUNTED_FOR;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no such contact in the caller's tenant, or it is deleted.
    #[error("there is no contact {id}")]
    ContactUnknown {
        /// As asked for.
        id: ContactId,
    },
    /// The contact was changed since.
    #[error("contact {id} has changed since the etag was issued")]
    EtagMismatch {
        /// The contact.
        id: ContactId,
    },
    /// The contact is not deleted.
    #[error("contact {id} is not deleted")]
    NotDeleted {
        /// The contact.
        id: ContactId,
    },
    /// A contact cannot be given to that member: they may not act in the tenant, or the caller does not reach them.
    #[error("the new owner is nobody whom the caller reaches")]
    OwnerUnknown,
    /// Contacts cannot be given to that member, for the same reasons.
    #[error("who is to get the contacts is nobody whom the caller reaches")]
    ReceiverUnknown,
    /// The rights of a member could not be read.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// The request id was used for something else.
    #[error("the request id was used with other content")]
    RequestReused,
    /// The page token is not one of ours, or was issued for another list or caller.
    #[error("the page token is not valid here")]
    PageToken,
    /// The tenant's plan allows no more contacts.
    #[error("the tenant's plan allows {most} contacts")]
    QuotaExceeded {
        /// The tenant.
        tenant: TenantId,
        /// How many it allows.
        most: u32,
    },
    /// The stack let a call through that names no tenant.
    #[error("the call names no tenant")]
    NoTenant(#[from] NoTenant),
    /// The stack let a call through that has no person behind it.
    #[error("the call has no user")]
    NoUser,
    /// The database refused, failed or did not answer.
    #[error(transparent)]
    Database(#[from] rowhouse_db::Error),
    /// A value that we wrote cannot be read, or cannot be written.
    #[error("a stored answer cannot be read or written")]
    Answer(#[from] serde_json::Error),
}

/// What an action answers.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// When to come back after the tenant's share of connections was in use: about as long as its calls take.
const BUSY_RETRY: Duration = Duration::from_millis(200);

/// When to come back to a tenant that is being provisioned: about as long as that takes.
const READY_RETRY: Duration = Duration::from_secs(1);

/// When to come back where the plan allows no more contacts: when they are counted anew, without those that have been deleted.
const CONTACTS_RETRY: Duration = COUNTED_FOR;

/// When to come back after a statement took longer than the plan allows: it takes as long while the tenant's data is as busy.
const STATEMENT_RETRY: Duration = Duration::from_secs(60);

/// What is asked of who gets contacts.
const MUST_BE_REACHED: &str = "must be an active member of the tenant whose contacts the caller reaches";

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::ContactUnknown { id } => Self::not_found("contact", id),
            Error::EtagMismatch { id } => Self::new(
                Reason::EtagMismatch,
                "the contact has changed since; read it again and repeat the change",
            )
            .about("contact", id),
            Error::NotDeleted { id } => {
                Self::new(Reason::ResourceAlreadyExists, "the contact is not deleted").about("contact", id)
            }
            Error::OwnerUnknown => Self::field("contact.owner_id", MUST_BE_REACHED),
            Error::ReceiverUnknown => Self::field("to_owner_id", MUST_BE_REACHED),
            Error::Rights(RightsError::Unavailable(cause)) => Self::unavailable("auth service", cause),
            Error::Rights(error @ RightsError::DeadlineExceeded) => {
                Self::new(Reason::DeadlineExceeded, error.to_string())
            }
            Error::RequestReused => Self::request_id_reused(),
            Error::QuotaExceeded { tenant, most } => Self::quota(tenant, "contacts", most).retry_after(CONTACTS_RETRY),
            Error::PageToken => Self::page_token_invalid(),
            Error::Database(error) => from_database(error),
            Error::NoTenant(_) | Error::NoUser | Error::Answer(_) => Self::internal(error),
        }
    }
}

fn from_database(error: rowhouse_db::Error) -> Failure {
    use rowhouse_db::Error as Db;
    match error {
        // The caller may not have been told the tenant's id; an operator has sent it and knows it.
        Db::TenantUnknown => Failure::new(Reason::ResourceNotFound, "tenant not found"),
        Db::TenantSuspended => Failure::new(Reason::TenantSuspended, "the tenant is suspended"),
        Db::TenantReadOnly => Failure::new(Reason::TenantReadOnly, "the tenant is read-only"),
        Db::TenantNotReady => {
            Failure::new(Reason::TenantNotReady, "the tenant is still being provisioned").retry_after(READY_RETRY)
        }
        Db::Busy | Db::PoolTimeout => {
            Failure::new(Reason::Overloaded, "the tenant's data is busy; try again").retry_after(BUSY_RETRY)
        }
        Db::TransactionsExceeded { tenant, most } => {
            Failure::quota(tenant, "concurrent_transactions", most.into()).retry_after(BUSY_RETRY)
        }
        Db::StatementExceeded { tenant } => {
            Failure::quota_named(tenant, "statement_timeout_ms", error.to_string()).retry_after(STATEMENT_RETRY)
        }
        Db::DeadlineExceeded => Failure::new(Reason::DeadlineExceeded, "the deadline came before the answer"),
        // Another replica may know the server, and this one will when it is started anew with its URL.
        Db::Stale | Db::Unavailable(_) | Db::ServerUnknown { .. } => Failure::unavailable("database", error),
        // Every value was checked before it was sent, so a constraint that refuses one is a fault of ours.
        Db::RowMissing | Db::Constraint { .. } | Db::Fault(_) => Failure::internal(error),
    }
}

#[cfg(test)]
mod tests {
    use rowhouse_db::Error as Db;

    use super::*;

    #[test]
    fn the_caller_hears_what_it_can_act_upon() {
        let data1 = "data1".parse().unwrap();
        let reasons = [
            (Db::TenantUnknown, Reason::ResourceNotFound),
            (Db::TenantSuspended, Reason::TenantSuspended),
            (Db::TenantReadOnly, Reason::TenantReadOnly),
            (Db::TenantNotReady, Reason::TenantNotReady),
            (Db::Busy, Reason::Overloaded),
            (Db::PoolTimeout, Reason::Overloaded),
            (Db::DeadlineExceeded, Reason::DeadlineExceeded),
            (Db::Stale, Reason::DependencyUnavailable),
            (Db::Unavailable("data1".to_owned()), Reason::DependencyUnavailable),
            (Db::ServerUnknown { name: data1 }, Reason::DependencyUnavailable),
            (Db::Fault("contact.get: SQLSTATE 42P01".to_owned()), Reason::Internal),
        ];
        for (error, reason) in reasons {
            let failure = Failure::from(Error::Database(error));
            assert_eq!(failure.reason(), reason);
            assert!(!failure.to_string().contains("SQLSTATE") && !failure.to_string().contains("data1"));
        }
    }

    #[test]
    fn a_bound_of_the_plan_is_named_and_comes_with_advice_when_to_try_again() {
        let tenant = TenantId::generate();
        let told = |error| {
            let failure = Failure::from(error);
            assert_eq!(failure.reason(), Reason::QuotaExceeded);
            format!("{failure:?}")
        };
        let contacts = told(Error::QuotaExceeded { tenant, most: 2 });
        assert!(contacts.contains("contacts: at most 2"), "{contacts}");
        assert!(contacts.contains("retry_after: Some(10s)"), "{contacts}");
        let transactions = told(Error::Database(Db::TransactionsExceeded { tenant, most: 3 }));
        assert!(
            transactions.contains("concurrent_transactions: at most 3"),
            "{transactions}"
        );
        assert!(transactions.contains("retry_after: Some(200ms)"), "{transactions}");
        let statement = told(Error::Database(Db::StatementExceeded { tenant }));
        assert!(statement.contains("\"statement_timeout_ms\""), "{statement}");
        assert!(statement.contains("retry_after: Some(60s)"), "{statement}");
    }

    #[test]
    fn a_fault_of_ours_keeps_its_cause_for_the_log() {
        let failure = Failure::from(Error::Database(Db::Fault("contact.get: SQLSTATE 42P01".to_owned())));
        assert_eq!(failure.cause(), Some("contact.get: SQLSTATE 42P01"));
    }
}
