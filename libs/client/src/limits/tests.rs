//! Limits from a tenant service that answers what a test wants.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use rowhouse_cache::cache::OPERATION_MAX;
use rowhouse_context::ServiceName;
use rowhouse_proto::tenant::v1::ResolveRequest;
use rowhouse_proto::tenant::v1::directory_service_server::{DirectoryService, DirectoryServiceServer};
use rowhouse_status::Failure;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response};

use super::*;
use crate::fake::{ctx, no_redis, peer, redis};

/// How late a change is known at most, by whoever looks then: just before it the limits were asked for, then put into Redis, and
/// taken from there at the last moment.
pub(crate) fn known_within() -> Duration {
    ASK_MAX + OPERATION_MAX + KEPT_IN_REDIS + OPERATION_MAX + KEPT_IN_MEMORY
}

#[derive(Default)]
pub(crate) struct State {
    limits: HashMap<String, proto::Limits>,
    pub(crate) asked: usize,
    pub(crate) is_down: bool,
}

/// A tenant service that knows plans.
#[derive(Clone)]
pub(crate) struct FakePlans {
    state: Arc<Mutex<State>>,
    peer: Peer,
}

impl FakePlans {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self {
            state: Arc::default(),
            peer: peer(ServiceName::Tenant, listener.local_addr().unwrap()),
        };
        let server = tonic::transport::Server::builder().add_service(DirectoryServiceServer::new(fake.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        fake
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn client(&self, cache: Cache) -> LimitsClient {
        LimitsClient::new(&self.peer, cache)
    }

    pub(crate) fn bound(&self, tenant: TenantId, requests_per_second: Option<i32>) {
        let limits = proto::Limits {
            requests_per_second,
            ..proto::Limits::default()
        };
        self.state().limits.insert(tenant.to_string(), limits);
    }
}

#[tonic::async_trait]
impl DirectoryService for FakePlans {
    async fn resolve(&self, _: Request<ResolveRequest>) -> Result<Response<proto::Home>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn get_limits(&self, request: Request<GetLimitsRequest>) -> Result<Response<proto::Limits>, Status> {
        let mut state = self.state();
        state.asked += 1;
        if state.is_down {
            return Err(Failure::unavailable("database", "down").into());
        }
        let id = &request.get_ref().tenant_id;
        let limits = state.limits.get(id).copied();
        limits
            .map(Response::new)
            .ok_or_else(|| Failure::not_found("tenant", id).into())
    }
}

async fn rate(client: &LimitsClient, tenant: TenantId) -> Option<u32> {
    client.limits(&ctx(), tenant).await.requests_per_second
}

#[tokio::test]
async fn limits_are_asked_for_once_and_shared_through_redis() {
    let service = FakePlans::start().await;
    let cache = redis("limits_shared");
    let tenant = TenantId::generate();
    service.bound(tenant, Some(7));
    let client = service.client(cache.clone());
    for _ in 0..3 {
        assert_eq!(rate(&client, tenant).await, Some(7));
    }
    assert_eq!(rate(&service.client(cache), tenant).await, Some(7));
    assert_eq!(service.state().asked, 1);
    assert_eq!(rate(&service.client(no_redis()), tenant).await, Some(7));
    assert_eq!(service.state().asked, 2, "the control: without Redis it is asked");
}

#[tokio::test]
async fn without_the_tenant_service_the_last_known_limits_hold() {
    let service = FakePlans::start().await;
    let client = service.client(no_redis());
    let (known, unknown) = (TenantId::generate(), TenantId::generate());
    service.bound(known, Some(7));
    assert_eq!(rate(&client, known).await, Some(7));
    service.state().is_down = true;
    client.inner.memory.invalidate_all();
    client.inner.memory.run_pending_tasks().await;
    assert_eq!(rate(&client, known).await, Some(7));
    assert_eq!(
        rate(&client, unknown).await,
        None,
        "nobody's work stops for a plan that nobody can tell"
    );
    let asked = service.state().asked;
    rate(&client, known).await;
    assert_eq!(service.state().asked, asked, "an outage costs one question in a while");
}

#[tokio::test]
async fn who_has_no_time_left_does_not_unbind_the_others() {
    let service = FakePlans::start().await;
    let client = service.client(no_redis());
    let tenant = TenantId::generate();
    service.bound(tenant, Some(7));
    client.limits(&shared_ctx(&ctx(), Duration::ZERO), tenant).await;
    assert_eq!(rate(&client, tenant).await, Some(7));
}

#[tokio::test]
async fn a_bound_that_makes_no_sense_does_not_hold() {
    let service = FakePlans::start().await;
    let client = service.client(no_redis());
    for nonsense in [Some(0), Some(-1), None] {
        let tenant = TenantId::generate();
        service.bound(tenant, nonsense);
        assert_eq!(rate(&client, tenant).await, None);
    }
}
