//! The variables of each subcommand, by section.

use std::time::Duration;

use rowhouse_config::secret::SecretKey;
use rowhouse_config::section::{Identity, Listen, Telemetry};
use rowhouse_config::{Env, Secret};
use rowhouse_seal::MasterKeys;

use crate::key::Schedule;
use crate::master;

/// Most hashes at once that are taken for meant: each needs 19 MiB and a core.
const HASH_CONCURRENCY_MAX: usize = 256;

/// What `serve` needs.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// How it listens and stops.
    pub listen: Listen,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// Who it is to the other services.
    pub identity: Identity,
    /// The control database, with this service's own login, direct.
    pub control_url: Secret,
    /// RabbitMQ, for the relay.
    pub amqp_url: Secret,
    /// Redis, for the limits of tenants' plans.
    pub redis_url: Secret,
    /// What every key in Redis begins with.
    pub redis_prefix: String,
    /// tenant's internal listener, for the limits of tenants' plans and its audit log.
    pub tenant_addr: String,
    /// crm's internal listener, for its audit log.
    pub crm_addr: String,
    /// worker's internal listener, for its audit log.
    pub worker_addr: String,
    /// Authenticates page tokens; there once the environment was found without fault.
    pub page_token_key: Option<SecretKey>,
    /// What seals signing keys and second factors and derives the tokens of links, and what did so before it; there once the
    /// environment was found without fault.
    pub master_keys: Option<MasterKeys>,
    /// Passwords hashed at once.
    pub hash_concurrency: usize,
    /// When keys of access tokens are replaced.
    pub(crate) keys: Schedule,
}

/// What `migrate` needs.
#[derive(Clone, Debug)]
pub struct MigrateConfig {
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// The control database, with the owner's login, direct.
    pub control_owner_url: Secret,
}

/// What the commands about operators and accounts need ([`crate::commands`]).
#[derive(Clone, Debug)]
pub struct BootstrapConfig {
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// The control database, with this service's own login, direct.
    pub control_url: Secret,
}

/// What the commands about master keys need.
#[derive(Clone, Debug)]
pub struct MasterKeysConfig {
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// The control database, with this service's own login, direct.
    pub control_url: Secret,
    /// As of [`ServeConfig`].
    pub master_keys: Option<MasterKeys>,
}

// === impl ServeConfig ===

impl ServeConfig {
    /// Reads the section.
    pub fn read(env: &mut Env) -> Self {
        Self {
            listen: Listen::read(env),
            telemetry: Telemetry::read(env),
            identity: Identity::read(env),
            control_url: env.secret("ROWHOUSE_CONTROL_URL"),
            amqp_url: env.secret("ROWHOUSE_AMQP_URL"),
            redis_url: env.secret("ROWHOUSE_REDIS_URL"),
            redis_prefix: env.or("ROWHOUSE_REDIS_PREFIX", "rowhouse".to_owned()),
            tenant_addr: env.required("ROWHOUSE_TENANT_ADDR", String::new()),
            crm_addr: env.required("ROWHOUSE_CRM_ADDR", String::new()),
            worker_addr: env.required("ROWHOUSE_WORKER_ADDR", String::new()),
            page_token_key: env.secret_key("ROWHOUSE_PAGE_TOKEN_KEY"),
            master_keys: master::read(env),
            hash_concurrency: hash_concurrency(env),
            keys: keys(env),
        }
    }
}

/// As many as there are cores: more would only make each slower.
fn hash_concurrency(env: &mut Env) -> usize {
    const NAME: &str = "ROWHOUSE_HASH_CONCURRENCY";
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let concurrency = env.or(NAME, cores.min(HASH_CONCURRENCY_MAX));
    if !(1..=HASH_CONCURRENCY_MAX).contains(&concurrency) {
        env.refuse(NAME, "must be 1 to 256");
    }
    concurrency
}

/// A key signs a minute after it was published, and for three months.
fn keys(env: &mut Env) -> Schedule {
    const PUBLISH: &str = "ROWHOUSE_KEY_PUBLISH_S";
    const ROTATION: &str = "ROWHOUSE_KEY_ROTATION_DAYS";
    let published_s = env.or(PUBLISH, 60_u64);
    if published_s > 86_400 {
        env.refuse(PUBLISH, "must be 0 to 86400");
    }
    let days = env.or(ROTATION, 90_u64);
    if days > 3_650 {
        env.refuse(ROTATION, "must be 0 to 3650");
    }
    Schedule {
        published: Duration::from_secs(published_s),
        replaced: (days > 0).then(|| Duration::from_secs(days.saturating_mul(86_400))),
    }
}

// === impl MigrateConfig ===

impl MigrateConfig {
    /// Reads the section.
    pub fn read(env: &mut Env) -> Self {
        Self {
            telemetry: Telemetry::read(env),
            control_owner_url: env.secret("ROWHOUSE_CONTROL_OWNER_URL"),
        }
    }
}

// === impl BootstrapConfig ===

impl BootstrapConfig {
    /// Reads the section.
    pub fn read(env: &mut Env) -> Self {
        Self {
            telemetry: Telemetry::read(env),
            control_url: env.secret("ROWHOUSE_CONTROL_URL"),
        }
    }
}

// === impl MasterKeysConfig ===

impl MasterKeysConfig {
    /// Reads the section.
    pub fn read(env: &mut Env) -> Self {
        Self {
            telemetry: Telemetry::read(env),
            control_url: env.secret("ROWHOUSE_CONTROL_URL"),
            master_keys: master::read(env),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_named_at_once() {
        let mut env = Env::from_pairs([("ROWHOUSE_HASH_CONCURRENCY".to_owned(), "0".to_owned())]);
        ServeConfig::read(&mut env);
        let faults = env.finish(()).unwrap_err().to_string();
        for name in [
            "ROWHOUSE_CONTROL_URL",
            "ROWHOUSE_MASTER_KEY",
            "ROWHOUSE_AMQP_URL",
            "ROWHOUSE_HASH_CONCURRENCY",
        ] {
            assert!(faults.contains(name), "{faults}");
        }
    }
}
