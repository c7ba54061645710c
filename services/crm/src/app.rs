//! Wiring of the subcommands: pools, peers, actions, gRPC services, and what runs beside them.

mod owner;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures_util::future::{join, join_all};
use rowhouse_audit::{AuditLogRpc, Refusals};
use rowhouse_auth_kit::{AccessTokenVerifier, ServiceVerifier};
use rowhouse_cache::Cache;
use rowhouse_client::{DirectoryClient, Identity, KeysClient, LimitsClient, Peer, Quotas, RightsClient};
use rowhouse_context::ServiceName;
use rowhouse_db::paging::PageTokens;
use rowhouse_db::{ControlDb, TenantDb, TenantDbConfig, database_beside};
use rowhouse_middleware::Security;
use rowhouse_mq::{Broker, DatabasesRelay, OutboxTable, Relay, Wake};
use rowhouse_proto::common::v1::audit_log_service_server::AuditLogServiceServer;
use rowhouse_proto::crm::v1::contact_service_server::ContactServiceServer;
use rowhouse_proto::crm::v1::export_service_server::ExportServiceServer;
use rowhouse_server::{Server, Services};
use rowhouse_telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use crate::audit::HomeLog;
use crate::audit::sealing::Sealing;
use crate::config::ServeConfig;
use crate::contact::actions::Contacts;
use crate::contact::owner::Owners;
use crate::contact::rpc::ContactRpc;
use crate::export::rpc::ExportRpc;
use crate::migrations;

pub use owner::{migrate, provision};

/// Connections of the relay to one data server: one claims rows, one says whose entries are to be sealed, and one is there
/// when another breaks.
const RELAY_CONNECTIONS_MAX: u32 = 3;

/// Schema of the outbox in each data database.
const OUTBOX_SCHEMA: &str = "rowhouse";

/// Events that say what became of a contact to whoever wants to know; today nobody must.
const UNHEARD: &[&str] = &[
    "crm.contact_created.v1",
    "crm.contact_updated.v1",
    "crm.contact_deleted.v1",
    "crm.contact_undeleted.v1",
];

/// The serving process.
#[must_use = "it serves only when run"]
pub struct App {
    server: Server,
    db: TenantDb,
    outboxes: Vec<ControlDb>,
    broker: Broker,
    wake: Wake,
    keys: KeysClient,
    rights: RightsClient,
    quotas: Quotas,
    refusals: Refusals,
    log: HomeLog,
    sealing: Arc<Sealing>,
}

// === impl App ===

impl App {
    /// Wires the process. Nothing is connected yet: the servers and services behind it may start later.
    ///
    /// # Errors
    /// When an address or key cannot be used.
    pub async fn build(config: ServeConfig, metrics: Metrics) -> Result<Self> {
        let broker = Broker::connect(&config.amqp_url)?;
        let cache = Cache::connect(&config.redis_url, &config.redis_prefix)?;
        let identity = Identity::load(ServiceName::Crm, &config.identity).await?;
        let auth = Peer::connect(ServiceName::Auth, &config.auth_addr, &identity)?;
        let tenant = Peer::connect(ServiceName::Tenant, &config.tenant_addr, &identity)?;

        let tokens = Arc::new(AccessTokenVerifier::new(&config.identity.token_issuer));
        let keys = KeysClient::new(&auth, Arc::clone(&tokens));
        let rights = RightsClient::new(&auth, cache.clone());
        let limits = LimitsClient::new(&tenant, cache.clone());
        let quotas = Quotas::new(ServiceName::Crm, limits.clone(), cache.clone());
        let refusals = Refusals::new(ServiceName::Crm);
        let security = Security {
            service: ServiceName::Crm,
            tokens,
            keys: Arc::new(keys.clone()),
            rights: Arc::new(rights.clone()),
            services: Arc::new(ServiceVerifier::new(ServiceName::Crm, &config.identity.keys)?),
            certificates: identity.certificates().cloned(),
            quotas: Some(quotas.clone()),
            refusals: Some(Arc::new(refusals.clone())),
        };

        let master_keys = config.data_master_keys;
        let db = TenantDbConfig {
            participant: ServiceName::Crm,
            urls: config.data_urls.clone(),
            pool_size_max: config.data_connections_max,
            own_databases: config.own_databases,
            master_keys: master_keys.context("ROWHOUSE_DATA_MASTER_KEY is missing")?,
            lanes: config.data_lanes,
            versions: migrations::served(),
        };
        let db = TenantDb::connect(db, Arc::new(DirectoryClient::new(&tenant, ServiceName::Crm, cache))).await?;
        let mut outboxes = Vec::new();
        for url in config.data_relay_urls.values() {
            outboxes.push(ControlDb::connect(url, RELAY_CONNECTIONS_MAX).await?);
        }

        let wake = Wake::new();
        let page_token_key = config
            .page_token_key
            .as_ref()
            .context("ROWHOUSE_PAGE_TOKEN_KEY is missing")?;
        let contacts = Contacts::new(
            db.clone(),
            PageTokens::new(page_token_key.expose()),
            wake.clone(),
            limits,
            Owners::new(Arc::new(rights.clone())),
        );
        let log = HomeLog::new(&db);
        let server = Server::new(ServiceName::Crm, &config.listen, security)
            .public(Services::new().with(ContactServiceServer::new(ContactRpc::new(contacts.clone()))))
            .internal(
                Services::new()
                    .with(ExportServiceServer::new(ExportRpc::new(contacts)))
                    .with(AuditLogServiceServer::new(AuditLogRpc::new(Arc::new(log.clone())))),
            )
            .metrics(metrics);
        Ok(Self {
            server: with_check(server, &db),
            db,
            outboxes,
            broker,
            wake,
            keys,
            rights,
            quotas,
            refusals,
            sealing: Arc::new(Sealing::new(log.clone())),
            log,
        })
    }

    /// Serves until `stop` is cancelled. Calls are finished first; the relays stop after them, so that they still
    /// publish what those wrote.
    ///
    /// # Errors
    /// When a listener's address is not to be had.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let work = CancellationToken::new();
        let relays = self.outboxes.iter().map(|outbox| {
            let table = OutboxTable::new(outbox.pool().clone(), OUTBOX_SCHEMA);
            let relay = Relay::new("crm", table, self.broker.clone(), self.wake.clone());
            relay.may_be_unheard(UNHEARD).run(work.clone())
        });
        let own = self.outboxes.iter().map(|outbox| {
            let (main, broker) = (outbox.pool().clone(), self.broker.clone());
            let sealing = Arc::clone(&self.sealing);
            let relay = DatabasesRelay::new("crm_own", main, database_beside, OUTBOX_SCHEMA, broker, sealing);
            relay.may_be_unheard(UNHEARD).run(work.clone())
        });
        let relays = join(join_all(relays), join_all(own));
        let sealing = self
            .outboxes
            .iter()
            .map(|outbox| self.sealing.run(outbox.pool(), work.clone()));
        let auditing = join(join_all(sealing), self.refusals.run(&self.log, work.clone()));
        let serving = async {
            let served = self.server.run(stop).await;
            work.cancel();
            served
        };
        let (served, (), (), _, _) = tokio::join!(
            serving,
            self.keys.run(work.clone()),
            self.rights.run(work.clone()),
            relays,
            auditing,
        );
        self.quotas.shutdown().await;
        self.broker.close().await;
        for outbox in &self.outboxes {
            outbox.pool().close().await;
        }
        self.db.shutdown().await;
        Ok(served?)
    }
}

fn with_check(server: Server, db: &TenantDb) -> Server {
    let db = db.clone();
    server.ready("data servers", move || {
        let db = db.clone();
        async move { db.ping().await.map_err(|error| error.to_string()) }
    })
}
