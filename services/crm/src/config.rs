//! The variables of each subcommand, by section. `serve` never reads an owner's URL; `provision` and `migrate` never
//! read what `serve` needs to answer users.

use std::collections::BTreeMap;
use std::time::Duration;

use rowhouse_config::secret::SecretKey;
use rowhouse_config::section::{Identity, Listen, Telemetry, server_urls};
use rowhouse_config::{Env, Secret};
use rowhouse_db::{Lanes, MasterKeys, OwnDatabases};

/// What `serve` needs.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// How it listens and stops.
    pub listen: Listen,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// Who it is to the other services.
    pub identity: Identity,
    /// The data servers by name, with the login that enters homes, through the pooler.
    pub data_urls: BTreeMap<String, Secret>,
    /// The data servers by name, with the relay's login, direct.
    pub data_relay_urls: BTreeMap<String, Secret>,
    /// Connections to each data server's pooler, where there are no lanes.
    pub data_connections_max: u32,
    /// How the connections to each data server are divided.
    pub data_lanes: Lanes,
    /// Connections to tenants' own databases.
    pub own_databases: OwnDatabases,
    /// Open the logins of tenants' own databases; there once the environment was found without fault.
    pub data_master_keys: Option<MasterKeys>,
    /// RabbitMQ, for the relay.
    pub amqp_url: Secret,
    /// Redis, for homes and the rights of callers.
    pub redis_url: Secret,
    /// What every key in Redis begins with.
    pub redis_prefix: String,
    /// Authenticates page tokens; there once the environment was found without fault.
    pub page_token_key: Option<SecretKey>,
    /// auth's internal listener.
    pub auth_addr: String,
    /// tenant's internal listener.
    pub tenant_addr: String,
}

/// What `migrate` needs.
#[derive(Clone, Debug)]
pub struct MigrateConfig {
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// The data servers by name, with the owner's login, direct.
    pub data_owner_urls: BTreeMap<String, Secret>,
    /// Seal the logins of tenants' own databases, and open what is to be sealed anew; there once the environment was found
    /// without fault.
    pub data_master_keys: Option<MasterKeys>,
    /// Whether homes are brought on too. Otherwise MigrationService does it, in waves.
    pub homes: bool,
    /// Sessions that the login of one such database may have at once.
    pub own_login_connections_max: u16,
}

/// What `provision` needs.
#[derive(Clone, Debug)]
pub struct ProvisionConfig {
    /// How it listens and stops; it has no public listener.
    pub listen: Listen,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// Who it is to the other services.
    pub identity: Identity,
    /// The data servers by name, with the owner's login, direct.
    pub data_owner_urls: BTreeMap<String, Secret>,
    /// Seal the logins of tenants' own databases, by the present one: it opens none, and is given no other. There once the
    /// environment was found without fault.
    pub data_master_keys: Option<MasterKeys>,
    /// Sessions that the login of one such database may have at once.
    pub own_login_connections_max: u16,
    /// Homes that are built, migrated or dropped one by one at the same time on each data server. Batches of a fleet have bounds of
    /// their own.
    pub builds_max: usize,
}

/// The key of the logins that tenants' own databases have, the same in all three. Not auth's master key, which would open the
/// keys that sign tokens.
const MASTER_KEY: &str = "ROWHOUSE_DATA_MASTER_KEY";

/// Keys in whose place that one is put, while what they have sealed is still to be opened.
const MASTER_KEYS_PREVIOUS: &str = "ROWHOUSE_DATA_MASTER_KEYS_PREVIOUS";

/// Connections to each data server's pooler, where nothing else is said: enough for the calls that one process has in
/// flight, since a transaction holds one for a round trip.
const DATA_CONNECTIONS_MAX: u32 = 32;

/// Connections to each lane, where nothing else is said: twice what one tenant may hold of its two, so that it never fills
/// one of them even by itself.
const LANE_CONNECTIONS_MAX: u32 = 4;

/// Connections that one tenant may hold of its two lanes: one would let a slow list hold up all colleagues' reads.
const TENANT_SLOTS: u16 = 2;

/// Connections of each lane at the pooler, where nothing else is said: one more than that, which is every neighbour's. A plan
/// grants one less at most.
const LANE_SERVER_CONNECTIONS: u32 = 3;

/// Sessions of PostgreSQL that the login of one tenant's own database may have at once, where nothing else is said: eight replicas'
/// four, and the poolers' that replace others.
const OWN_LOGIN_CONNECTIONS_MAX: u16 = 32;

/// The provisioner has seven connections to each server: three may be building for a second, three are the fleet's
/// (`participant/fleet.rs`), and one is left for a tenant that must be frozen now.
const BUILDS_MAX: usize = 3;

// === impl ServeConfig ===

impl ServeConfig {
    /// Reads the section.
    pub fn read(env: &mut Env) -> Self {
        Self {
            listen: Listen::read(env),
            telemetry: Telemetry::read(env),
            identity: Identity::read(env),
            data_urls: server_urls(env, "ROWHOUSE_DATA_URLS"),
            data_relay_urls: server_urls(env, "ROWHOUSE_DATA_RELAY_URLS"),
            data_connections_max: env.or("ROWHOUSE_DATA_CONNECTIONS_MAX", DATA_CONNECTIONS_MAX),
            data_lanes: lanes(env),
            own_databases: own_databases(env),
            data_master_keys: master_keys(env),
            amqp_url: env.secret("ROWHOUSE_AMQP_URL"),
            redis_url: env.secret("ROWHOUSE_REDIS_URL"),
            redis_prefix: env.or("ROWHOUSE_REDIS_PREFIX", "rowhouse".to_owned()),
            page_token_key: env.secret_key("ROWHOUSE_PAGE_TOKEN_KEY"),
            auth_addr: env.required("ROWHOUSE_AUTH_ADDR", String::new()),
            tenant_addr: env.required("ROWHOUSE_TENANT_ADDR", String::new()),
        }
    }
}

fn master_keys(env: &mut Env) -> Option<MasterKeys> {
    let (present, previous) = (env.secret_key(MASTER_KEY), env.secret_keys(MASTER_KEYS_PREVIOUS));
    present.map(|present| MasterKeys { present, previous })
}

/// Reads how connections are divided. Off, where nothing is said: lanes need aliases at the pooler.
fn lanes(env: &mut Env) -> Lanes {
    Lanes {
        count: env.or("ROWHOUSE_DATA_LANES", 0),
        connections_per_lane_max: env.or("ROWHOUSE_DATA_LANE_CONNECTIONS_MAX", LANE_CONNECTIONS_MAX),
        server_connections_per_lane: env.or("ROWHOUSE_DATA_LANE_SERVER_CONNECTIONS", LANE_SERVER_CONNECTIONS),
        slots_per_tenant: env.or("ROWHOUSE_DATA_TENANT_SLOTS", TENANT_SLOTS),
        are_aliases: env.or("ROWHOUSE_DATA_LANE_ALIASES", true),
    }
}

/// Reads how many connections tenants' own databases take, and whether statements stay prepared there. They do not, where nothing
/// is said: an older pooler would mix them up.
fn own_databases(env: &mut Env) -> OwnDatabases {
    let default = OwnDatabases::default();
    let pooler_idle_ms = u64::try_from(default.pooler_idle.as_millis()).unwrap_or(u64::MAX);
    OwnDatabases {
        open_max: env.or("ROWHOUSE_DATA_OWN_OPEN_MAX", default.open_max),
        connections_max: env.or("ROWHOUSE_DATA_OWN_CONNECTIONS_MAX", default.connections_max),
        server_connections_max: env.or(
            "ROWHOUSE_DATA_OWN_SERVER_CONNECTIONS_MAX",
            default.server_connections_max,
        ),
        pooler_idle: Duration::from_millis(env.or("ROWHOUSE_DATA_OWN_POOLER_IDLE_MS", pooler_idle_ms)),
        keeps_statements: env.or("ROWHOUSE_DATA_KEEPS_STATEMENTS", default.keeps_statements),
        ..default
    }
}

fn own_login_connections_max(env: &mut Env) -> u16 {
    env.or("ROWHOUSE_DATA_OWN_LOGIN_CONNECTIONS_MAX", OWN_LOGIN_CONNECTIONS_MAX)
        .max(1)
}

// === impl MigrateConfig ===

impl MigrateConfig {
    /// Reads the section.
    pub fn read(env: &mut Env) -> Self {
        Self {
            telemetry: Telemetry::read(env),
            data_owner_urls: server_urls(env, "ROWHOUSE_DATA_OWNER_URLS"),
            data_master_keys: master_keys(env),
            homes: env.or("ROWHOUSE_MIGRATE_HOMES", true),
            own_login_connections_max: own_login_connections_max(env),
        }
    }
}

// === impl ProvisionConfig ===

impl ProvisionConfig {
    /// Reads the section.
    pub fn read(env: &mut Env) -> Self {
        Self {
            listen: Listen::read_internal(env),
            telemetry: Telemetry::read(env),
            identity: Identity::read(env),
            data_owner_urls: server_urls(env, "ROWHOUSE_DATA_OWNER_URLS"),
            data_master_keys: env.secret_key(MASTER_KEY).map(MasterKeys::from),
            own_login_connections_max: own_login_connections_max(env),
            builds_max: env.or("ROWHOUSE_BUILDS_MAX", BUILDS_MAX).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(read: impl FnOnce(&mut Env)) -> Vec<&'static str> {
        let mut env = Env::from_pairs([]);
        read(&mut env);
        env.variables().iter().map(|variable| variable.name).collect()
    }

    #[test]
    fn only_migrate_and_provision_read_the_owners_urls() {
        let serve = names(|env| drop(ServeConfig::read(env)));
        assert!(!serve.iter().any(|name| name.contains("OWNER")), "{serve:?}");
        assert!(names(|env| drop(MigrateConfig::read(env))).contains(&"ROWHOUSE_DATA_OWNER_URLS"));
        let provision = names(|env| drop(ProvisionConfig::read(env)));
        assert!(provision.contains(&"ROWHOUSE_DATA_OWNER_URLS") && !provision.contains(&"ROWHOUSE_DATA_URLS"));
    }

    #[test]
    fn who_opens_passwords_has_the_previous_keys_and_who_only_seals_has_none() {
        let key = |first: &str| format!("{first}{}=", "A".repeat(42));
        let environment = [
            (MASTER_KEY, key("C")),
            (MASTER_KEYS_PREVIOUS, format!("{},{}\n", key("B"), key("A"))),
        ];
        let mut env = Env::from_pairs(environment.map(|(name, value)| (name.to_owned(), value)));
        let serve = ServeConfig::read(&mut env).data_master_keys;
        let migrate = MigrateConfig::read(&mut env).data_master_keys;
        let provision = ProvisionConfig::read(&mut env).data_master_keys;
        for (keys, previous) in [(serve, [4, 0].as_slice()), (migrate, &[4, 0]), (provision, &[])] {
            let keys = keys.unwrap();
            let bytes: Vec<u8> = keys.previous.iter().map(|key| key.expose()[0]).collect();
            assert_eq!((keys.present.expose()[0], bytes.as_slice()), (8, previous));
        }
        assert!(!names(|env| drop(ProvisionConfig::read(env))).contains(&MASTER_KEYS_PREVIOUS));
    }

    #[test]
    fn statements_are_kept_only_where_the_environment_says_so() {
        let keeps = |value: Option<&str>| {
            let pair = value.map(|value| ("ROWHOUSE_DATA_KEEPS_STATEMENTS".to_owned(), value.to_owned()));
            ServeConfig::read(&mut Env::from_pairs(pair))
                .own_databases
                .keeps_statements
        };
        assert_eq!([None, Some("false"), Some("true")].map(keeps), [false, false, true]);
    }

    #[test]
    fn homes_are_migrated_unless_the_environment_says_otherwise() {
        let homes = |value: Option<&str>| {
            let pair = value.map(|value| ("ROWHOUSE_MIGRATE_HOMES".to_owned(), value.to_owned()));
            MigrateConfig::read(&mut Env::from_pairs(pair)).homes
        };
        assert_eq!([None, Some("true"), Some("false")].map(homes), [true, true, false]);
    }

    #[test]
    fn an_operator_says_how_many_connections_tenants_own_databases_take() {
        let environment = [
            ("ROWHOUSE_DATA_OWN_OPEN_MAX", "7"),
            ("ROWHOUSE_DATA_OWN_CONNECTIONS_MAX", "3"),
            ("ROWHOUSE_DATA_OWN_SERVER_CONNECTIONS_MAX", "16"),
            ("ROWHOUSE_DATA_OWN_POOLER_IDLE_MS", "500"),
            ("ROWHOUSE_DATA_OWN_LOGIN_CONNECTIONS_MAX", "0"),
        ];
        let pairs = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut env = Env::from_pairs(pairs);
        let told = OwnDatabases {
            open_max: 7,
            connections_max: 3,
            server_connections_max: 16,
            pooler_idle: Duration::from_millis(500),
            ..OwnDatabases::default()
        };
        assert_eq!(ServeConfig::read(&mut env).own_databases, told);
        let logins = [
            MigrateConfig::read(&mut env).own_login_connections_max,
            ProvisionConfig::read(&mut env).own_login_connections_max,
        ];
        assert_eq!(logins, [1, 1], "none would lock the tenants out");
        let untold = ServeConfig::read(&mut Env::from_pairs([])).own_databases;
        assert_eq!(untold, OwnDatabases::default());
    }

    #[test]
    fn an_empty_environment_names_every_required_variable_at_once() {
        let mut env = Env::from_pairs([]);
        let config = ServeConfig::read(&mut env);
        let required = env.variables().iter().filter(|variable| variable.required).count();
        let faults = env.finish(config).unwrap_err().to_string();
        assert!(faults.contains(&format!("has {required} faults")), "{faults}");
    }
}
