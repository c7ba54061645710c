//! A database of its own, the fakes, and processes of this service that can be killed.

use std::collections::BTreeMap;
use std::time::Duration;

use rowhouse_auth_kit::ServiceSigner;
use rowhouse_cache::Cache;
use rowhouse_client::Peer;
use rowhouse_config::Secret;
use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_db::paging::PageTokens;
use rowhouse_devkit::cluster;
use rowhouse_devkit::fixture::{self, Databases};
use rowhouse_devkit::servers::Login;
use rowhouse_mq::Wake;
use rowhouse_types::{OperationId, Placement, SessionId, TenantId, UserId};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::fakes::Fakes;
use crate::error::Result;
use crate::migration::actions::Migrations;
use crate::migration::runner::Runner;
use crate::migration::versions::Versions;
use crate::operation::peers::Peers;
use crate::operation::saga::Sagas;
use crate::operation::{Kind, store};
use crate::plan::spread::Spread;
use crate::server::actions::Servers;
use crate::server::{Address, Capacity, Labels, PLACEMENTS, Traits, Wish};
use crate::spare::filler::Filler;
use crate::spare::{Refill, Wanted};
use crate::tenant::actions::Tenants;
use crate::tenant::{NewTenant, Reason, Tenant};

/// Long enough for anything on a busy machine; only a test that fails waits for it.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// How long a deleted tenant can be undeleted.
pub(crate) const GRACE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What one test works with.
pub(crate) struct Bench {
    /// With the service's login.
    pub(crate) pool: PgPool,
    /// With a superuser's login, for looking and for planting faults.
    pub(crate) superuser: PgPool,
    pub(crate) fakes: Fakes,
    pub(crate) sagas: Sagas,
    pub(crate) tenants: Tenants,
    pub(crate) servers: Servers,
    pub(crate) migrations: Migrations,
    pub(crate) peers: Peers,
    databases: Databases,
}

/// An entry of the log: what was done, how it went, who did it, and why.
pub(crate) type Audited = (String, String, String, Option<String>);

/// A process of this service: a runtime, and everything that runs on it.
pub(crate) struct Process {
    runtime: Runtime,
    tenants: Tenants,
    pool: PgPool,
    refill: Refill,
    migrations: Runner,
}

// === impl Bench ===

impl Bench {
    pub(crate) async fn start(name: &str) -> Self {
        let databases = Databases::create_only(cluster::Kind::Control, name).await.unwrap();
        let fakes = Fakes::start().await;
        let pool = connect(&databases.control_url(Login::ControlTenant)).await;
        let superuser = connect(&databases.control_superuser_url()).await;
        let (sagas, tenants, servers, peers) = service(pool.clone(), &fakes, Refill::new());
        let migrations = Migrations::new(pool.clone(), peers.clone(), PageTokens::new(&[9; 32]));
        // The template's server is that of whole suites. As `migrate` does, without an operator.
        sqlx::query("DELETE FROM tenant.servers")
            .execute(&superuser)
            .await
            .unwrap();
        let mut connection = pool.acquire().await.unwrap();
        let data1 = crate::server::store::insert(&mut connection, &server("data1", 5_000)).await;
        assert!(data1.unwrap().is_some());
        drop(connection);
        Self {
            pool,
            superuser,
            fakes,
            sagas,
            tenants,
            servers,
            migrations,
            peers,
            databases,
        }
    }

    /// Starts another process of this service.
    pub(crate) async fn process(&self) -> Process {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let url = self.databases.control_url(Login::ControlTenant);
        let pool = runtime.spawn(async move { connect(&url).await }).await.unwrap();
        // Peers connect on the runtime that made them.
        let _inside = runtime.enter();
        let refill = Refill::new();
        let (_, tenants, _, peers) = service(pool.clone(), &self.fakes, refill.clone());
        let migrations = Runner::new(pool.clone(), peers);
        drop(_inside);
        Process {
            runtime,
            tenants,
            pool,
            refill,
            migrations,
        }
    }

    /// A filler of one server, of placement `schema` alone.
    pub(crate) fn filler(&self, wanted: u16) -> Filler {
        self.filler_of(schemas(wanted))
    }

    pub(crate) fn filler_of(&self, wanted: Wanted) -> Filler {
        filler(self.pool.clone(), &self.fakes, Refill::new(), wanted)
    }

    /// What carries migrations on in this process.
    pub(crate) fn migration_runner(&self) -> Runner {
        Runner::new(self.pool.clone(), self.peers.clone())
    }

    /// What keeps the directory's versions up in this process.
    pub(crate) fn versions(&self) -> Versions {
        Versions::new(self.pool.clone(), self.peers.clone())
    }

    /// Lets every lease and every pause after a failure be over, as if time had passed.
    pub(crate) async fn let_time_pass(&self) {
        sqlx::query(
            "UPDATE tenant.operations SET next_at = now(),
                 lease_until = CASE WHEN lease_id IS NULL THEN NULL ELSE now() END
             WHERE finished_at IS NULL",
        )
        .execute(&self.superuser)
        .await
        .unwrap();
        sqlx::query(
            "UPDATE tenant.spares SET next_at = now(),
                 lease_until = CASE WHEN lease_id IS NULL THEN NULL ELSE now() END",
        )
        .execute(&self.superuser)
        .await
        .unwrap();
    }

    /// The operation that runs for the tenant with this slug, or the last one that ran.
    pub(crate) async fn operation(&self, slug: &str) -> OperationId {
        let id: Uuid = sqlx::query_scalar(
            "SELECT operation_id FROM tenant.operations JOIN tenant.tenants USING (tenant_id)
             WHERE slug = $1 ORDER BY operations.created_at DESC LIMIT 1",
        )
        .bind(slug)
        .fetch_one(&self.superuser)
        .await
        .unwrap();
        OperationId::from_uuid(id)
    }

    /// Waits until the tenant's operation is done.
    pub(crate) async fn settled(&self, slug: &str) -> Tenant {
        let operation = self.operation(slug).await;
        let settled = self.sagas.settle(operation, None, Instant::now() + LONG).await;
        settled.unwrap().expect("the operation ends")
    }

    /// How many rows a statement counts.
    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.superuser).await.unwrap()
    }

    /// What a tenant's log, or the platform's, says of a target, the oldest first.
    pub(crate) async fn audited(&self, log: Option<TenantId>, target: impl ToString) -> Vec<Audited> {
        let entries = sqlx::query_as(
            "SELECT action, outcome, actor, reason FROM tenant.audit
             WHERE tenant_id IS NOT DISTINCT FROM $1 AND target = $2 ORDER BY audit_id",
        );
        let entries = entries.bind(log.map(|tenant| tenant.uuid())).bind(target.to_string());
        entries.fetch_all(&self.superuser).await.unwrap()
    }

    /// How often the failing step was tried, and the last error.
    pub(crate) async fn failures(&self, operation: OperationId) -> (i32, Option<String>) {
        sqlx::query_as("SELECT attempts, last_error FROM tenant.operations WHERE operation_id = $1")
            .bind(operation.uuid())
            .fetch_one(&self.superuser)
            .await
            .unwrap()
    }

    /// Claims the operation of a tenant, as another process would.
    pub(crate) async fn claim(&self, slug: &str) -> Option<crate::operation::Held> {
        store::claim(&self.pool, Some(self.operation(slug).await))
            .await
            .unwrap()
    }
}

// === impl Process ===

impl Process {
    /// Begins to create a tenant.
    pub(crate) fn create(&self, slug: &str) -> JoinHandle<Result<Tenant>> {
        let (tenants, new) = (self.tenants.clone(), new_tenant(slug));
        self.runtime.spawn(async move { tenants.create(&ctx(LONG), new).await })
    }

    /// Begins an operation on a tenant.
    pub(crate) fn turn(&self, tenant: TenantId, kind: Kind) -> JoinHandle<Result<Tenant>> {
        let tenants = self.tenants.clone();
        self.runtime.spawn(async move { turn(&tenants, tenant, kind).await })
    }

    /// Begins to keep the server's spares at `wanted`, until the token is cancelled.
    pub(crate) fn fill(&self, fakes: &Fakes, wanted: u16) -> CancellationToken {
        let _inside = self.runtime.enter();
        let filler = filler(self.pool.clone(), fakes, self.refill.clone(), schemas(wanted));
        let stop = CancellationToken::new();
        self.runtime.spawn(filler.run(stop.clone()));
        stop
    }

    /// Takes on the migrations that are due.
    pub(crate) async fn carry_on_migrations(&self) {
        let migrations = self.migrations.clone();
        let looking = self.runtime.spawn(async move { migrations.look().await });
        looking.await.unwrap().unwrap();
    }

    /// Ends everything that runs in it, wherever it is.
    pub(crate) fn kill(self) {
        self.runtime.shutdown_background();
    }
}

/// An operator orders an operation on a tenant that exists.
pub(crate) async fn turn(tenants: &Tenants, id: TenantId, kind: Kind) -> Result<Tenant> {
    turn_as(tenants, &ctx(LONG), id, (kind, "test")).await
}

/// This operator does, for this reason.
pub(crate) async fn turn_as(tenants: &Tenants, ctx: &Ctx, id: TenantId, (kind, why): (Kind, &str)) -> Result<Tenant> {
    let reason = Reason::parse_required(why).unwrap();
    match kind {
        Kind::Provision => panic!("begins with the tenant itself"),
        Kind::Suspend => tenants.suspend(ctx, id, &reason).await,
        Kind::Resume => tenants.resume(ctx, id, &reason).await,
        Kind::Restrict => tenants.set_read_only(ctx, id, &reason).await,
        Kind::Delete => tenants.delete(ctx, id, &reason, None).await,
        Kind::Undelete => tenants.undelete(ctx, id, &reason).await,
        Kind::Purge => {
            let slug = tenants.get(id).await?.slug;
            tenants.purge(ctx, id, &reason, &slug).await
        }
    }
}

/// An entry as [`Bench::audited`] tells it, of this caller.
pub(crate) fn entry(ctx: &Ctx, action: &str, outcome: &str, why: Option<&str>) -> Audited {
    let actor = ctx.principal().actor();
    (action.to_owned(), outcome.to_owned(), actor, why.map(str::to_owned))
}

/// An operator's call with so much time.
pub(crate) fn ctx(time: Duration) -> Ctx {
    let principal = Principal::Operator {
        user: UserId::generate(),
        session: SessionId::generate(),
    };
    Ctx::new(RequestId::generate(), principal, None, Instant::now() + time)
}

/// A tenant to be created.
pub(crate) fn new_tenant(slug: &str) -> NewTenant {
    NewTenant {
        plan: crate::plan::PlanName::standard(),
        slug: slug.parse().unwrap(),
        display_name: crate::tenant::DisplayName::parse_required(&format!("{slug} Ltd")).unwrap(),
        server: Wish {
            placement: Placement::Schema,
            labels: Labels::default(),
        },
        administrator: "ada@example.com".parse().unwrap(),
        request: None,
    }
}

/// A data server that takes so many tenants, of any placement.
pub(crate) fn server(name: &str, tenants_max: i32) -> Traits {
    Traits {
        name: name.parse().unwrap(),
        address: Address::default(),
        labels: Labels::default(),
        placements: PLACEMENTS.to_vec(),
        tenants_max: Capacity::parse(tenants_max).unwrap(),
    }
}

async fn connect(url: &str) -> PgPool {
    PgPoolOptions::new().max_connections(8).connect(url).await.unwrap()
}

/// Redis, as all services of this test see it.
pub(crate) fn cache() -> Cache {
    let url = Secret::new(fixture::servers().unwrap().redis_url());
    Cache::connect(&url, "rowhouse-tenant-tests").unwrap()
}

fn peers(fakes: &Fakes) -> Peers {
    let address = format!("http://{}", fakes.address);
    let identity = ServiceSigner::new(ServiceName::Tenant, &[7; 32]).unwrap().into();
    let auth = Peer::connect(ServiceName::Auth, &address, &identity).unwrap();
    let crm = Peer::connect(ServiceName::Crm, &address, &identity).unwrap();
    let keepers = BTreeMap::from([(ServiceName::Auth, auth.clone())]);
    Peers::new(auth, BTreeMap::from([(ServiceName::Crm, crm)]), keepers, cache())
}

fn schemas(schemas: u16) -> Wanted {
    let databases = 0;
    Wanted { schemas, databases }
}

fn filler(pool: PgPool, fakes: &Fakes, refill: Refill, wanted: Wanted) -> Filler {
    Filler::new(pool, peers(fakes), refill, wanted)
}

fn service(pool: PgPool, fakes: &Fakes, refill: Refill) -> (Sagas, Tenants, Servers, Peers) {
    let peers = peers(fakes);
    let spread = Spread::new(pool.clone(), peers.clone());
    let sagas = Sagas::new(pool.clone(), peers.clone(), spread, Wake::new());
    let tokens = PageTokens::new(&[9; 32]);
    let tenants = Tenants::new(pool.clone(), sagas.clone(), tokens.clone(), refill, GRACE);
    let servers = Servers::new(pool, peers.clone(), tokens);
    (sagas, tenants, servers, peers)
}
