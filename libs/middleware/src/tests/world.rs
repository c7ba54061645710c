//! Keys, tokens, rights and services for the tests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use axum::extract::Request as HttpRequest;
use axum::response::Response as HttpResponse;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use rowhouse_auth_kit::token::ACCESS_TOKEN_TYPE;
use rowhouse_auth_kit::{AccessClaims, AccessTokenVerifier, Grants, ServiceSigner, ServiceVerifier, SigningKey};
use rowhouse_client::{KeysSource, Quotas, Rights, RightsError, RightsQuery, RightsSource, Standing};
use rowhouse_context::{Ctx, Owners, Reach, ServiceName};
use rowhouse_proto::crm::v1::contact_service_server::{ContactService, ContactServiceServer};
use rowhouse_proto::crm::v1::export_service_server::{ExportService, ExportServiceServer};
use rowhouse_proto::crm::v1::{
    Contact, CreateContactRequest, DeleteContactRequest, GetContactRequest, ListContactsRequest, ListContactsResponse,
    ReassignContactsRequest, ReassignContactsResponse, StreamContactsRequest, StreamContactsResponse,
    UndeleteContactRequest, UpdateContactRequest,
};
use rowhouse_status::{Failure, Reason};
use rowhouse_types::{SessionId, TenantId, UserId};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::security::{Limits, RefusalLog, Security};
use crate::stack::{Listener, Shared, Stack};

pub(super) const GET: &str = "/rowhouse.crm.v1.ContactService/GetContact";
pub(super) const DELETE: &str = "/rowhouse.crm.v1.ContactService/DeleteContact";
pub(super) const EXPORT: &str = "/rowhouse.crm.v1.ExportService/StreamContacts";
pub(super) const RESOLVE: &str = "/rowhouse.tenant.v1.DirectoryService/Resolve";
pub(super) const LOGIN: &str = "/rowhouse.auth.v1.AuthService/Login";
pub(super) const WHO_AM_I: &str = "/rowhouse.auth.v1.AuthService/WhoAmI";
pub(super) const GET_JWKS: &str = "/rowhouse.auth.v1.AuthService/GetJwks";
pub(super) const CREATE_TENANT: &str = "/rowhouse.tenant.v1.TenantService/CreateTenant";
pub(super) const HEALTH: &str = "/grpc.health.v1.Health/Check";

const ISSUER: &str = "rowhouse";

/// Everything a test may turn.
#[derive(Clone)]
pub(super) struct World {
    pub(super) user: UserId,
    pub(super) session: SessionId,
    pub(super) tenant: TenantId,
    pub(super) other: TenantId,
    pub(super) rights: Arc<FakeRights>,
    pub(super) tasks: TaskTracker,
    pub(super) handler: Arc<Handler>,
    pub(super) limits: Limits,
    pub(super) quotas: Option<Quotas>,
    pub(super) refusals: Option<Arc<dyn RefusalLog>>,
    tokens: Arc<AccessTokenVerifier>,
    keys: Arc<FakeKeys>,
}

/// What a handler of these tests does and saw.
#[derive(Default)]
pub(super) struct Handler {
    pub(super) begun: Notify,
    pub(super) go_on: Notify,
    pub(super) finished: AtomicBool,
    /// The span in which it finished.
    pub(super) span: Mutex<Option<&'static str>>,
}

pub(super) struct FakeRights {
    pub(super) answer: Mutex<Result<Rights, RightsError>>,
    pub(super) asked: Mutex<Vec<RightsQuery>>,
    pub(super) panics: AtomicBool,
}

/// Knows one key that the verifier learns only when asked to.
pub(super) struct FakeKeys {
    late: SigningKey,
    first: SigningKey,
    verifier: Arc<AccessTokenVerifier>,
    pub(super) refreshed: AtomicUsize,
}

// === impl World ===

impl World {
    pub(super) fn new() -> Self {
        let tokens = Arc::new(AccessTokenVerifier::new(ISSUER));
        let keys = FakeKeys {
            first: SigningKey::from_seed(&[1; 32]).unwrap(),
            late: SigningKey::from_seed(&[2; 32]).unwrap(),
            verifier: Arc::clone(&tokens),
            refreshed: AtomicUsize::new(0),
        };
        tokens.set_keys([("first".to_owned(), keys.first.public())]);
        Self {
            user: UserId::generate(),
            session: SessionId::generate(),
            tenant: TenantId::generate(),
            other: TenantId::generate(),
            rights: Arc::new(FakeRights {
                answer: Mutex::new(Ok(rights(Standing::Good, &["*:*"]))),
                asked: Mutex::default(),
                panics: AtomicBool::new(false),
            }),
            tasks: TaskTracker::new(),
            handler: Arc::default(),
            limits: Limits {
                concurrency_max: 64,
                deadline_max: Duration::from_secs(30),
                trusted_hops: 0,
            },
            quotas: None,
            refusals: None,
            tokens,
            keys: Arc::new(keys),
        }
    }

    pub(super) fn security(&self) -> Security {
        let keys: BTreeMap<String, String> = ServiceName::ALL
            .into_iter()
            .map(|name| (name.to_string(), service_key(name).public().to_base64url()))
            .collect();
        Security {
            service: ServiceName::Crm,
            tokens: Arc::clone(&self.tokens),
            keys: self.keys.clone(),
            rights: self.rights.clone(),
            services: Arc::new(ServiceVerifier::new(ServiceName::Crm, &keys).unwrap()),
            certificates: None,
            quotas: self.quotas.clone(),
            refusals: self.refusals.clone(),
        }
    }

    pub(super) fn shared(&self, listener: Listener) -> Shared {
        Shared::new(listener, self.security(), self.limits, self.tasks.clone())
    }

    /// Contacts and exports of the contract; whatever else comes through is answered with what the stack found out.
    pub(super) fn routes(&self) -> Routes {
        let services = Routes::new(ContactServiceServer::from_arc(Arc::clone(&self.handler)))
            .add_service(ExportServiceServer::from_arc(Arc::clone(&self.handler)));
        services.into_axum_router().fallback(echo).into()
    }

    pub(super) fn public(&self) -> Stack {
        crate::stack::public(self.routes(), self.security(), self.limits, self.tasks.clone())
    }

    pub(super) fn internal(&self) -> Stack {
        crate::stack::internal(self.routes(), self.security(), self.limits, self.tasks.clone())
    }

    pub(super) fn member(&self) -> String {
        self.signed(&self.claims(Some(self.tenant)))
    }

    pub(super) fn operator(&self) -> String {
        self.signed(&self.claims(None))
    }

    pub(super) fn delegate(&self, service: ServiceName, operator: bool) -> String {
        let job = (service, "report_1");
        self.signed(&AccessClaims::for_job(
            ISSUER,
            (self.user, operator),
            self.tenant,
            job,
            now_s(),
            300,
        ))
    }

    pub(super) fn claims(&self, tenant: Option<TenantId>) -> AccessClaims {
        AccessClaims::for_session(ISSUER, self.user, self.session, tenant, now_s(), 300)
    }

    pub(super) fn signed(&self, claims: &AccessClaims) -> String {
        self.keys.first.sign(ACCESS_TOKEN_TYPE, "first", claims).unwrap()
    }

    /// A good token of a key that the verifier has not heard of.
    pub(super) fn of_late_key(&self) -> String {
        let claims = self.claims(Some(self.tenant));
        self.keys.late.sign(ACCESS_TOKEN_TYPE, "late", &claims).unwrap()
    }

    pub(super) fn keys(&self) -> &FakeKeys {
        &self.keys
    }

    pub(super) fn forget_keys(&self) {
        self.tokens.set_keys([]);
    }

    pub(super) fn set_rights(&self, answer: Result<Rights, RightsError>) {
        *self.rights.answer.lock().unwrap() = answer;
    }

    pub(super) fn asked(&self) -> Vec<RightsQuery> {
        self.rights.asked.lock().unwrap().clone()
    }
}

pub(super) fn rights(standing: Standing, grants: &[&str]) -> Rights {
    Rights {
        version: 1,
        standing,
        roles: vec!["user".to_owned()],
        grants: Grants::read(grants),
        team: Owners::from_iter([]),
    }
}

fn service_key(name: ServiceName) -> SigningKey {
    SigningKey::from_seed(&service_seed(name)).unwrap()
}

fn service_seed(name: ServiceName) -> [u8; 32] {
    [100 + name.as_str().as_bytes()[0] % 100; 32]
}

/// A token of `name` for `audience`.
pub(super) fn service_token(name: ServiceName, audience: ServiceName) -> String {
    let signer = ServiceSigner::new(name, &service_seed(name)).unwrap();
    signer.token(audience).unwrap()
}

pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Answers OK with what the stack found out.
async fn echo(request: HttpRequest) -> HttpResponse {
    let ctx = request.extensions().get::<Ctx>().cloned();
    let mut response = Status::ok("").into_http::<axum::body::Body>();
    if let Some(ctx) = ctx {
        let headers = response.headers_mut();
        let tenant = ctx.tenant_opt().map(|tenant| tenant.to_string()).unwrap_or_default();
        headers.insert("x-seen-tenant", tenant.parse().unwrap());
        headers.insert("x-seen-actor", ctx.principal().actor().parse().unwrap());
        headers.insert("x-seen-reason", ctx.reason().unwrap_or_default().parse().unwrap());
    }
    response
}

// === impl FakeRights, FakeKeys ===

#[async_trait]
impl RightsSource for FakeRights {
    async fn rights(&self, _: &Ctx, query: &RightsQuery) -> Result<Arc<Rights>, RightsError> {
        assert!(!self.panics.load(Ordering::SeqCst), "the rights panic");
        self.asked.lock().unwrap().push(*query);
        self.answer.lock().unwrap().clone().map(Arc::new)
    }
}

#[async_trait]
impl KeysSource for FakeKeys {
    async fn refresh(&self) {
        self.refreshed.fetch_add(1, Ordering::SeqCst);
        if self.verifier.key_count() > 0 {
            let keys = [("first", &self.first), ("late", &self.late)];
            self.verifier
                .set_keys(keys.map(|(kid, key)| (kid.to_owned(), key.public())));
        }
    }
}

// === impl Handler ===

impl Handler {
    /// Waits until the test says so, and notes that it came to its end.
    async fn wait(&self) {
        self.begun.notify_one();
        self.go_on.notified().await;
        *self.span.lock().unwrap() = tracing::Span::current().metadata().map(|span| span.name());
        self.finished.store(true, Ordering::SeqCst);
    }
}

/// Calls by the contact's id: `panic`, `wait`, `foreign`, `incomplete`; otherwise answers what the stack handed over.
#[tonic::async_trait]
impl ContactService for Handler {
    async fn get_contact(&self, request: Request<GetContactRequest>) -> Result<Response<Contact>, Status> {
        let ctx = crate::ctx(&request)?;
        let permissions = crate::rights(&request).map(|rights| rights.grants.to_strings());
        match request.get_ref().id.as_str() {
            "panic" => panic!("a secret"),
            "wait" => self.wait().await,
            "foreign" => return Err(Status::internal("relation t_17.contacts does not exist")),
            "incomplete" => return Err(Status::not_found("gone")),
            _ => {}
        }
        Ok(Response::new(Contact {
            id: ctx.request_id().to_string(),
            owner_id: ctx.principal().actor(),
            company: ctx.tenant().map(|tenant| tenant.to_string()).unwrap_or_default(),
            job_title: ctx.reason().unwrap_or_default().to_owned(),
            phone: permissions.unwrap_or_default().join(" "),
            email: match ctx.reach() {
                Reach::All => "all".to_owned(),
                Reach::Owners(owners) => owners.iter().map(|owner| format!("{owner} ")).collect(),
            },
            ..Contact::default()
        }))
    }

    async fn create_contact(&self, _: Request<CreateContactRequest>) -> Result<Response<Contact>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_contacts(&self, _: Request<ListContactsRequest>) -> Result<Response<ListContactsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn update_contact(&self, _: Request<UpdateContactRequest>) -> Result<Response<Contact>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn delete_contact(&self, _: Request<DeleteContactRequest>) -> Result<Response<Contact>, Status> {
        Ok(Response::new(Contact::default()))
    }

    async fn undelete_contact(&self, _: Request<UndeleteContactRequest>) -> Result<Response<Contact>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn reassign_contacts(
        &self,
        _: Request<ReassignContactsRequest>,
    ) -> Result<Response<ReassignContactsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// Streams one page; what comes then is chosen by the request id: `fails`, `panics`, `endless`, or the end.
#[tonic::async_trait]
impl ExportService for Handler {
    type StreamContactsStream = BoxStream<'static, Result<StreamContactsResponse, Status>>;

    async fn stream_contacts(
        &self,
        request: Request<StreamContactsRequest>,
    ) -> Result<Response<Self::StreamContactsStream>, Status> {
        let ctx = crate::ctx(&request)?;
        let first = stream::once(async { Ok(StreamContactsResponse::default()) });
        let rest: Self::StreamContactsStream = match ctx.request_id().as_str() {
            "fails" => stream::once(async { Err(Failure::new(Reason::SessionRevoked, "ended").into()) }).boxed(),
            "fails-bare" => stream::once(async { Err(Status::internal("relation t_17")) }).boxed(),
            "panics" => stream::once(async { panic!("a secret") }).boxed(),
            "endless" => stream::pending().boxed(),
            _ => stream::empty().boxed(),
        };
        Ok(Response::new(first.chain(rest).boxed()))
    }
}
