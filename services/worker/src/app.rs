//! Wiring: pools, peers, actions, jobs, services.

use std::sync::Arc;
use std::time::Duration;

use rowhouse_audit::{AuditLogRpc, ControlLog, Refusals, sealer};
use rowhouse_auth_kit::{AccessTokenVerifier, ServiceVerifier};
use rowhouse_cache::Cache;
use rowhouse_client::{Identity, KeysClient, LimitsClient, Peer, Quotas, RightsClient};
use rowhouse_context::ServiceName;
use rowhouse_db::ControlDb;
use rowhouse_mq::{Broker, Consumer, Ledger, OutboxTable, Relay, Wake};
use rowhouse_proto::common::v1::audit_log_service_server::AuditLogServiceServer;
use rowhouse_proto::common::v1::tenant_records_service_server::TenantRecordsServiceServer;
use rowhouse_proto::worker::v1::report_service_server::ReportServiceServer;
use rowhouse_server::{Security, Server, Services};
use rowhouse_telemetry::metrics::Metrics;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::audit;
use crate::config::ServeConfig;
use crate::email::{Mailer, PostOffice, Templates, store as mails};
use crate::files::Files;
use crate::job::{self, Tools};
use crate::peer::{Auth, Crm};
use crate::purge::{Records, RecordsRpc};
use crate::report::actions::Reports;
use crate::report::rpc::ReportRpc;
use crate::report::store as reports;
use crate::request;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Connections to the control database: one for each message that may be in work (10), and some for calls.
const CONNECTIONS_MAX: u32 = 20;

/// How often what has expired is forgotten.
const UPKEEP_EVERY: Duration = Duration::from_secs(10 * 60);

/// How long processed messages are remembered. Parked ones may be redriven days later.
const PROCESSED_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The worker's process.
pub struct App {
    server: Server,
    control: ControlDb,
    broker: Broker,
    keys: KeysClient,
    rights: RightsClient,
    quotas: Quotas,
    refusals: Refusals,
    log: ControlLog,
    relay: Relay,
    consumers: Vec<(&'static str, Consumer)>,
    ledger: Ledger,
}

// === impl App ===

impl App {
    /// Wires everything. Nothing is connected yet, so services start in any order.
    ///
    /// # Errors
    /// When a setting cannot be understood, or the place for files cannot be used.
    pub async fn build(config: &ServeConfig, metrics: Metrics) -> Outcome<Self> {
        let control = ControlDb::connect(&config.control_url, CONNECTIONS_MAX).await?;
        let pool = control.pool().clone();
        let broker = Broker::connect(&config.amqp_url)?;
        let cache = Cache::connect(&config.redis_url, &config.redis_prefix)?;
        let files = Files::open(&config.files)?;
        let mailer = Mailer::new(&config.smtp_url, &config.mail_from)?;

        let identity = Identity::load(ServiceName::Worker, &config.identity).await?;
        let auth = Peer::connect(ServiceName::Auth, &config.auth_addr, &identity)?;
        let crm = Peer::connect(ServiceName::Crm, &config.crm_addr, &identity)?;
        let tenant = Peer::connect(ServiceName::Tenant, &config.tenant_addr, &identity)?;
        let tokens = Arc::new(AccessTokenVerifier::new(&config.identity.token_issuer));
        let keys = KeysClient::new(&auth, Arc::clone(&tokens));
        let rights = RightsClient::new(&auth, cache.clone());
        let limits = LimitsClient::new(&tenant, cache.clone());
        let quotas = Quotas::new(ServiceName::Worker, limits.clone(), cache);
        let refusals = Refusals::new(ServiceName::Worker);
        let log = ControlLog::new(pool.clone(), audit::TABLE);
        let security = Security {
            service: ServiceName::Worker,
            tokens,
            keys: Arc::new(keys.clone()),
            rights: Arc::new(rights.clone()),
            services: Arc::new(ServiceVerifier::new(ServiceName::Worker, &config.identity.keys)?),
            certificates: identity.certificates().cloned(),
            quotas: Some(quotas.clone()),
            refusals: Some(Arc::new(refusals.clone())),
        };

        let wake = Wake::new();
        let ledger = Ledger::new(pool.clone(), "worker");
        let records = Records::new(pool.clone(), files.clone());
        let reports = Reports::new(pool.clone(), files.clone(), wake.clone(), limits.clone());
        let post = PostOffice::new(pool.clone(), ledger.clone(), mailer, Templates::new()?);
        let tools = Tools {
            pool: pool.clone(),
            ledger: ledger.clone(),
            auth: Auth::new(&auth),
            crm: Crm::new(&crm),
            files,
            post,
            limits,
            wake: wake.clone(),
            app_url: config.app_url.clone(),
        };
        let asked = control.clone();
        let server = Server::new(ServiceName::Worker, &config.listen, security)
            .public(Services::new().with(ReportServiceServer::new(ReportRpc::new(reports))))
            .internal(
                Services::new()
                    .with(TenantRecordsServiceServer::new(RecordsRpc::new(records)))
                    .with(AuditLogServiceServer::new(AuditLogRpc::new(Arc::new(log.clone())))),
            )
            .metrics(metrics)
            // Without RabbitMQ reports are taken all the same and wait in the outbox.
            .ready("control database", move || {
                let asked = asked.clone();
                async move { asked.ping().await.map_err(|fault| fault.to_string()) }
            });
        Ok(Self {
            server,
            relay: Relay::new("worker", OutboxTable::new(pool, "worker"), broker.clone(), wake),
            consumers: job::consumers(&broker, &tools),
            control,
            broker,
            keys,
            rights,
            quotas,
            refusals,
            log,
            ledger,
        })
    }

    /// Serves and works until `stop`. Calls and messages that run then are finished, within bounds.
    ///
    /// # Errors
    /// When it cannot listen, or a task of its own ended in a panic.
    pub async fn run(self, stop: CancellationToken) -> Outcome<()> {
        // Cancelled when the server has ended too: a process that cannot serve does not work on in silence.
        let end = stop.child_token();
        let mut tasks = JoinSet::new();
        for (name, consumer) in self.consumers {
            let end = end.clone();
            tasks.spawn(async move {
                consumer.run(end).await;
                name
            });
        }
        let (upkeep_end, control, ledger) = (end.clone(), self.control.clone(), self.ledger);
        tasks.spawn(async move {
            upkeep(&control, &ledger, upkeep_end).await;
            "upkeep"
        });
        // Calls that are finished after the stop still need rights and keys, and what they commit is still published.
        let after = CancellationToken::new();
        let (relay, relay_end) = (self.relay, after.clone());
        tasks.spawn(async move {
            relay.run(relay_end).await;
            "relay"
        });
        let (log, log_end) = (self.log.clone(), after.clone());
        tasks.spawn(async move {
            sealer::run(log, log_end).await;
            "sealer"
        });
        let (refusals, log, refusals_end) = (self.refusals, self.log, after.clone());
        tasks.spawn(async move {
            refusals.run(&log, refusals_end).await;
            "refusals"
        });
        let (keys, keys_end) = (self.keys, after.clone());
        tasks.spawn(async move {
            keys.run(keys_end).await;
            "keys"
        });
        let (rights, rights_end) = (self.rights, after.clone());
        tasks.spawn(async move {
            rights.run(rights_end).await;
            "rights"
        });

        let served = self.server.run(stop).await;
        end.cancel();
        after.cancel();
        let mut panicked = false;
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(task) => tracing::debug!(task, "a task has ended"),
                Err(fault) => {
                    tracing::error!(cause = %fault, "a task ended in a panic");
                    panicked = true;
                }
            }
        }
        self.quotas.shutdown().await;
        self.broker.close().await;
        self.control.shutdown().await;
        served?;
        if panicked {
            Err("a task ended in a panic".into())
        } else {
            Ok(())
        }
    }
}

/// Forgets what has expired, now and then. Every replica does; they take different rows or find none.
async fn upkeep(control: &ControlDb, ledger: &Ledger, stop: CancellationToken) {
    let mut clock = tokio::time::interval(UPKEEP_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = clock.tick() => {}
        }
        let pool = control.pool();
        if let Err(fault) = request::TABLE.forget(pool).await {
            tracing::warn!(cause = %fault, "expired request ids could not be removed");
        }
        match reports::give_up(pool).await {
            Ok(0) => {}
            Ok(count) => tracing::error!(count, "reports that nobody worked on for a day were given up"),
            Err(fault) => tracing::warn!(cause = %fault, "reports that nobody works on could not be ended"),
        }
        if let Err(fault) = mails::prune(pool).await {
            tracing::warn!(cause = %fault, "old mails could not be removed");
        }
        if let Err(fault) = ledger.prune(PROCESSED_KEPT).await {
            tracing::warn!(cause = %fault, "old processed messages could not be removed");
        }
    }
}
