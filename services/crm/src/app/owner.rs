//! What runs with the owner's credentials: `migrate`, and the process `provision`.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rowhouse_auth_kit::ServiceVerifier;
use rowhouse_client::Identity;
use rowhouse_config::Secret;
use rowhouse_context::ServiceName;
use rowhouse_db::{MasterKeys, ProvisionError, Provisioner, Resealed};
use rowhouse_middleware::Security;
use rowhouse_proto::common::v1::tenant_participant_service_server::TenantParticipantServiceServer;
use rowhouse_server::cli::Process;
use rowhouse_server::{Server, Services};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::MIGRATIONS;
use crate::config::{MigrateConfig, ProvisionConfig};
use crate::participant::Homes;
use crate::participant::rpc::ParticipantRpc;
use crate::request;

/// How often every home is visited for what it is to forget. A visit costs about two milliseconds.
const FORGET_EVERY: Duration = Duration::from_secs(60 * 60);

/// What of a run has failed.
#[derive(Default)]
struct Failures {
    first: Option<anyhow::Error>,
}

/// Brings schema `rowhouse` of each data server to the newest version, seals by the present master key what a previous one has
/// sealed, then brings on every home that is behind, or only schema `rowhouse` in tenants' own databases, and bounds the logins of
/// these. A server that fails keeps no other from it.
///
/// # Errors
/// When a server does not answer, a migration fails, or a password is sealed by another key; what does not need that was done.
pub async fn migrate(config: MigrateConfig) -> Result<()> {
    let mut failures = Failures::default();
    // On the others this code may not touch homes.
    let mut current = BTreeMap::new();
    for (server, url) in config.data_owner_urls {
        let migrated = rowhouse_db::migrate_platform(&url).await;
        let migrated = migrated.with_context(|| format!("schema rowhouse of {server} was not migrated"));
        if failures.keep(migrated).is_some() {
            current.insert(server, url);
        }
    }
    let provisioner = provisioner(&current, config.data_master_keys.as_ref()).await;
    if let Some(provisioner) = failures.keep(provisioner) {
        let provisioner = provisioner.with_login_connections_max(config.own_login_connections_max);
        reseal(&provisioner, &mut failures).await;
        if config.homes {
            bring_on(&provisioner, &mut failures).await;
        } else {
            leave_homes(&provisioner, &mut failures).await;
        }
        // Last: what comes before gives logins to the databases that have none.
        let bounded = provisioner.bound_logins().await;
        failures.keep(
            bounded.context("not every login of a tenant's own database has ROWHOUSE_DATA_OWN_LOGIN_CONNECTIONS_MAX"),
        );
        provisioner.shutdown().await;
    }
    failures.finish()
}

/// Where it fails, what comes after it is done all the same.
async fn reseal(provisioner: &Provisioner, failures: &mut Failures) {
    let resealed = failures.keep(reseal_logins(provisioner).await);
    // Whoever reads it takes the previous keys away, so it is not said while a server was left out.
    if let Some(done) = resealed.filter(|_| failures.first.is_none()) {
        tracing::info!(
            logins = done.logins,
            resealed = done.resealed,
            "ROWHOUSE_DATA_MASTER_KEY has sealed every password of tenants' own databases"
        );
    }
}

async fn bring_on(provisioner: &Provisioner, failures: &mut Failures) {
    let migrated = provisioner.migrate_all().await.context("not every home was migrated");
    let migrated = failures.keep(migrated);
    if let Some(homes) = migrated.filter(|_| failures.first.is_none()) {
        tracing::info!(homes, "homes are at the newest version");
    }
}

/// A tenant's own database has schema `rowhouse` beside its home, and `serve` wants the newest of it, whichever the home has.
async fn leave_homes(provisioner: &Provisioner, failures: &mut Failures) {
    let migrated = provisioner.migrate_platforms().await;
    let migrated = migrated.context("schema rowhouse was not migrated in every database of a tenant's own");
    if failures.keep(migrated).is_some() {
        tracing::info!("homes are left to MigrationService, as ROWHOUSE_MIGRATE_HOMES says");
    }
}

async fn reseal_logins(provisioner: &Provisioner) -> Result<Resealed> {
    let resealed = provisioner.reseal_logins().await;
    let what = match &resealed {
        Err(ProvisionError::Unopened { .. }) => "a key is missing in ROWHOUSE_DATA_MASTER_KEYS_PREVIOUS",
        _ => "ROWHOUSE_DATA_MASTER_KEY has not sealed every password of tenants' own databases",
    };
    resealed.context(what)
}

/// Serves the tenant service's orders until SIGTERM, and has homes forget what is over.
///
/// # Errors
/// When an address or key cannot be used.
pub async fn provision(config: ProvisionConfig, process: Process) -> Result<()> {
    let provisioner = provisioner(&config.data_owner_urls, config.data_master_keys.as_ref())
        .await?
        .with_login_connections_max(config.own_login_connections_max);
    let server = server(&config, &provisioner).await?.metrics(process.metrics);
    let end = CancellationToken::new();
    let serving = async {
        let served = server.run(process.stop).await;
        end.cancel();
        served
    };
    let (served, ()) = tokio::join!(serving, forget(&provisioner, &end));
    provisioner.shutdown().await;
    Ok(served?)
}

/// Forgets calls that may be repeated no more, at once and then every hour, until `end`. Every replica may.
async fn forget(provisioner: &Provisioner, end: &CancellationToken) {
    let mut ticks = tokio::time::interval(FORGET_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let round = async {
            ticks.tick().await;
            provisioner.forget(&request::FORGET).await
        };
        match end.run_until_cancelled(round).await {
            None => return,
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::warn!(cause = %error, "calls of yesterday were not forgotten in every home");
            }
        }
    }
}

async fn provisioner(owner_urls: &BTreeMap<String, Secret>, master_keys: Option<&MasterKeys>) -> Result<Provisioner> {
    let master_keys = master_keys.context("ROWHOUSE_DATA_MASTER_KEY is missing")?;
    Ok(Provisioner::connect(ServiceName::Crm, owner_urls, MIGRATIONS, master_keys).await?)
}

async fn server(config: &ProvisionConfig, provisioner: &Provisioner) -> Result<Server> {
    let identity = Identity::load(ServiceName::Crm, &config.identity).await?;
    let services = Arc::new(ServiceVerifier::new(ServiceName::Crm, &config.identity.keys)?);
    let security = Security::services_only(ServiceName::Crm, services, identity.certificates().cloned());
    let homes = Homes::new(provisioner.clone(), config.builds_max);
    let ready = provisioner.clone();
    let server = Server::new(ServiceName::Crm, &config.listen, security)
        .internal(Services::new().with(TenantParticipantServiceServer::new(ParticipantRpc::new(homes))))
        .ready("data servers", move || {
            let provisioner = ready.clone();
            async move { provisioner.ping().await.map_err(|error| error.to_string()) }
        });
    Ok(server)
}

// === impl Failures ===

impl Failures {
    /// What has come of a part of the run, where it has not failed.
    fn keep<T>(&mut self, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(done) => Some(done),
            Err(error) => {
                // One error is answered with. The log has the others.
                if self.first.is_some() {
                    tracing::error!(error = format!("{error:#}"), "{error}");
                } else {
                    self.first = Some(error);
                }
                None
            }
        }
    }

    fn finish(self) -> Result<()> {
        self.first.map_or(Ok(()), Err)
    }
}
