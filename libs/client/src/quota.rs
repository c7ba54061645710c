//! Whether a tenant's members may make another call now.
//!
//! No call waits for it. A process keeps permits for each tenant ahead, a tenth of a second's worth, and fetches more from
//! a token bucket in Redis in the background; while they are on their way, calls pass on credit, which is paid back from
//! what comes. Where Redis is away each process fills a bucket of its own, so that many replicas then allow as many times
//! the rate.

mod bucket;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::future::Cache as Memory;
use rowhouse_cache::{Cache, Key};
use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_types::TenantId;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use self::bucket::{Bucket, Verdict};
use crate::LimitsClient;

/// Tenants whose permits are kept at once.
const BUCKETS_MAX: u64 = 20_000;

/// How long the permits of a tenant that does not call are kept.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Longest time to fetch permits.
const FETCH_MAX: Duration = Duration::from_secs(2);

/// The tenant's plan does not allow another call now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateExceeded {
    /// Calls a second that it allows.
    pub requests_per_second: u32,
    /// When there may be a permit again.
    pub retry_after: Duration,
}

/// Permits for calls, by tenant. Cheap to clone.
#[derive(Clone)]
pub struct Quotas {
    inner: Arc<Inner>,
}

struct Inner {
    service: ServiceName,
    limits: LimitsClient,
    cache: Cache,
    buckets: Memory<TenantId, Arc<Mutex<Bucket>>>,
    tasks: TaskTracker,
}

// === impl Quotas ===

impl Quotas {
    /// `service`: who asks. `cache`: Redis, where all processes share a tenant's permits.
    #[must_use]
    pub fn new(service: ServiceName, limits: LimitsClient, cache: Cache) -> Self {
        Self {
            inner: Arc::new(Inner {
                service,
                limits,
                cache,
                buckets: Memory::builder()
                    .max_capacity(BUCKETS_MAX)
                    .time_to_idle(IDLE_MAX)
                    .build(),
                tasks: TaskTracker::new(),
            }),
        }
    }

    /// Takes a permit for one call.
    ///
    /// # Errors
    /// [`RateExceeded`].
    pub async fn admit(&self, tenant: TenantId) -> Result<(), RateExceeded> {
        let bucket = match self.inner.buckets.get(&tenant).await {
            Some(bucket) => bucket,
            None => {
                let new = async { Arc::new(Mutex::new(Bucket::new(Instant::now()))) };
                // It waits for nothing: the future makes an empty bucket. Boxed, since it is large and seldom needed.
                Box::pin(self.inner.buckets.get_with(tenant, new)).await
            }
        };
        let (verdict, fetches) = lock(&bucket).admit(Instant::now());
        if fetches {
            let inner = Arc::clone(&self.inner);
            self.inner
                .tasks
                .spawn(async move { inner.fetch(tenant, &bucket).await });
        }
        match verdict {
            Verdict::Admitted => Ok(()),
            Verdict::Refused(refusal) => Err(refusal),
        }
    }

    /// Waits for the fetches that are under way; each is bounded.
    pub async fn shutdown(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl fmt::Debug for Quotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quotas").finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    async fn fetch(&self, tenant: TenantId, bucket: &Mutex<Bucket>) {
        let principal = Principal::Service { name: self.service };
        let ctx = Ctx::new(RequestId::generate(), principal, None, Instant::now() + FETCH_MAX);
        let limits = self.limits.limits(&ctx, tenant).await;
        let Some(rate) = limits.requests_per_second else {
            return lock(bucket).is_unbounded(Instant::now());
        };
        let wanted = lock(bucket).wanted(rate);
        let key = Key::tenant(tenant, "permits", "requests");
        // A second's worth may come in one burst.
        let granted = self.cache.take_permits(&key, rate, rate, wanted).await;
        lock(bucket).fill(Instant::now(), rate, wanted, granted);
    }
}

/// Nothing panics while it holds the lock, so what a panic elsewhere would leave is sound.
fn lock(bucket: &Mutex<Bucket>) -> MutexGuard<'_, Bucket> {
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
