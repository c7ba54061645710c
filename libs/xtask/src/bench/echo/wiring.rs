//! What crm knows its callers and their rights by, wired to the running suite once more: auth sees another replica of crm.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rowhouse_auth_kit::{AccessTokenVerifier, ServiceSigner, ServiceVerifier};
use rowhouse_cache::Cache;
use rowhouse_client::{KeysClient, LimitsClient, Peer, Quotas, RightsClient};
use rowhouse_config::Env;
use rowhouse_config::section::Identity;
use rowhouse_context::ServiceName;
use rowhouse_devkit::resident::Resident;
use rowhouse_devkit::settings::Process;
use rowhouse_middleware::Security;
use tokio_util::sync::CancellationToken;

/// Who it is. Any service that verifies users would do.
const SERVICE: ServiceName = ServiceName::Crm;

/// What the stack needs, and what keeps it up to date.
#[derive(Clone)]
pub(in crate::bench) struct Wiring {
    pub(in crate::bench) security: Security,
    pub(in crate::bench) quotas: Quotas,
    keys: KeysClient,
    rights: RightsClient,
}

// === impl Wiring ===

impl Wiring {
    /// Wires it, with crm's own variables. Nothing is asked before [`Self::run`].
    pub(in crate::bench) fn of(resident: &Resident) -> Result<Self> {
        let mut env = Env::from_pairs(resident.settings().serve(Process::Crm));
        let identity = Identity::read(&mut env);
        let redis_url = env.secret("ROWHOUSE_REDIS_URL");
        let redis_prefix = env.or("ROWHOUSE_REDIS_PREFIX", String::new());
        let auth_addr = env.required("ROWHOUSE_AUTH_ADDR", String::new());
        let tenant_addr = env.required("ROWHOUSE_TENANT_ADDR", String::new());
        let identity = env.finish(identity)?;

        let seed = identity.key.as_ref().context("a service key")?;
        let signer = ServiceSigner::new(SERVICE, seed.expose())?.into();
        let auth = Peer::connect(ServiceName::Auth, &auth_addr, &signer)?;
        let tenant = Peer::connect(ServiceName::Tenant, &tenant_addr, &signer)?;
        let cache = Cache::connect(&redis_url, &redis_prefix)?;
        let tokens = Arc::new(AccessTokenVerifier::new(&identity.token_issuer));
        let keys = KeysClient::new(&auth, Arc::clone(&tokens));
        let rights = RightsClient::new(&auth, cache.clone());
        let quotas = Quotas::new(SERVICE, LimitsClient::new(&tenant, cache.clone()), cache);
        let security = Security {
            service: SERVICE,
            tokens,
            keys: Arc::new(keys.clone()),
            rights: Arc::new(rights.clone()),
            services: Arc::new(ServiceVerifier::new(SERVICE, &identity.keys)?),
            certificates: None,
            quotas: Some(quotas.clone()),
            // It has no database to record them in. Nobody is refused here.
            refusals: None,
        };
        Ok(Self {
            security,
            quotas,
            keys,
            rights,
        })
    }

    /// Whether it knows the keys and may use cached rights.
    pub(in crate::bench) fn is_ready(&self) -> bool {
        self.security.tokens.key_count() > 0 && self.rights.has_lease()
    }

    /// Reads the keys and holds the lease, until `stop` is cancelled.
    pub(in crate::bench) async fn run(self, stop: CancellationToken) {
        tokio::join!(self.keys.run(stop.clone()), self.rights.run(stop));
        self.quotas.shutdown().await;
    }
}
