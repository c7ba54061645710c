//! Wiring: pools, peers, actions, gRPC services, and what runs beside them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rowhouse_audit::{AuditLogRpc, ControlLog, Refusals, sealer};
use rowhouse_auth_kit::{AccessTokenVerifier, ServiceVerifier};
use rowhouse_cache::Cache;
use rowhouse_client::{Identity, KeysClient, Peer, RightsClient};
use rowhouse_context::ServiceName;
use rowhouse_db::ControlDb;
use rowhouse_db::paging::PageTokens;
use rowhouse_middleware::Security;
use rowhouse_mq::{Broker, OutboxTable, Relay, Wake};
use rowhouse_proto::common::v1::audit_log_service_server::AuditLogServiceServer;
use rowhouse_proto::common::v1::platform_audit_log_service_server::PlatformAuditLogServiceServer;
use rowhouse_proto::tenant::v1::directory_service_server::DirectoryServiceServer;
use rowhouse_proto::tenant::v1::migration_service_server::MigrationServiceServer;
use rowhouse_proto::tenant::v1::plan_service_server::PlanServiceServer;
use rowhouse_proto::tenant::v1::server_service_server::ServerServiceServer;
use rowhouse_proto::tenant::v1::tenant_service_server::TenantServiceServer;
use rowhouse_server::{Server, Services};
use rowhouse_telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use crate::audit;
use crate::config::{MigrateConfig, ServeConfig};
use crate::directory::rpc::DirectoryRpc;
use crate::migration::actions::Migrations;
use crate::migration::rpc::MigrationRpc;
use crate::migration::runner::Runner;
use crate::migration::versions::Versions;
use crate::operation::peers::Peers;
use crate::operation::runner;
use crate::operation::saga::Sagas;
use crate::plan::actions::Plans;
use crate::plan::rpc::PlanRpc;
use crate::plan::spread::Spread;
use crate::purge;
use crate::request;
use crate::server;
use crate::server::actions::Servers;
use crate::server::rpc::ServerRpc;
use crate::spare::filler::Filler;
use crate::spare::{Refill, Wanted};
use crate::tenant::actions::Tenants;
use crate::tenant::rpc::TenantRpc;

/// Connections to the control database. Each call holds one for a statement or a short transaction.
const CONTROL_CONNECTIONS_MAX: u32 = 16;

const SECONDS_A_DAY: u64 = 24 * 60 * 60;

/// Schema of this service in the control database.
const SCHEMA: &str = "tenant";

/// Events that say what became of a tenant to whoever wants to know; today nobody must.
const UNHEARD: &[&str] = &[
    "tenant.activated.v1",
    "tenant.deleted.v1",
    "tenant.undeleted.v1",
    "tenant.purged.v1",
];

/// The serving process.
#[must_use = "it serves only when run"]
pub struct App {
    server: Server,
    control: ControlDb,
    broker: Broker,
    sagas: Sagas,
    tenants: Tenants,
    migrations: Runner,
    versions: Versions,
    spread: Spread,
    filler: Filler,
    wake: Wake,
    keys: KeysClient,
    rights: RightsClient,
    refusals: Refusals,
    log: ControlLog,
}

// === impl App ===

impl App {
    /// Wires the process. Nothing is connected yet: the servers and services behind it may start later.
    ///
    /// # Errors
    /// When an address or key cannot be used.
    pub async fn build(config: ServeConfig, metrics: Metrics) -> Result<Self> {
        let control = ControlDb::connect(&config.control_url, CONTROL_CONNECTIONS_MAX).await?;
        let broker = Broker::connect(&config.amqp_url)?;
        let cache = Cache::connect(&config.redis_url, &config.redis_prefix)?;
        let identity = Identity::load(ServiceName::Tenant, &config.identity).await?;
        let auth = Peer::connect(ServiceName::Auth, &config.auth_addr, &identity)?;
        let worker = Peer::connect(ServiceName::Worker, &config.worker_addr, &identity)?;
        // One for each service that keeps records of tenants outside their homes.
        let keepers = BTreeMap::from([(ServiceName::Auth, auth.clone()), (ServiceName::Worker, worker)]);
        // One line for each service that holds tenants' data.
        let participants = [(ServiceName::Crm, &config.crm_provision_addr)];
        let participants: BTreeMap<ServiceName, Peer> = participants
            .into_iter()
            .map(|(name, address)| Ok((name, Peer::connect(name, address, &identity)?)))
            .collect::<Result<_>>()?;

        let tokens = Arc::new(AccessTokenVerifier::new(&config.identity.token_issuer));
        let keys = KeysClient::new(&auth, tokens.clone());
        let rights = RightsClient::new(&auth, cache.clone());
        let refusals = Refusals::new(ServiceName::Tenant);
        let log = ControlLog::new(control.pool().clone(), audit::TABLE);
        let security = Security {
            service: ServiceName::Tenant,
            tokens,
            keys: Arc::new(keys.clone()),
            rights: Arc::new(rights.clone()),
            services: Arc::new(ServiceVerifier::new(ServiceName::Tenant, &config.identity.keys)?),
            certificates: identity.certificates().cloned(),
            // It serves operators, and no tenant's members.
            quotas: None,
            refusals: Some(Arc::new(refusals.clone())),
        };

        let wake = Wake::new();
        let peers = Peers::new(auth, participants, keepers, cache.clone());
        let spread = Spread::new(control.pool().clone(), peers.clone());
        let sagas = Sagas::new(control.pool().clone(), peers.clone(), spread.clone(), wake.clone());
        let refill = Refill::new();
        let wanted = Wanted {
            schemas: config.spares,
            databases: config.spare_databases,
        };
        let filler = Filler::new(control.pool().clone(), peers.clone(), refill.clone(), wanted);
        let page_token_key = config.page_token_key.context("ROWHOUSE_PAGE_TOKEN_KEY is missing")?;
        let tokens = PageTokens::new(page_token_key.expose());
        let grace = Duration::from_secs(u64::from(config.delete_grace_days.get()) * SECONDS_A_DAY);
        let tenants = Tenants::new(control.pool().clone(), sagas.clone(), tokens.clone(), refill, grace);
        let runner = Runner::new(control.pool().clone(), peers.clone());
        let versions = Versions::new(control.pool().clone(), peers.clone());
        let migrations = Migrations::new(control.pool().clone(), peers.clone(), tokens.clone());
        let servers = Servers::new(control.pool().clone(), peers, tokens.clone());
        let plans = Plans::new(control.pool().clone(), tokens, spread.clone());
        let public = Services::new()
            .with(TenantServiceServer::new(TenantRpc::new(tenants.clone())))
            .with(ServerServiceServer::new(ServerRpc::new(servers)))
            .with(PlanServiceServer::new(PlanRpc::new(plans)))
            .with(MigrationServiceServer::new(MigrationRpc::new(migrations)));
        let directory = DirectoryRpc::new(control.pool().clone());
        let internal = Services::new()
            .with(DirectoryServiceServer::new(directory))
            .with(AuditLogServiceServer::new(AuditLogRpc::new(Arc::new(log.clone()))))
            .with(PlatformAuditLogServiceServer::new(AuditLogRpc::new(Arc::new(
                log.clone(),
            ))));
        let ready = control.clone();
        let server = Server::new(ServiceName::Tenant, &config.listen, security)
            .public(public)
            .internal(internal)
            .metrics(metrics)
            .ready("control database", move || {
                let control = ready.clone();
                async move { control.ping().await.map_err(|error| error.to_string()) }
            });
        Ok(Self {
            server,
            control,
            broker,
            sagas,
            tenants,
            migrations: runner,
            versions,
            spread,
            filler,
            wake,
            keys,
            rights,
            refusals,
            log,
        })
    }

    /// Serves until `stop` is cancelled. Calls are finished first; then operations are left for the next process, and
    /// at last the relay stops, so that it still publishes what they wrote.
    ///
    /// # Errors
    /// When a listener's address is not to be had.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let pool = self.control.pool().clone();
        let outbox = OutboxTable::new(pool.clone(), SCHEMA);
        let relay = Relay::new("tenant", outbox, self.broker.clone(), self.wake).may_be_unheard(UNHEARD);
        let (work, relaying) = (CancellationToken::new(), CancellationToken::new());
        let serving = async {
            let served = self.server.run(stop).await;
            work.cancel();
            self.sagas.stop().await;
            self.migrations.stop().await;
            relaying.cancel();
            served
        };
        let (served, (), (), (), (), (), (), (), (), (), (), (), ()) = tokio::join!(
            serving,
            sealer::run(self.log.clone(), relaying.clone()),
            self.refusals.run(&self.log, relaying.clone()),
            runner::run(pool.clone(), self.sagas.clone(), work.clone()),
            request::forget(pool, work.clone()),
            purge::runner::run(self.tenants.clone(), work.clone()),
            self.migrations.run(work.clone()),
            self.versions.run(work.clone()),
            self.spread.run(work.clone()),
            self.filler.run(work.clone()),
            self.keys.run(work.clone()),
            self.rights.run(work.clone()),
            relay.run(relaying.clone()),
        );
        self.broker.close().await;
        self.control.shutdown().await;
        Ok(served?)
    }

    /// Brings schema `tenant` of the control database to the newest version, and registers those of the configured data
    /// servers that the directory does not know: a new deployment can take tenants at once.
    ///
    /// # Errors
    /// When the database does not answer, or a migration fails; then none of it is applied.
    pub async fn migrate(config: &MigrateConfig) -> Result<()> {
        rowhouse_db::migrate_control(&config.control_owner_url, SCHEMA, &crate::MIGRATIONS)
            .await
            .context("the control database was not migrated")?;
        let owner = ControlDb::connect(&config.control_owner_url, 1).await?;
        let mut connection = owner.pool().acquire().await?;
        for traits in &config.data_servers {
            if server::store::insert(&mut connection, traits).await?.is_some() {
                tracing::info!(server = %traits.name, "a data server was registered");
            }
        }
        drop(connection);
        owner.shutdown().await;
        Ok(())
    }
}
