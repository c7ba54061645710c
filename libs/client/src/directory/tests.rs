//! The directory against a tenant service that the tests lead.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use rowhouse_proto::tenant::v1::directory_service_server::{DirectoryService, DirectoryServiceServer};
use rowhouse_status::Failure;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use rowhouse_proto::tenant::v1::GetLimitsRequest;

use super::*;
use crate::fake::{ctx, no_redis, peer, redis};

#[derive(Default)]
struct State {
    homes: HashMap<String, proto::Home>,
    asked: usize,
    is_down: bool,
    /// Where there is one, each question waits for it.
    gate: Option<Arc<Semaphore>>,
}

#[derive(Clone)]
struct FakeTenant {
    state: Arc<Mutex<State>>,
    peer: Peer,
}

impl FakeTenant {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self {
            state: Arc::default(),
            peer: peer(ServiceName::Tenant, listener.local_addr().unwrap()),
        };
        let server = tonic::transport::Server::builder().add_service(DirectoryServiceServer::new(fake.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        fake
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn client(&self, cache: Cache) -> DirectoryClient {
        DirectoryClient::new(&self.peer, ServiceName::Crm, cache)
    }

    /// Gives a tenant a home of this generation and state.
    fn settle(&self, tenant: TenantId, generation: i64, state: proto::HomeState) {
        let home = proto::Home {
            tenant_id: tenant.to_string(),
            participant: "crm".to_owned(),
            server: "data1".to_owned(),
            placement: proto::Placement::Schema.into(),
            generation,
            version: 1,
            state: state.into(),
            transactions_max: None,
        };
        self.state().homes.insert(tenant.to_string(), home);
    }
}

#[tonic::async_trait]
impl DirectoryService for FakeTenant {
    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<proto::Home>, Status> {
        let gate = self.state().gate.clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        let mut state = self.state();
        state.asked += 1;
        if state.is_down {
            return Err(Failure::unavailable("database", "down").into());
        }
        let id = &request.get_ref().tenant_id;
        assert_eq!(request.get_ref().participant, "crm");
        let home = state.homes.get(id).cloned();
        home.map(Response::new)
            .ok_or_else(|| Failure::not_found("tenant", id).into())
    }

    async fn get_limits(&self, _: Request<GetLimitsRequest>) -> Result<Response<proto::Limits>, Status> {
        Err(Status::unimplemented("not asked here"))
    }
}

async fn generation(client: &DirectoryClient, tenant: TenantId, fresh: bool) -> i64 {
    client.home(&ctx(), tenant, fresh).await.unwrap().generation
}

#[tokio::test]
async fn a_home_is_asked_for_once_and_afresh_when_it_turns_out_stale() {
    let service = FakeTenant::start().await;
    let client = service.client(no_redis());
    let tenant = TenantId::generate();
    service.settle(tenant, 1, proto::HomeState::Active);
    for _ in 0..3 {
        assert_eq!(generation(&client, tenant, false).await, 1);
    }
    assert_eq!(service.state().asked, 1);

    service.settle(tenant, 2, proto::HomeState::Active);
    assert_eq!(
        generation(&client, tenant, false).await,
        1,
        "the control: a cache is there"
    );
    assert_eq!(generation(&client, tenant, true).await, 2);
    assert_eq!(generation(&client, tenant, false).await, 2);
    assert_eq!(service.state().asked, 2);
}

#[tokio::test]
async fn an_unknown_tenant_is_not_remembered_as_such() {
    let service = FakeTenant::start().await;
    let client = service.client(no_redis());
    let tenant = TenantId::generate();
    let unknown = client.home(&ctx(), tenant, false).await;
    assert_eq!(unknown, Err(DirectoryError::TenantUnknown));
    service.settle(tenant, 1, proto::HomeState::Active);
    assert_eq!(generation(&client, tenant, false).await, 1);
}

#[tokio::test]
async fn a_frozen_home_is_told_and_not_kept() {
    let service = FakeTenant::start().await;
    let client = service.client(no_redis());
    let tenant = TenantId::generate();
    service.settle(tenant, 1, proto::HomeState::Frozen);
    for fresh in [false, true] {
        let home = client.home(&ctx(), tenant, fresh).await.unwrap();
        assert_eq!(home.state, HomeState::Frozen);
    }
    service.settle(tenant, 1, proto::HomeState::Active);
    assert_eq!(
        client.home(&ctx(), tenant, false).await.unwrap().state,
        HomeState::Active
    );
}

#[tokio::test]
async fn an_answer_about_another_tenant_or_without_sense_is_refused() {
    let service = FakeTenant::start().await;
    let client = service.client(no_redis());
    let (tenant, other) = (TenantId::generate(), TenantId::generate());
    service.settle(other, 1, proto::HomeState::Active);
    let theirs = service.state().homes[&other.to_string()].clone();
    let own = proto::Home {
        tenant_id: tenant.to_string(),
        ..theirs.clone()
    };
    for damaged in [
        theirs,
        proto::Home {
            placement: 17,
            ..own.clone()
        },
        proto::Home {
            state: 0,
            ..own.clone()
        },
        proto::Home {
            server: "Data 1".to_owned(),
            ..own
        },
    ] {
        service.state().homes.insert(tenant.to_string(), damaged);
        let refused = client.home(&ctx(), tenant, false).await;
        assert!(matches!(refused, Err(DirectoryError::Unavailable(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_directory_that_does_not_answer_is_no_missing_tenant() {
    let service = FakeTenant::start().await;
    let client = service.client(no_redis());
    service.state().is_down = true;
    let refused = client.home(&ctx(), TenantId::generate(), false).await;
    assert!(matches!(refused, Err(DirectoryError::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn who_has_no_time_left_takes_none_of_the_others() {
    let service = FakeTenant::start().await;
    let client = service.client(no_redis());
    let tenant = TenantId::generate();
    service.settle(tenant, 1, proto::HomeState::Active);
    let gate = Arc::new(Semaphore::new(0));
    service.state().gate = Some(Arc::clone(&gate));
    // Enough to ask, and not to hear the answer.
    let hurried = shared_ctx(&ctx(), Duration::from_millis(50));
    let (hurried, home) = tokio::join!(
        biased;
        async {
            let answer = client.home(&hurried, tenant, false).await;
            // For the question of each.
            gate.add_permits(2);
            answer
        },
        generation(&client, tenant, false)
    );
    assert!(matches!(hurried, Err(DirectoryError::Unavailable(_))), "{hurried:?}");
    assert_eq!(home, 1);
}

#[tokio::test]
async fn other_processes_take_a_home_from_redis_and_a_fresh_answer_replaces_it() {
    let service = FakeTenant::start().await;
    let redis = redis("homes");
    let tenant = TenantId::generate();
    service.settle(tenant, 1, proto::HomeState::Active);
    assert_eq!(generation(&service.client(redis.clone()), tenant, false).await, 1);
    let second = service.client(redis.clone());
    assert_eq!(generation(&second, tenant, false).await, 1);
    assert_eq!(service.state().asked, 1, "the second took the entry of the first");

    service.settle(tenant, 2, proto::HomeState::Active);
    assert_eq!(generation(&second, tenant, true).await, 2);
    assert_eq!(generation(&service.client(redis), tenant, false).await, 2);
    assert_eq!(service.state().asked, 2);
}
