//! What a service's log does, wherever it is kept.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rowhouse_context::Ctx;
use rowhouse_status::Failure;
use rowhouse_types::{AuditEntryId, TenantId};
use uuid::Uuid;

use crate::check::LATE_MAX;
use crate::entry::Entry;
use crate::seal::Batch;

/// Entries of a page at most: 200, and the one that tells whether there is a next page.
pub const PAGE_MAX: i64 = 201;

/// Entries that are in no seal and wait for none that are told of at most.
pub const UNSEALED_MAX: i64 = 100;

/// Which entries to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only older ones than this.
    pub before: Option<AuditEntryId>,
    /// How many at most.
    pub limit: i64,
    /// Done by this one, or on behalf of it.
    pub actor: Option<String>,
    /// With this action.
    pub action: Option<String>,
    /// About this.
    pub target: Option<String>,
    /// Of this call.
    pub request_id: Option<String>,
    /// With this outcome.
    pub outcome: Option<String>,
    /// Not earlier.
    pub from: Option<DateTime<Utc>>,
    /// Earlier.
    pub to: Option<DateTime<Utc>>,
}

/// What is not sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsealed {
    /// Entries that wait for nothing, although they are in no seal; some of them.
    pub lost: Vec<AuditEntryId>,
    /// How many wait for their seal.
    pub waiting: i64,
}

/// An audit log. A tenant's where one is named, the platform's otherwise.
#[async_trait]
pub trait AuditLog: Send + Sync + 'static {
    /// Entries, the newest first.
    async fn page(&self, ctx: &Ctx, tenant: Option<TenantId>, query: &Query) -> Result<Vec<Entry>, Failure>;

    /// Some of the seals after number `after`, in order, each with its entries; none after the last.
    async fn seals(&self, ctx: &Ctx, tenant: Option<TenantId>, after: i64) -> Result<Vec<Batch>, Failure>;

    /// What is not sealed.
    async fn unsealed(&self, ctx: &Ctx, tenant: Option<TenantId>) -> Result<Unsealed, Failure>;

    /// Writes an entry about what has changed nothing, in a transaction of its own.
    async fn note(&self, entry: &Entry) -> Result<(), Failure>;
}

// === impl Query ===

impl Query {
    /// Between which ids the entries of its time stand, so that an index finds them: ids begin with the time of the
    /// process that made them, in milliseconds, which is not quite the entry's.
    #[must_use]
    pub fn ids(&self) -> (Uuid, Uuid) {
        let from = self.from.and_then(|from| from.checked_sub_signed(LATE_MAX));
        let from = from.map_or(Uuid::nil(), first_id);
        let to = self.to.and_then(|to| to.checked_add_signed(LATE_MAX));
        let to = to.map_or(Uuid::max(), first_id);
        let before = self.before.map_or(Uuid::max(), |before| before.uuid());
        (from, to.min(before))
    }
}

/// The smallest UUIDv7 of a time (RFC 9562: 48 bits of milliseconds come first).
fn first_id(at: DateTime<Utc>) -> Uuid {
    let milliseconds = u128::try_from(at.timestamp_millis()).unwrap_or(0) & 0xFFFF_FFFF_FFFF;
    Uuid::from_u128(milliseconds << 80)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn ids_of_a_time_stand_between_its_bounds() {
        let id = AuditEntryId::generate();
        let now = Utc::now();
        let between = |from: DateTime<Utc>, to: DateTime<Utc>| {
            let query = Query {
                from: Some(from),
                to: Some(to),
                ..Query::default()
            };
            let (low, high) = query.ids();
            low <= id.uuid() && id.uuid() < high
        };
        let hour = TimeDelta::hours(1);
        assert!(between(now, now) && between(now - hour, now + hour));
        assert!(!between(now + hour, now + hour * 2) && !between(now - hour * 2, now - hour));
        assert_eq!(Query::default().ids(), (Uuid::nil(), Uuid::max()));
        // The ends of time are no fault.
        assert!(between(DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC));
    }
}
