//! What runs with the owner's credentials: `migrate`, and the process `provision`.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::join_all;
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

/// What of a run has failed, on whichever server.
#[derive(Default)]
struct Failures {
    first: Mutex<Option<anyhow::Error>>,
}

/// Brings schema `rowhouse` of each data server to the newest version, seals by the present master key what a previous one has
/// sealed, then brings on every home that is behind, or only schema `rowhouse` in tenants' own databases, and bounds the logins of
/// these. Servers go side by side: one that fails or hangs keeps no other from any of it, only the run from its end.
///
/// # Errors
/// When a server does not answer, a migration fails, or a password is sealed by another key; what does not need that was done.
pub async fn migrate(config: MigrateConfig) -> Result<()> {
    let failures = Failures::default();
    let servers = config.data_owner_urls.iter();
    let servers = servers.map(|(server, url)| migrate_server(&config, server, url, &failures));
    let resealed: Option<Vec<Resealed>> = join_all(servers).await.into_iter().collect();
    // Whoever reads it takes the previous keys away, so it is not said while a server was left out.
    if let Some(done) = resealed {
        tracing::info!(
            logins = done.iter().map(|on| on.logins).sum::<usize>(),
            resealed = done.iter().map(|on| on.resealed).sum::<usize>(),
            "ROWHOUSE_DATA_MASTER_KEY has sealed every password of tenants' own databases"
        );
    }
    failures.finish()
}

/// All of it on one server. `None` where not every password was sealed anew.
async fn migrate_server(config: &MigrateConfig, server: &str, url: &Secret, failures: &Failures) -> Option<Resealed> {
    let migrated = rowhouse_db::migrate_platform(url).await;
    let migrated = migrated.with_context(|| format!("schema rowhouse of {server} was not migrated"));
    // Without that this code may not touch homes.
    failures.keep(migrated)?;
    let alone = BTreeMap::from([(server.to_owned(), url.clone())]);
    let provisioner = provisioner(&alone, config.data_master_keys.as_ref()).await;
    let provisioner = failures.keep(provisioner)?;
    let provisioner = provisioner.with_login_connections_max(config.own_login_connections_max);
    // Where a part fails, what comes after it is done all the same.
    let resealed = failures.keep(reseal_logins(&provisioner, server).await);
    if config.homes {
        bring_on(&provisioner, server, failures).await;
    } else {
        leave_homes(&provisioner, server, failures).await;
    }
    // Last: what comes before gives logins to the databases that have none.
    let bounded = provisioner.bound_logins().await;
    failures.keep(bounded.with_context(|| {
        format!("not every login of a tenant's own database on {server} has ROWHOUSE_DATA_OWN_LOGIN_CONNECTIONS_MAX")
    }));
    provisioner.shutdown().await;
    resealed
}

async fn reseal_logins(provisioner: &Provisioner, server: &str) -> Result<Resealed> {
    let resealed = provisioner.reseal_logins().await;
    let what = match &resealed {
        Err(ProvisionError::Unopened { .. }) => "a key is missing in ROWHOUSE_DATA_MASTER_KEYS_PREVIOUS",
        _ => "ROWHOUSE_DATA_MASTER_KEY has not sealed every password of tenants' own databases",
    };
    resealed.with_context(|| format!("data server {server}: {what}"))
}

async fn bring_on(provisioner: &Provisioner, server: &str, failures: &Failures) {
    let migrated = provisioner.migrate_all().await.context("not every home was migrated");
    if let Some(homes) = failures.keep(migrated) {
        tracing::info!(server, homes, "homes are at the newest version");
    }
}

/// A tenant's own database has schema `rowhouse` beside its home, and `serve` wants the newest of it, whichever the home has.
async fn leave_homes(provisioner: &Provisioner, server: &str, failures: &Failures) {
    let migrated = provisioner.migrate_platforms().await;
    let migrated = migrated.context("schema rowhouse was not migrated in every database of a tenant's own");
    if failures.keep(migrated).is_some() {
        tracing::info!(
            server,
            "homes are left to MigrationService, as ROWHOUSE_MIGRATE_HOMES says"
        );
    }
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
    fn keep<T>(&self, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(done) => Some(done),
            Err(error) => {
                // At once: another server may hang, and what is answered comes last.
                tracing::error!(error = format!("{error:#}"), "{error}");
                let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(error);
                None
            }
        }
    }

    fn finish(self) -> Result<()> {
        let first = self.first.into_inner().unwrap_or_else(PoisonError::into_inner);
        first.map_or(Ok(()), Err)
    }
}
