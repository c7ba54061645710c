//! Calls that a client may repeat (AIP-155): within 24 hours the same request id with the same content is answered as the first
//! call was, and nothing happens twice.
//!
//! Table `requests` of the home keeps what a call has answered, by method and request id. A call takes its id in the transaction
//! of its change, in one of two ways:
//!
//! - **The change is one statement** and its answer is known before, as of a create. Then its text begins with `sql/claim.sql`,
//!   and what follows does something only where `request.resource_id` is what this call makes (`contact/sql/create.sql`).
//!   [`Known::earlier`] reads its row.
//! - **It is several statements**. Then [`claim`] is the first of them and [`remember`] the last.
//!
//! Where a call would be refused that may repeat another, [`answered`] is asked first.

mod store;

use aws_lc_rs::digest;
use rowhouse_context::Ctx;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::{Error, Result};
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::{REMEMBERED, answered, claim, remember};

/// By what a repeated call is recognised.
#[derive(Clone, Debug)]
pub(crate) struct Once {
    pub(crate) method: &'static str,
    pub(crate) id: Uuid,
    /// Of who asks for what, 32 bytes: the same id with another one is refused.
    pub(crate) fingerprint: Vec<u8>,
}

/// What is remembered under a request id.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    fingerprint: Vec<u8>,
    /// What the call has made that it is remembered for.
    pub(crate) resource: Uuid,
    answer: Value,
}

// === impl Once ===

impl Once {
    /// `method`: its name, such as `CreateContact`; each has request ids of its own. `content`: all that the caller asks for.
    pub(crate) fn new(ctx: &Ctx, method: &'static str, id: Uuid, content: &[&str]) -> Self {
        let mut parts = vec![json!(ctx.principal().user())];
        parts.extend(content.iter().map(|part| json!(part)));
        Self {
            method,
            id,
            fingerprint: fingerprint(&Value::from(parts)),
        }
    }
}

// === impl Known ===

impl Known {
    /// What an earlier call has left under the id; `None` where the id is this call's, which makes `resource`.
    ///
    /// # Errors
    /// [`Error::RequestReused`] where the earlier call had other content.
    pub(crate) fn earlier(self, resource: Uuid, once: &Once) -> Result<Option<Self>> {
        if self.resource == resource {
            return Ok(None);
        }
        if self.fingerprint != once.fingerprint {
            return Err(Error::RequestReused);
        }
        Ok(Some(self))
    }

    /// What the call has answered.
    ///
    /// # Errors
    /// [`Error::Answer`].
    pub(crate) fn answer<A: DeserializeOwned>(self) -> Result<A> {
        Ok(serde_json::from_value(self.answer)?)
    }
}

/// Reads a request id; `None` where a caller has sent none.
///
/// # Errors
/// What it must be.
pub(crate) fn parse_id(text: &str) -> Result<Option<Uuid>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    match Uuid::parse_str(text) {
        // One spelling only: two texts for one UUID would be two requests to a client and one to us. The nil UUID is
        // what a client sends that forgot to choose one.
        Ok(id) if !id.is_nil() && id.hyphenated().to_string() == text => Ok(Some(id)),
        _ => Err("must be a UUID such as 0197a6de-1c8f-7c1e-a4a5-5f0e9d6f3b21"),
    }
}

/// A digest of what must be the same. Of JSON, so that no two lists of texts make the same one.
pub(crate) fn fingerprint(content: &Value) -> Vec<u8> {
    digest::digest(&digest::SHA256, content.to_string().as_bytes())
        .as_ref()
        .to_vec()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use rowhouse_context::{Principal, RequestId};
    use rowhouse_types::{SessionId, TenantId, UserId};
    use tokio::time::Instant;

    use super::*;

    fn ctx(user: UserId) -> Ctx {
        let (session, tenant) = (SessionId::generate(), TenantId::generate());
        let principal = Principal::Member { user, session, tenant };
        let deadline = Instant::now() + Duration::from_secs(30);
        Ctx::new(RequestId::generate(), principal, Some(tenant), deadline)
    }

    fn of(user: UserId, content: &[&str]) -> Vec<u8> {
        Once::new(&ctx(user), "CreateContact", Uuid::new_v4(), content).fingerprint
    }

    /// Rows live for a day, so the code that comes after must make the same ones.
    #[test]
    fn a_fingerprint_is_of_the_user_and_the_content_and_of_nothing_else() {
        let user = UserId::generate();
        let expected = fingerprint(&json!([user, "Ada", ""]));
        assert_eq!(of(user, &["Ada", ""]), expected);
        assert_eq!(expected.len(), 32);
    }

    #[test]
    fn who_asks_for_something_else_has_another_fingerprint() {
        let (user, other) = (UserId::generate(), UserId::generate());
        let all = [
            of(user, &["ab", "c"]),
            of(user, &["a", "bc"]),
            of(user, &["ab", "c", ""]),
            of(user, &["ab\",\"c"]),
            of(user, &["c", "ab"]),
            of(other, &["ab", "c"]),
        ];
        let count = all.len();
        assert_eq!(BTreeSet::from(all).len(), count);
    }

    #[test]
    fn what_is_known_is_this_calls_or_the_same_call_earlier_or_refused() {
        let once = Once::new(&ctx(UserId::generate()), "CreateContact", Uuid::new_v4(), &["Ada"]);
        let other = Once::new(&ctx(UserId::generate()), "CreateContact", once.id, &["Ada"]);
        let (ours, theirs) = (Uuid::new_v4(), Uuid::new_v4());
        let known = |resource| Known {
            fingerprint: once.fingerprint.clone(),
            resource,
            answer: json!("as it was"),
        };
        assert!(known(ours).earlier(ours, &once).unwrap().is_none());
        let earlier = known(theirs).earlier(ours, &once).unwrap().unwrap();
        assert_eq!(earlier.resource, theirs);
        assert_eq!(earlier.answer::<String>().unwrap(), "as it was");
        let refused = known(theirs).earlier(ours, &other);
        assert!(matches!(refused, Err(Error::RequestReused)), "{refused:?}");
    }
}
