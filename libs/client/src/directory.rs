//! Where tenants live, as the tenant service says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moka::future::Cache as Memory;
use rowhouse_cache::{Cache, Key};
use rowhouse_context::{Ctx, ServiceName};
use rowhouse_db::{Directory, DirectoryError, Home};
use rowhouse_proto::common::v1 as proto;
use rowhouse_proto::tenant::v1::ResolveRequest;
use rowhouse_proto::tenant::v1::directory_service_client::DirectoryServiceClient;
use rowhouse_status::Reason;
use rowhouse_types::{HomeState, Placement, TenantId};

use crate::failure::failure;
use crate::peer::{IdentifiedChannel, Peer};
use crate::request::{request, shared_ctx};

/// Homes kept in memory at once. An entry is about 150 bytes.
const MEMORY_MAX: u64 = 10_000;

/// How long a home is believed without asking. A home that moved is noticed at once by its generation, so this bounds
/// only how long a forgotten tenant takes space.
const KEPT_IN_MEMORY: Duration = Duration::from_secs(10);

/// The same for Redis, from where other processes take it.
const KEPT_IN_REDIS: Duration = Duration::from_secs(60);

/// Longest time for a question.
const ASK_MAX: Duration = Duration::from_secs(5);

/// Where tenants live: from memory, else from Redis, else from the tenant service. Cheap to clone.
#[derive(Clone)]
pub struct DirectoryClient {
    inner: Arc<Inner>,
}

struct Inner {
    tenant: DirectoryServiceClient<IdentifiedChannel>,
    participant: ServiceName,
    memory: Memory<TenantId, Home>,
    cache: Cache,
}

// === impl DirectoryClient ===

impl DirectoryClient {
    /// A client of the tenant service for the homes of one participant.
    ///
    /// `participant`: whose homes, such as crm. `cache`: Redis, which only saves questions.
    #[must_use]
    pub fn new(tenant: &Peer, participant: ServiceName, cache: Cache) -> Self {
        Self {
            inner: Arc::new(Inner {
                tenant: DirectoryServiceClient::new(tenant.channel()),
                participant,
                memory: Memory::builder()
                    .max_capacity(MEMORY_MAX)
                    .time_to_live(KEPT_IN_MEMORY)
                    .build(),
                cache,
            }),
        }
    }
}

#[async_trait]
impl Directory for DirectoryClient {
    async fn home(&self, ctx: &Ctx, tenant: TenantId, fresh: bool) -> Result<Home, DirectoryError> {
        let inner = &self.inner;
        if fresh {
            let home = inner.ask(ctx, tenant).await?;
            inner.memory.insert(tenant, home.clone()).await;
            inner.forget_if_frozen(&home).await;
            return Ok(home);
        }
        // Callers who miss together share one question.
        let shared = inner.memory.try_get_with(tenant, inner.refill(ctx, tenant));
        match tokio::time::timeout_at(ctx.deadline(), shared).await {
            Ok(Ok(home)) => {
                inner.forget_if_frozen(&home).await;
                Ok(home)
            }
            Ok(Err(error)) => Err(DirectoryError::clone(&error)),
            Err(_) => Err(late()),
        }
    }
}

impl fmt::Debug for DirectoryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryClient")
            .field("participant", &self.inner.participant)
            .finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    fn key(&self, tenant: TenantId) -> Key {
        Key::tenant(tenant, "home", self.participant.as_str())
    }

    async fn refill(&self, ctx: &Ctx, tenant: TenantId) -> Result<Home, DirectoryError> {
        let stored = self.cache.get::<Home>(&self.key(tenant)).await;
        match stored.filter(|home| home.tenant == tenant) {
            Some(home) => Ok(home),
            None => self.ask(&shared_ctx(ctx, ASK_MAX), tenant).await,
        }
    }

    /// Asks the tenant service and keeps the answer in Redis.
    async fn ask(&self, ctx: &Ctx, tenant: TenantId) -> Result<Home, DirectoryError> {
        let message = ResolveRequest {
            tenant_id: tenant.to_string(),
            participant: self.participant.as_str().to_owned(),
        };
        let mut client = self.tenant.clone();
        let asked = client.resolve(request(ctx, message));
        let answer = match tokio::time::timeout(ASK_MAX.min(ctx.time_left()), asked).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Err(refused(status)),
            Err(_) => return Err(late()),
        };
        let home = read_home(&answer, tenant)?;
        if home.state != HomeState::Frozen {
            self.cache.set(&self.key(tenant), &home, KEPT_IN_REDIS).await;
        } else {
            self.cache.delete(&self.key(tenant)).await;
        }
        Ok(home)
    }

    /// A frozen home is not kept: it thaws without anything that would tell the caches, and would go on being refused.
    /// One that is read-only is: whether a transaction may write is told by `rowhouse.enter` alone.
    async fn forget_if_frozen(&self, home: &Home) {
        if home.state == HomeState::Frozen {
            self.memory.invalidate(&home.tenant).await;
        }
    }
}

fn late() -> DirectoryError {
    DirectoryError::Unavailable("the tenant service did not answer in time".to_owned())
}

fn refused(status: tonic::Status) -> DirectoryError {
    let code = status.code();
    match failure(status).reason() {
        Reason::ResourceNotFound => DirectoryError::TenantUnknown,
        Reason::TenantNotReady => DirectoryError::NotReady,
        reason => DirectoryError::Unavailable(format!("the tenant service answered {code:?} ({})", reason.as_info())),
    }
}

/// Reads an answer strictly: a home that is not the tenant's, or that we cannot understand, is none.
fn read_home(answer: &proto::Home, tenant: TenantId) -> Result<Home, DirectoryError> {
    let damaged = |what: &str| DirectoryError::Unavailable(format!("the tenant service answered a home with {what}"));
    if answer.tenant_id != tenant.to_string() {
        return Err(damaged("another tenant"));
    }
    let placement = match answer.placement() {
        proto::Placement::Schema => Placement::Schema,
        proto::Placement::Shared => Placement::Shared,
        proto::Placement::Database => Placement::Database,
        proto::Placement::Unspecified => return Err(damaged("no placement")),
    };
    let state = match answer.state() {
        proto::HomeState::Active => HomeState::Active,
        proto::HomeState::ReadOnly => HomeState::ReadOnly,
        proto::HomeState::Frozen => HomeState::Frozen,
        proto::HomeState::Spare => return Err(damaged("no tenant")),
        proto::HomeState::Unspecified => return Err(damaged("no state")),
    };
    Ok(Home {
        tenant,
        server: answer.server.parse().map_err(|_| damaged("no server"))?,
        placement,
        generation: answer.generation,
        version: answer.version,
        state,
        transactions_max: answer
            .transactions_max
            .and_then(|most| u16::try_from(most).ok())
            .filter(|most| *most > 0),
    })
}

#[cfg(test)]
mod tests;
