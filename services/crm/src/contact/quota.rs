//! Whether a tenant's plan allows another contact.
//!
//! Nobody who writes a contact updates a counter that others wait for. Contacts are counted at most every
//! [`COUNTED_FOR`] in each process, which adds what it creates itself meanwhile; so a plan's bound may be passed by what
//! other processes create in that time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::future::Cache as Memory;
use rowhouse_client::LimitsClient;
use rowhouse_context::Ctx;
use rowhouse_db::{Mode, TenantDb};
use rowhouse_types::TenantId;

use super::store;
use crate::error::{Error, Result};

/// How long a count is believed.
pub(crate) const COUNTED_FOR: Duration = Duration::from_secs(10);

/// Tenants whose counts are kept at once: those with a bound that create contacts.
const COUNTS_MAX: u64 = 20_000;

/// Keeps plans' bounds on contacts. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Quota {
    limits: LimitsClient,
    counts: Memory<TenantId, Arc<AtomicU32>>,
}

/// Room for one contact, given back where it is dropped: a call that has created nothing must not keep others out.
#[derive(Debug, Default)]
#[must_use = "dropped, it is given back"]
pub(super) struct Room {
    /// The count that it was added to; none where the plan has no bound.
    taken_of: Option<Arc<AtomicU32>>,
}

// === impl Quota ===

impl Quota {
    pub(super) fn new(limits: LimitsClient) -> Self {
        Self {
            limits,
            counts: Memory::builder()
                .max_capacity(COUNTS_MAX)
                .time_to_live(COUNTED_FOR)
                .build(),
        }
    }

    /// Takes room for one contact.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`].
    pub(super) async fn take(&self, ctx: &Ctx, db: &TenantDb) -> Result<Room> {
        let tenant = ctx.tenant()?;
        let Some(most) = self.limits.limits(ctx, tenant).await.contacts else {
            return Ok(Room::default());
        };
        let count = match self.counts.get(&tenant).await {
            Some(count) => count,
            None => {
                let mut tx = db.begin_single(ctx, Mode::Read).await?;
                let counted = store::count_up_to(&mut tx, i64::from(most)).await?;
                let count = Arc::new(AtomicU32::new(u32::try_from(counted).unwrap_or(u32::MAX)));
                self.counts.insert(tenant, Arc::clone(&count)).await;
                count
            }
        };
        let another = |count: u32| (count < most).then(|| count.saturating_add(1));
        let taken = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, another);
        match taken {
            Ok(_) => Ok(Room { taken_of: Some(count) }),
            Err(_) => Err(Error::QuotaExceeded { tenant, most }),
        }
    }
}

// === impl Room ===

impl Room {
    /// The contact is there: it takes the room until the next count.
    pub(super) fn keep(mut self) {
        self.taken_of = None;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(count) = self.taken_of.take() {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
