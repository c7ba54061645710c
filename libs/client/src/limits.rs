//! What tenants may use, as the tenant service says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache as Memory;
use rowhouse_cache::{Cache, Key};
use rowhouse_context::Ctx;
use rowhouse_proto::common::v1 as proto;
use rowhouse_proto::tenant::v1::GetLimitsRequest;
use rowhouse_proto::tenant::v1::directory_service_client::DirectoryServiceClient;
use rowhouse_types::{Limits, TenantId};
use tonic::Status;

use crate::peer::{IdentifiedChannel, Peer};
use crate::request::{request, shared_ctx};

/// Tenants whose limits are kept in memory at once. An entry is about 80 bytes.
const MEMORY_MAX: u64 = 20_000;

/// How long limits are believed without asking. With [`KEPT_IN_REDIS`] it bounds how late a new plan is in force: 20 s are promised
/// (`plan_service.proto`). The other two seconds are for questions and answers on their way, and for whoever remembers what limits
/// said (`quota/bucket.rs`).
const KEPT_IN_MEMORY: Duration = Duration::from_secs(8);

/// The same for Redis, from where other processes take them.
const KEPT_IN_REDIS: Duration = Duration::from_secs(10);

/// Longest time for a question. Whoever asks for limits would rather go on without.
const ASK_MAX: Duration = Duration::from_millis(500);

/// What tenants may use: from memory, else from Redis, else from the tenant service. Cheap to clone.
#[derive(Clone)]
pub struct LimitsClient {
    inner: Arc<Inner>,
}

struct Inner {
    /// Nobody is asked where absent: the same limits for all.
    tenant: Option<DirectoryServiceClient<IdentifiedChannel>>,
    fixed: Limits,
    memory: Memory<TenantId, Limits>,
    /// The last answers, for when the tenant service is away.
    known: Memory<TenantId, Limits>,
    cache: Cache,
}

// === impl LimitsClient ===

impl LimitsClient {
    /// A client of the tenant service. `cache`: Redis, which only saves questions.
    #[must_use]
    pub fn new(tenant: &Peer, cache: Cache) -> Self {
        Self::of(
            Some(DirectoryServiceClient::new(tenant.channel())),
            Limits::default(),
            cache,
        )
    }

    /// The same limits for every tenant, without asking anybody: for tests of whoever keeps limits.
    #[must_use]
    pub fn fixed(limits: Limits, cache: Cache) -> Self {
        Self::of(None, limits, cache)
    }

    fn of(tenant: Option<DirectoryServiceClient<IdentifiedChannel>>, fixed: Limits, cache: Cache) -> Self {
        Self {
            inner: Arc::new(Inner {
                tenant,
                fixed,
                memory: Memory::builder()
                    .max_capacity(MEMORY_MAX)
                    .time_to_live(KEPT_IN_MEMORY)
                    .build(),
                known: Memory::builder().max_capacity(MEMORY_MAX).build(),
                cache,
            }),
        }
    }

    /// What a tenant may use. Where nobody can say, the last that was known holds, and nothing is bounded where nothing
    /// was: a plan is no wall between tenants, and its keeper's absence must stop nobody's work.
    pub async fn limits(&self, ctx: &Ctx, tenant: TenantId) -> Limits {
        // Callers who miss together share one question.
        self.inner.memory.get_with(tenant, self.inner.refill(ctx, tenant)).await
    }
}

impl fmt::Debug for LimitsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitsClient").finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    async fn refill(&self, ctx: &Ctx, tenant: TenantId) -> Limits {
        let Some(client) = self.tenant.clone() else {
            return self.fixed;
        };
        let key = Key::tenant(tenant, "limits", "plan");
        if let Some(stored) = self.cache.get::<Limits>(&key).await {
            self.known.insert(tenant, stored).await;
            return stored;
        }
        match ask(client, &shared_ctx(ctx, ASK_MAX), tenant).await {
            Ok(limits) => {
                self.cache.set(&key, &limits, KEPT_IN_REDIS).await;
                self.known.insert(tenant, limits).await;
                limits
            }
            Err(status) => {
                let known = self.known.get(&tenant).await;
                tracing::warn!(%tenant, code = ?status.code(), known = known.is_some(), "a tenant's limits are not to be had");
                known.unwrap_or_default()
            }
        }
    }
}

async fn ask(
    mut client: DirectoryServiceClient<IdentifiedChannel>,
    ctx: &Ctx,
    tenant: TenantId,
) -> Result<Limits, Status> {
    let message = GetLimitsRequest {
        tenant_id: tenant.to_string(),
    };
    let asked = client.get_limits(request(ctx, message));
    match tokio::time::timeout(ctx.time_left(), asked).await {
        Ok(answer) => Ok(read(&answer?.into_inner())),
        Err(_) => Err(Status::deadline_exceeded("the tenant service did not answer in time")),
    }
}

/// A bound that makes no sense does not hold.
fn read(limits: &proto::Limits) -> Limits {
    let bound = |value: Option<i32>| {
        value
            .and_then(|value| u32::try_from(value).ok())
            .filter(|value| *value > 0)
    };
    Limits {
        requests_per_second: bound(limits.requests_per_second),
        statement_timeout_ms: bound(limits.statement_timeout_ms),
        contacts: bound(limits.contacts),
        jobs_in_flight: bound(limits.jobs_in_flight),
        seats: bound(limits.seats),
        concurrent_transactions: bound(limits.concurrent_transactions),
        mails_per_day: bound(limits.mails_per_day),
    }
}

#[cfg(test)]
pub(crate) mod tests;
