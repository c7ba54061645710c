//! Wiring: pools, keys, actions, gRPC services, and what runs beside them.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rowhouse_audit::{ControlLog, Refusals, sealer};
use rowhouse_auth_kit::{AccessTokenVerifier, ServiceVerifier};
use rowhouse_cache::Cache;
use rowhouse_client::{Identity, LimitsClient, Peer, Quotas, RightsClient};
use rowhouse_config::Secret;
use rowhouse_context::ServiceName;
use rowhouse_db::ControlDb;
use rowhouse_db::paging::PageTokens;
use rowhouse_middleware::Security;
use rowhouse_mq::{Broker, OutboxTable, Relay, Wake};
use rowhouse_proto::auth::v1::account_service_server::AccountServiceServer;
use rowhouse_proto::auth::v1::audit_service_server::AuditServiceServer;
use rowhouse_proto::auth::v1::auth_service_server::AuthServiceServer;
use rowhouse_proto::auth::v1::authz_service_server::AuthzServiceServer;
use rowhouse_proto::auth::v1::catalog_service_server::CatalogServiceServer;
use rowhouse_proto::auth::v1::delegation_service_server::DelegationServiceServer;
use rowhouse_proto::auth::v1::impersonation_service_server::ImpersonationServiceServer;
use rowhouse_proto::auth::v1::key_service_server::KeyServiceServer;
use rowhouse_proto::auth::v1::login_policy_service_server::LoginPolicyServiceServer;
use rowhouse_proto::auth::v1::mail_data_service_server::MailDataServiceServer;
use rowhouse_proto::auth::v1::member_service_server::MemberServiceServer;
use rowhouse_proto::auth::v1::operator_service_server::OperatorServiceServer;
use rowhouse_proto::auth::v1::platform_audit_service_server::PlatformAuditServiceServer;
use rowhouse_proto::auth::v1::provisioning_service_server::ProvisioningServiceServer;
use rowhouse_proto::auth::v1::recovery_service_server::RecoveryServiceServer;
use rowhouse_proto::auth::v1::rights_service_server::RightsServiceServer;
use rowhouse_proto::auth::v1::role_service_server::RoleServiceServer;
use rowhouse_proto::auth::v1::service_account_service_server::ServiceAccountServiceServer;
use rowhouse_proto::auth::v1::team_service_server::TeamServiceServer;
use rowhouse_proto::common::v1::tenant_records_service_server::TenantRecordsServiceServer;
use rowhouse_server::{Server, Services};
use rowhouse_telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use crate::account::{AccountRpc, RecoveryRpc};
use crate::attempt::origin::ClosedOrigins;
use crate::audit;
use crate::audit::logs::Logs;
use crate::audit::peer::RemoteLog;
use crate::audit::rpc::AuditRpc;
use crate::authz::AuthzRpc;
use crate::catalog::CatalogRpc;
use crate::config::{MigrateConfig, ServeConfig};
use crate::delegation::DelegationRpc;
use crate::identity::Hasher;
use crate::impersonation::ImpersonationRpc;
use crate::key::{self, KeyRpc, OwnKeys, Signing};
use crate::link::LinkTokens;
use crate::login_policy::LoginPolicyRpc;
use crate::mail::MailDataRpc;
use crate::master::{self, Purpose};
use crate::member::MemberRpc;
use crate::operator::OperatorRpc;
use crate::purge::RecordsRpc;
use crate::rights::{Clock, OwnRights, RightsRpc};
use crate::role::RoleRpc;
use crate::service_account::ServiceAccountRpc;
use crate::session::AuthRpc;
use crate::state::State;
use crate::team::TeamRpc;
use crate::tenant::ProvisioningRpc;
use crate::{housekeeping, rights};

/// Connections to the control database. A call holds one for a statement or a short transaction, and none while it
/// waits or hashes.
const CONTROL_CONNECTIONS_MAX: u32 = 16;

/// Schema of this service in the control database.
pub(crate) const SCHEMA: &str = "auth";

/// The serving process.
#[must_use = "it serves only when run"]
pub struct App {
    server: Server,
    state: Arc<State>,
    keys: OwnKeys,
    rights: RightsClient,
    quotas: Quotas,
    refusals: Refusals,
    log: ControlLog,
    broker: Broker,
}

// === impl App ===

impl App {
    /// Wires the process. Nothing is connected yet: the servers behind it may start later.
    ///
    /// # Errors
    /// When an address or key cannot be used.
    pub async fn build(config: ServeConfig, metrics: Metrics) -> Result<Self> {
        let broker = Broker::connect(&config.amqp_url)?;
        let cache = Cache::connect(&config.redis_url, &config.redis_prefix)?;
        let identity = Identity::load(ServiceName::Auth, &config.identity).await?;
        let tenant = Peer::connect(ServiceName::Tenant, &config.tenant_addr, &identity)?;
        let crm = Peer::connect(ServiceName::Crm, &config.crm_addr, &identity)?;
        let worker = Peer::connect(ServiceName::Worker, &config.worker_addr, &identity)?;
        let limits = LimitsClient::new(&tenant, cache.clone());
        let quotas = Quotas::new(ServiceName::Auth, limits.clone(), cache);
        let services = ServiceVerifier::new(ServiceName::Auth, &config.identity.keys)?;
        let tokens = Arc::new(AccessTokenVerifier::new(&config.identity.token_issuer));
        let listen = config.listen.clone();
        let state = Arc::new(state(config, limits).await?);
        let refusals = Refusals::new(ServiceName::Auth);
        let log = ControlLog::new(state.db.pool().clone(), audit::TABLE);
        let others = [&tenant, &crm, &worker].map(RemoteLog::new);
        let audit = AuditRpc {
            state: state.clone(),
            logs: Arc::new(Logs::new(log.clone(), others.into())),
        };
        let keys = OwnKeys::new(state.clone(), tokens.clone());
        let own = OwnRights { state: state.clone() };
        let rights = RightsClient::of_auth(Arc::new(own));
        let security = Security {
            service: ServiceName::Auth,
            tokens,
            keys: Arc::new(keys.clone()),
            rights: Arc::new(rights.clone()),
            services: Arc::new(services),
            certificates: identity.certificates().cloned(),
            quotas: Some(quotas.clone()),
            refusals: Some(Arc::new(refusals.clone())),
        };
        let auth = AuthServiceServer::new(AuthRpc { state: state.clone() });
        let public = Services::new()
            .with(auth.clone())
            .with(AccountServiceServer::new(AccountRpc { state: state.clone() }))
            .with(AuditServiceServer::new(audit.clone()))
            .with(PlatformAuditServiceServer::new(audit))
            .with(RecoveryServiceServer::new(RecoveryRpc { state: state.clone() }))
            .with(RoleServiceServer::new(RoleRpc { state: state.clone() }))
            .with(LoginPolicyServiceServer::new(LoginPolicyRpc { state: state.clone() }))
            .with(ServiceAccountServiceServer::new(ServiceAccountRpc {
                state: state.clone(),
            }))
            .with(TeamServiceServer::new(TeamRpc { state: state.clone() }))
            .with(CatalogServiceServer::new(CatalogRpc))
            .with(KeyServiceServer::new(KeyRpc { state: state.clone() }))
            .with(ImpersonationServiceServer::new(ImpersonationRpc {
                state: state.clone(),
            }))
            .with(OperatorServiceServer::new(OperatorRpc { state: state.clone() }))
            .with(AuthzServiceServer::new(AuthzRpc { state: state.clone() }))
            .with(MemberServiceServer::new(MemberRpc { state: state.clone() }));
        // The stack serves nothing of `AuthService` to services but the keys.
        let internal = Services::new()
            .with(auth)
            .with(RightsServiceServer::new(RightsRpc { state: state.clone() }))
            .with(ProvisioningServiceServer::new(ProvisioningRpc { state: state.clone() }))
            .with(DelegationServiceServer::new(DelegationRpc { state: state.clone() }))
            .with(MailDataServiceServer::new(MailDataRpc { state: state.clone() }))
            .with(TenantRecordsServiceServer::new(RecordsRpc { state: state.clone() }));
        let ready = state.clone();
        let server = Server::new(ServiceName::Auth, &listen, security)
            .public(public)
            .internal(internal)
            .metrics(metrics)
            .ready("control database", move || {
                let state = ready.clone();
                async move {
                    // The key too: without it nobody logs in.
                    state.signer().await.map_err(|error| error.to_string())?;
                    state.db.ping().await.map_err(|error| error.to_string())
                }
            });
        Ok(Self {
            server,
            state,
            keys,
            rights,
            quotas,
            refusals,
            log,
            broker,
        })
    }

    /// Serves until `stop` is cancelled. Calls are finished first, and the relay stops last, so that it still publishes
    /// what they wrote.
    ///
    /// # Errors
    /// When a listener's address is not to be had.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let outbox = OutboxTable::new(self.state.db.pool().clone(), SCHEMA);
        let relay = Relay::new("auth", outbox, self.broker.clone(), self.state.wake.clone());
        let beside = CancellationToken::new();
        let serving = async {
            let served = self.server.run(stop).await;
            beside.cancel();
            served
        };
        let (served, (), (), (), (), (), (), (), (), ()) = tokio::join!(
            serving,
            sealer::run(self.log.clone(), beside.clone()),
            self.refusals.run(&self.log, beside.clone()),
            self.state.failed_logins.run(&self.log, beside.clone()),
            rights::watch(self.state.clone(), beside.clone()),
            self.rights.run(beside.clone()),
            housekeeping::run(self.state.clone(), beside.clone()),
            key::run(self.state.clone(), beside.clone()),
            self.keys.run(beside.clone()),
            relay.run(beside.clone()),
        );
        self.quotas.shutdown().await;
        self.broker.close().await;
        self.state.db.clone().shutdown().await;
        Ok(served?)
    }

    /// Brings schema `auth` of the control database to the newest version.
    ///
    /// # Errors
    /// When the database does not answer, or a migration fails; then the version before it stays.
    pub async fn migrate(config: &MigrateConfig) -> Result<()> {
        rowhouse_db::migrate_control(&config.control_owner_url, SCHEMA, &crate::MIGRATIONS)
            .await
            .context("the control database was not migrated")
    }
}

/// The control database, which need not answer yet.
pub(crate) async fn connect(url: &Secret) -> Result<ControlDb> {
    ControlDb::connect(url, CONTROL_CONNECTIONS_MAX)
        .await
        .context("ROWHOUSE_CONTROL_URL")
}

async fn state(config: ServeConfig, limits: LimitsClient) -> Result<State> {
    let master_keys = config.master_keys.context("ROWHOUSE_MASTER_KEY is missing")?;
    let page_token_key = config.page_token_key.context("ROWHOUSE_PAGE_TOKEN_KEY is missing")?;
    let db = connect(&config.control_url).await?;
    Ok(State {
        hasher: Hasher::new(config.hash_concurrency)?,
        invitation_tokens: LinkTokens::new(&master_keys, Purpose::Invitations)?,
        account_tokens: LinkTokens::new(&master_keys, Purpose::AccountLinks)?,
        second_factors: master::sealers(&master_keys, Purpose::SecondFactors)?,
        signing: Signing::new(&master_keys, config.identity.token_issuer, config.keys)?,
        clock: Clock::new(db.clone()),
        pages: PageTokens::new(page_token_key.expose()),
        limits,
        failed_logins: Refusals::new(ServiceName::Auth),
        closed_origins: ClosedOrigins::new(),
        wake: Wake::new(),
        db,
    })
}
