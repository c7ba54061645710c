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
//!
//! Rows whose time is over go with the calls that follow, and those of tenants who make none by [`FORGET`], once an hour.

mod store;

use rowhouse_context::Ctx;
use rowhouse_db::requests::{Claimed, Once};
use rowhouse_types::IdempotencyKey;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::{Error, Result};
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::{FORGET, REMEMBERED, answered, claim, remember};

/// What is remembered under a request id.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    fingerprint: Vec<u8>,
    /// What the call has made that it is remembered for.
    pub(crate) resource: Uuid,
    answer: Value,
}

/// `method`: its name, such as `CreateContact`; each has request ids of its own. `content`: all that the caller asks for.
pub(crate) fn once(ctx: &Ctx, method: &'static str, key: IdempotencyKey, content: &[&str]) -> Once {
    let mut parts = vec![json!(ctx.principal().user())];
    parts.extend(content.iter().map(|part| json!(part)));
    Once::new(method, key, &Value::from(parts))
}

// === impl Known ===

impl Known {
    /// What an earlier call has left under the id; `None` where the id is this call's, which makes `resource`.
    ///
    /// # Errors
    /// [`Error::RequestReused`] where the earlier call had other content.
    pub(crate) fn earlier(self, resource: Uuid, once: &Once) -> Result<Option<Self>> {
        match once.judge(resource, self.resource, &self.fingerprint) {
            Claimed::First => Ok(None),
            Claimed::Repeated(_) => Ok(Some(self)),
            Claimed::Reused => Err(Error::RequestReused),
        }
    }

    /// What the call has answered.
    ///
    /// # Errors
    /// [`Error::Answer`].
    pub(crate) fn answer<A: DeserializeOwned>(self) -> Result<A> {
        Ok(serde_json::from_value(self.answer)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use rowhouse_context::{Principal, RequestId};
    use rowhouse_db::requests::fingerprint;
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
        once(&ctx(user), "CreateContact", IdempotencyKey::generate(), content).fingerprint
    }

    /// Rows live for a day, so the code that comes after must make the same ones.
    #[test]
    fn a_fingerprint_is_of_the_user_and_the_content_and_of_nothing_else() {
        let user = UserId::generate();
        let expected = fingerprint(&json!([user, "Ada", ""]));
        assert_eq!(of(user, &["Ada", ""]), expected);
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
        let key = IdempotencyKey::generate();
        let [once, other] = [(); 2].map(|()| once(&ctx(UserId::generate()), "CreateContact", key, &["Ada"]));
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
