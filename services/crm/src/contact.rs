//! A contact: a person that a tenant does business with. Its parts, what they must be, and what changes it.
//!
//! - [`filter`], [`order`], [`mask`]: the small languages of the API, parsed.
//! - [`owner`]: whom contacts may be given to. `quota`: how many a plan allows.
//! - [`actions`]: what a caller may do. `store` beneath it holds the SQL and is seen by nobody else.
//! - [`wire`], [`rpc`]: the way in from gRPC.

pub(crate) mod actions;
mod filter;
mod mask;
mod order;
pub(crate) mod owner;
mod quota;
pub(crate) mod rpc;
mod store;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

pub(crate) use quota::COUNTED_FOR;

use chrono::{DateTime, SubsecRound as _, Utc};
use rowhouse_types::email::EMAIL_BYTES_MAX;
use rowhouse_types::{ContactId, Email, Etag, Text, UserId};

/// A contact as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contact {
    pub(crate) id: ContactId,
    pub(crate) details: Details,
    pub(crate) owner: UserId,
    pub(crate) etag: Etag,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) deleted_at: Option<DateTime<Utc>>,
}

/// What a member may say about a contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) display_name: Text<200>,
    pub(crate) email: OptionalEmail,
    pub(crate) phone: Text<40>,
    pub(crate) company: Text<200>,
    pub(crate) job_title: Text<200>,
}

/// New values for some of the details, and a new owner; `None` leaves one as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patch {
    pub(crate) display_name: Option<Text<200>>,
    pub(crate) email: Option<OptionalEmail>,
    pub(crate) phone: Option<Text<40>>,
    pub(crate) company: Option<Text<200>>,
    pub(crate) job_title: Option<Text<200>>,
    /// Whom it is given to.
    pub(crate) owner: Option<UserId>,
}

/// An e-mail address, or that there is none. Its text was an [`Email`] when it was written; what [`Email`] and [`Text`] have come
/// to refuse since then stays what the member has entered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OptionalEmail {
    address: Option<Text<EMAIL_BYTES_MAX>>,
}

/// The text is neither empty nor an e-mail address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be empty or an e-mail address of at most {EMAIL_BYTES_MAX} bytes")]
pub(crate) struct ParseOptionalEmailError;

/// Revision of a contact that was never changed.
const FIRST_REVISION: i64 = 1;

// === impl Contact ===

impl Contact {
    /// A contact that begins now.
    pub(crate) fn new(id: ContactId, details: Details, owner: UserId, at: DateTime<Utc>) -> Self {
        Self {
            id,
            details,
            owner,
            etag: Etag::from_revision(FIRST_REVISION),
            created_at: at,
            updated_at: at,
            deleted_at: None,
        }
    }
}

/// The time as PostgreSQL can keep it: in microseconds. A finer one would come back from the database as another.
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

// === impl OptionalEmail ===

impl OptionalEmail {
    /// Reads an address or an empty text.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseOptionalEmailError> {
        // Text first: it refuses the overrides with which an address can pose as another, which RFC 6531 would allow.
        let read = Text::parse_optional(text).map_err(|_| ParseOptionalEmailError)?;
        if !read.as_str().is_empty() {
            read.as_str().parse::<Email>().map_err(|_| ParseOptionalEmailError)?;
        }
        Ok(Self::of(read))
    }

    /// Takes what was parsed before it was stored.
    pub(crate) fn stored(text: String) -> Self {
        Self::of(Text::stored(text))
    }

    fn of(text: Text<EMAIL_BYTES_MAX>) -> Self {
        Self {
            address: (!text.as_str().is_empty()).then_some(text),
        }
    }

    /// The address, or an empty text.
    pub(crate) fn as_str(&self) -> &str {
        self.address.as_ref().map_or("", Text::as_str)
    }
}
