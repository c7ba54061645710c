//! A participant and auth, as real gRPC servers that keep what they did in memory and fail or hang on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use rowhouse_proto::auth::v1 as auth;
use rowhouse_proto::auth::v1::provisioning_service_server::{ProvisioningService, ProvisioningServiceServer};
use rowhouse_proto::common::v1 as common;
use rowhouse_proto::common::v1::tenant_participant_service_server::{
    TenantParticipantService, TenantParticipantServiceServer,
};
use rowhouse_proto::common::v1::tenant_records_service_server::{TenantRecordsService, TenantRecordsServiceServer};
use rowhouse_types::{InvitationId, OperationId};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::bench::LONG;
use super::fleet::{self, FakeHouse};

type Answer<T> = Result<Response<T>, Status>;

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// Nothing is done, and the call fails.
    Fails,
    /// Nothing is done, and no answer comes.
    HangsBefore,
    /// It is done, and no answer comes.
    HangsAfter,
    /// It is done and answered once [`Fakes::heal`] is called.
    Waits,
}

/// The calls that migrate houses of one data server.
#[derive(Clone, Copy, Debug, Default)]
struct Migrating {
    now: u32,
    /// The most that there were at once.
    most: u32,
}

/// What the fakes have done.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Homes by tenant.
    pub(crate) homes: BTreeMap<String, common::Home>,
    /// How many homes were built, not counting repeated calls.
    pub(crate) built: u32,
    /// How many of them were built ahead and claimed since.
    pub(crate) claimed: u32,
    /// Invitations by operation.
    pub(crate) invitations: BTreeMap<String, InvitationId>,
    /// The newest version that the participant's code has, to which it brings spares that it is asked for again.
    pub(crate) newest: i32,
    /// The last access by tenant, with its operation.
    pub(crate) access: BTreeMap<String, (auth::TenantAccess, String)>,
    /// The last statement timeout by tenant.
    pub(crate) timeouts: BTreeMap<String, Option<i32>>,
    /// Records removed by tenant.
    pub(crate) erased: BTreeMap<String, i64>,
    /// How many more calls find records that somebody else is changing, and remove none.
    pub(crate) records_held: u32,
    /// How many calls came, by method.
    pub(crate) calls: BTreeMap<&'static str, u32>,
    /// Whether logins of tenants' own databases stay when those are dropped.
    pub(crate) logins_stay: bool,
    /// The participant's houses, as migrations see them.
    pub(crate) houses: Vec<FakeHouse>,
    /// Tenants whose homes cannot be reached.
    pub(crate) unreachable: BTreeSet<String>,
    /// By data server.
    migrating: BTreeMap<String, Migrating>,
    mishaps: BTreeMap<&'static str, Mishap>,
    /// What goes wrong with a data server.
    servers: BTreeMap<&'static str, Mishap>,
}

/// The fakes, running.
#[derive(Debug)]
pub(crate) struct Fakes {
    pub(crate) address: SocketAddr,
    shared: Shared,
    _server: AbortOnDropHandle<()>,
}

#[derive(Clone, Debug, Default)]
struct Shared {
    effects: Arc<Mutex<Effects>>,
    hanging: Arc<Notify>,
    healed: Arc<Notify>,
}

/// A call that migrates houses, as long as it is under way.
struct UnderWay<'a> {
    effects: &'a Mutex<Effects>,
    server: String,
}

// === impl Fakes ===

impl Fakes {
    /// Starts both on one port of loopback.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared::default();
        let server = Server::builder()
            .add_service(TenantParticipantServiceServer::new(shared.clone()))
            .add_service(ProvisioningServiceServer::new(shared.clone()))
            .add_service(TenantRecordsServiceServer::new(shared.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        let server = tokio::spawn(async move { server.await.unwrap() });
        Self {
            address,
            shared,
            _server: AbortOnDropHandle::new(server),
        }
    }

    /// What was done so far.
    pub(crate) fn effects(&self) -> MutexGuard<'_, Effects> {
        self.shared.effects.lock().unwrap()
    }

    /// From now on this happens to every call of `method`.
    pub(crate) fn plan(&self, method: &'static str, mishap: Mishap) {
        self.effects().mishaps.insert(method, mishap);
    }

    /// From now on this happens to every call about the houses of a data server.
    pub(crate) fn plan_on(&self, server: &'static str, mishap: Mishap) {
        self.effects().servers.insert(server, mishap);
    }

    /// From now on all is well. Calls that hang go on hanging; those that wait do not.
    pub(crate) fn heal(&self) {
        let mut effects = self.effects();
        effects.mishaps.clear();
        effects.servers.clear();
        self.shared.healed.notify_waiters();
    }

    /// Waits until a call hangs.
    pub(crate) async fn hanging(&self) {
        self.shared.hanging.notified().await;
    }

    /// How many calls of `method` came.
    pub(crate) fn called(&self, method: &str) -> u32 {
        self.effects().calls.get(method).copied().unwrap_or_default()
    }

    /// The most calls that have migrated houses at once, by data server.
    pub(crate) fn most_migrating(&self) -> BTreeMap<String, u32> {
        let effects = self.effects();
        let most = effects.migrating.iter();
        most.map(|(server, calls)| (server.clone(), calls.most)).collect()
    }

    /// Waits until so many calls of `method` came; what they do unless they fail or hang, is done then.
    pub(crate) async fn until_called(&self, method: &str, times: u32) {
        let called = async {
            while self.called(method) < times {
                tokio::task::yield_now().await;
            }
        };
        let called = timeout(LONG, called).await;
        called.unwrap_or_else(|_| panic!("{method} was not called"));
    }
}

// === impl Shared ===

impl Shared {
    /// Counts the call, does `act` unless a mishap forbids it, and answers unless one forbids that.
    async fn serve<T>(&self, method: &'static str, act: impl FnOnce(&mut Effects) -> T) -> Answer<T> {
        self.serve_on("", method, act).await
    }

    /// As [`Self::serve`], for a call about the houses of a data server.
    async fn serve_on<T>(&self, server: &str, method: &'static str, act: impl FnOnce(&mut Effects) -> T) -> Answer<T> {
        // Asked for before it is counted, so that a `heal` that follows is heard.
        let healed = self.healed.notified();
        let mishap = {
            let mut effects = self.effects.lock().unwrap();
            *effects.calls.entry(method).or_default() += 1;
            let mishap = effects.servers.get(server).or_else(|| effects.mishaps.get(method));
            match mishap.copied() {
                None => return Ok(Response::new(act(&mut effects))),
                Some(mishap) => mishap,
            }
        };
        match mishap {
            Mishap::Fails => return Err(Status::unavailable("planned")),
            Mishap::HangsBefore => {}
            Mishap::HangsAfter => drop(act(&mut self.effects.lock().unwrap())),
            Mishap::Waits => {
                healed.await;
                return Ok(Response::new(act(&mut self.effects.lock().unwrap())));
            }
        }
        self.hanging.notify_one();
        pending().await
    }

    /// Counts a call that migrates houses, until it is dropped.
    fn under_way(&self, server: &str) -> UnderWay<'_> {
        let mut effects = self.effects.lock().unwrap();
        let calls = effects.migrating.entry(server.to_owned()).or_default();
        calls.now += 1;
        calls.most = calls.most.max(calls.now);
        UnderWay {
            effects: &self.effects,
            server: server.to_owned(),
        }
    }

    /// As the contract says: only under an operation's id.
    async fn turn(
        &self,
        method: &'static str,
        (tenant, operation): (String, String),
        state: common::HomeState,
    ) -> Answer<common::Home> {
        if operation.parse::<OperationId>().is_err() {
            return Err(Status::invalid_argument("operation_id"));
        }
        self.serve(method, |effects| {
            let home = effects.homes.get_mut(&tenant).unwrap();
            home.set_state(state);
            home.clone()
        })
        .await
    }
}

// === impl UnderWay ===

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut effects = self.effects.lock().unwrap();
        if let Some(calls) = effects.migrating.get_mut(&self.server) {
            calls.now -= 1;
        }
    }
}

impl Effects {
    /// The tenant's home, built where there is none.
    fn home(
        &mut self,
        (tenant, server, placement): (String, String, i32),
        state: common::HomeState,
    ) -> &mut common::Home {
        self.homes.entry(tenant.clone()).or_insert_with(|| {
            self.built += 1;
            common::Home {
                tenant_id: tenant,
                participant: "crm".to_owned(),
                server,
                placement,
                generation: 1,
                version: 1,
                state: state.into(),
                transactions_max: None,
            }
        })
    }
}

#[tonic::async_trait]
impl TenantParticipantService for Shared {
    async fn prepare_spare(&self, request: Request<common::PrepareSpareRequest>) -> Answer<common::Home> {
        let request = request.into_inner();
        let place = (request.tenant_id, request.server, request.placement);
        let act = |effects: &mut Effects| {
            let newest = effects.newest;
            let home = effects.home(place, common::HomeState::Spare);
            if home.state() == common::HomeState::Spare {
                home.version = home.version.max(newest);
            }
            home.clone()
        };
        self.serve("spare", act).await
    }

    async fn prepare(&self, request: Request<common::PrepareRequest>) -> Answer<common::Home> {
        let request = request.into_inner();
        let act = |effects: &mut Effects| {
            let place = (request.tenant_id, request.server, request.placement);
            let home = effects.home(place, common::HomeState::Active);
            let spare = home.state() == common::HomeState::Spare;
            if spare {
                home.set_state(common::HomeState::Active);
            }
            let home = home.clone();
            effects.claimed += u32::from(spare);
            home
        };
        self.serve("prepare", act).await
    }

    async fn freeze(&self, request: Request<common::FreezeRequest>) -> Answer<common::Home> {
        let common::FreezeRequest {
            tenant_id,
            operation_id,
            ..
        } = request.into_inner();
        self.turn("freeze", (tenant_id, operation_id), common::HomeState::Frozen)
            .await
    }

    async fn thaw(&self, request: Request<common::ThawRequest>) -> Answer<common::Home> {
        let common::ThawRequest {
            tenant_id,
            operation_id,
            ..
        } = request.into_inner();
        self.turn("thaw", (tenant_id, operation_id), common::HomeState::Active)
            .await
    }

    async fn restrict(&self, request: Request<common::RestrictRequest>) -> Answer<common::Home> {
        let common::RestrictRequest {
            tenant_id,
            operation_id,
            ..
        } = request.into_inner();
        self.turn("restrict", (tenant_id, operation_id), common::HomeState::ReadOnly)
            .await
    }

    async fn migrate(&self, _: Request<common::MigrateRequest>) -> Answer<common::Home> {
        Err(Status::unimplemented("the tenant service does not call this yet"))
    }

    async fn drop(&self, request: Request<common::DropRequest>) -> Answer<common::DropResponse> {
        let tenant = request.into_inner().tenant_id;
        if self
            .effects
            .lock()
            .unwrap()
            .homes
            .get(&tenant)
            .is_some_and(|home| home.state() != common::HomeState::Frozen)
        {
            return Err(Status::failed_precondition("the home is not frozen"));
        }
        self.serve("drop", |effects| common::DropResponse {
            dropped: effects.homes.remove(&tenant).is_some(),
            login_left: effects.logins_stay,
        })
        .await
    }

    async fn set_limits(&self, request: Request<common::SetLimitsRequest>) -> Answer<common::Home> {
        let request = request.into_inner();
        if self.effects.lock().unwrap().unreachable.contains(&request.tenant_id) {
            return Err(Status::unavailable("planned"));
        }
        let act = |effects: &mut Effects| {
            effects
                .timeouts
                .insert(request.tenant_id.clone(), request.statement_timeout_ms);
            effects.homes[&request.tenant_id].clone()
        };
        self.serve("set_limits", act).await
    }

    async fn check_server(&self, _: Request<common::CheckServerRequest>) -> Answer<common::CheckServerResponse> {
        self.serve("check_server", |_| common::CheckServerResponse {}).await
    }

    async fn describe_fleet(
        &self,
        request: Request<common::DescribeFleetRequest>,
    ) -> Answer<common::DescribeFleetResponse> {
        let server = request.into_inner().server;
        let act = |effects: &mut Effects| fleet::describe(&effects.houses, &server);
        self.serve_on(&server, "describe_fleet", act).await
    }

    async fn list_houses(&self, request: Request<common::ListHousesRequest>) -> Answer<common::ListHousesResponse> {
        let request = request.into_inner();
        let act = |effects: &mut Effects| fleet::list(&effects.houses, &request);
        self.serve_on(&request.server, "list_houses", act).await
    }

    async fn migrate_batch(
        &self,
        request: Request<common::MigrateBatchRequest>,
    ) -> Answer<common::MigrateBatchResponse> {
        let request = request.into_inner();
        let _under_way = self.under_way(&request.server);
        let act = |effects: &mut Effects| fleet::migrate(&mut effects.houses, &request);
        self.serve_on(&request.server, "migrate_batch", act).await
    }

    async fn check_drift(&self, request: Request<common::CheckDriftRequest>) -> Answer<common::CheckDriftResponse> {
        let after = request.into_inner().after;
        let answer = |_: &mut Effects| common::CheckDriftResponse {
            checked: 1,
            drifts: Vec::new(),
            next: if after.is_empty() {
                "t_1".to_owned()
            } else {
                String::new()
            },
        };
        self.serve("check_drift", answer).await
    }

    async fn describe(&self, _: Request<common::DescribeRequest>) -> Answer<common::Home> {
        Err(Status::unimplemented("the tenant service does not call this yet"))
    }
}

/// Three records, of which a call removes two.
#[tonic::async_trait]
impl TenantRecordsService for Shared {
    async fn purge_records(
        &self,
        request: Request<common::PurgeRecordsRequest>,
    ) -> Answer<common::PurgeRecordsResponse> {
        let tenant = request.into_inner().tenant_id;
        self.serve("erase", |effects| {
            let removed = effects.erased.entry(tenant).or_default();
            if effects.records_held == 0 {
                *removed = (*removed + 2).min(3);
            }
            effects.records_held = effects.records_held.saturating_sub(1);
            common::PurgeRecordsResponse {
                removed: vec![common::PurgedRecords {
                    kind: "memberships".to_owned(),
                    count: *removed,
                }],
                done: *removed == 3,
            }
        })
        .await
    }
}

#[tonic::async_trait]
impl ProvisioningService for Shared {
    async fn create_first_administrator(
        &self,
        request: Request<auth::CreateFirstAdministratorRequest>,
    ) -> Answer<auth::CreateFirstAdministratorResponse> {
        let operation = request.into_inner().operation_id;
        let act = |effects: &mut Effects| {
            let invitation = effects
                .invitations
                .entry(operation)
                .or_insert_with(InvitationId::generate);
            auth::CreateFirstAdministratorResponse {
                invitation_id: invitation.to_string(),
            }
        };
        self.serve("invite", act).await
    }

    async fn set_tenant_state(
        &self,
        request: Request<auth::SetTenantStateRequest>,
    ) -> Answer<auth::SetTenantStateResponse> {
        let request = request.into_inner();
        let act = |effects: &mut Effects| {
            let new = (request.access(), request.operation_id.clone());
            effects.access.insert(request.tenant_id.clone(), new);
            auth::SetTenantStateResponse { version: 1 }
        };
        self.serve("access", act).await
    }
}
