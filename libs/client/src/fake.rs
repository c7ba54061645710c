//! Auth and the directory as the tests need them: real gRPC servers on a loopback port, whose answers a test decides.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rowhouse_auth_kit::ServiceSigner;
use rowhouse_cache::Cache;
use rowhouse_config::Secret;
use rowhouse_context::{Ctx, ServiceName, metadata};
use rowhouse_proto::auth::v1::rights_service_server::{RightsService, RightsServiceServer};
use rowhouse_proto::auth::v1::{GetRightsRequest, RenewLeaseRequest, RenewLeaseResponse, Rights, Standing};
use rowhouse_status::Failure;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::peer::Peer;
use crate::request::own_ctx;

/// What auth has in its database.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) version: i64,
    /// Subjects in the order of their changes, with the version of each.
    pub(crate) changes: Vec<(i64, String)>,
    /// Users whose rights were taken.
    pub(crate) revoked: HashMap<String, i64>,
    /// What each instance has confirmed.
    pub(crate) confirmed: HashMap<String, i64>,
    pub(crate) lease_ms: i32,
    pub(crate) is_down: bool,
    pub(crate) is_slow: bool,
    pub(crate) asked: usize,
    pub(crate) metadata: Vec<tonic::metadata::MetadataMap>,
}

/// Auth, as far as rights go.
#[derive(Clone)]
pub(crate) struct FakeAuth {
    state: Arc<Mutex<State>>,
    /// How many questions have been read from the database and wait to be let go.
    pub(crate) held: Arc<watch::Sender<usize>>,
    pub(crate) go: Arc<Semaphore>,
    /// How many renewals came.
    renewed: Arc<watch::Sender<usize>>,
    addr: SocketAddr,
}

impl FakeAuth {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self {
            state: Arc::new(Mutex::new(State {
                version: 1,
                lease_ms: 2_000,
                ..State::default()
            })),
            held: Arc::new(watch::Sender::new(0)),
            go: Arc::new(Semaphore::new(0)),
            renewed: Arc::new(watch::Sender::new(0)),
            addr: listener.local_addr().unwrap(),
        };
        let server = tonic::transport::Server::builder().add_service(RightsServiceServer::new(fake.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        fake
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn peer(&self) -> Peer {
        peer(ServiceName::Auth, self.addr)
    }

    /// Takes a user's rights, in one transaction, as auth does.
    pub(crate) fn revoke(&self, user: &str) {
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        state.changes.push((version, user.to_owned()));
        state.revoked.insert(user.to_owned(), version);
    }

    fn renew(&self, request: RenewLeaseRequest) -> Result<Response<RenewLeaseResponse>, Status> {
        let mut state = self.state();
        if state.is_down {
            return Err(Failure::unavailable("database", "down").into());
        }
        state.confirmed.insert(request.instance_id, request.confirmed_version);
        let changed = state
            .changes
            .iter()
            .filter(|(version, _)| *version > request.confirmed_version);
        Ok(Response::new(RenewLeaseResponse {
            version: state.version,
            changed_subjects: changed.map(|(_, subject)| subject.clone()).collect(),
            drop_all: request.confirmed_version == 0,
            lease_ms: state.lease_ms,
        }))
    }

    /// Waits for something to become true after a renewal.
    pub(crate) async fn until(&self, condition: impl Fn(&State) -> bool) {
        let mut renewed = self.renewed.subscribe();
        renewed.wait_for(|_| condition(&self.state())).await.unwrap();
    }

    /// Whether the newest version may be acknowledged: every instance has confirmed it.
    pub(crate) fn is_acknowledged(&self) -> bool {
        let state = self.state();
        state.confirmed.values().all(|version| *version >= state.version)
    }
}

#[tonic::async_trait]
impl RightsService for FakeAuth {
    async fn renew_lease(&self, request: Request<RenewLeaseRequest>) -> Result<Response<RenewLeaseResponse>, Status> {
        let request = request.into_inner();
        let answer = self.renew(request);
        self.renewed.send_modify(|renewed| *renewed += 1);
        answer
    }

    async fn get_rights(&self, request: Request<GetRightsRequest>) -> Result<Response<Rights>, Status> {
        let (rights, is_slow) = {
            let mut state = self.state();
            state.asked += 1;
            state.metadata.push(request.metadata().clone());
            if state.is_down {
                return Err(Failure::unavailable("database", "down").into());
            }
            let is_revoked = state.revoked.contains_key(&request.get_ref().user_id);
            let standing = if is_revoked { Standing::Revoked } else { Standing::Good };
            let rights = Rights {
                version: state.version,
                standing: standing.into(),
                roles: vec!["user".to_owned()],
                permissions: vec!["contacts:read".to_owned()],
                team_user_ids: Vec::new(),
            };
            (rights, state.is_slow)
        };
        if is_slow {
            self.held.send_modify(|held| *held += 1);
            self.go.acquire().await.unwrap().forget();
        }
        Ok(Response::new(rights))
    }
}

pub(crate) fn peer(name: ServiceName, addr: SocketAddr) -> Peer {
    let identity = ServiceSigner::new(ServiceName::Crm, &[7; 32]).unwrap().into();
    Peer::connect(name, &format!("http://{addr}"), &identity).unwrap()
}

pub(crate) fn ctx() -> Ctx {
    own_ctx(ServiceName::Crm, Duration::from_secs(20))
}

/// A Redis that is not there.
pub(crate) fn no_redis() -> Cache {
    Cache::connect(&Secret::new("redis://127.0.0.1:1".to_owned()), "test").unwrap()
}

/// A real Redis, and a prefix of the test's own.
pub(crate) fn redis(name: &str) -> Cache {
    let url = rowhouse_devkit::fixture::servers().unwrap().redis_url();
    Cache::connect(&Secret::new(url), &rowhouse_devkit::fixture::redis_prefix(name)).unwrap()
}

/// The one value of a metadata key that the peer saw.
pub(crate) fn seen(metadata: &tonic::metadata::MetadataMap, key: &str) -> Option<String> {
    let mut values = metadata.get_all(key).iter();
    let value = values.next()?.to_str().ok()?.to_owned();
    assert!(values.next().is_none(), "{key} is sent twice");
    Some(value)
}

/// The key under which a service shows its token.
pub(crate) const SERVICE_TOKEN: &str = metadata::SERVICE_AUTHORIZATION;
