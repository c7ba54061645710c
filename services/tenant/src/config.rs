//! The variables of each subcommand, by section.

use std::num::NonZeroU16;
use std::str::FromStr;

use rowhouse_config::secret::SecretKey;
use rowhouse_config::section::{Identity, Listen, Telemetry};
use rowhouse_config::{Env, Secret};

use crate::server::{Capacity, Labels, PLACEMENTS, Traits};

/// Long enough that a mistake is noticed at the end of a month.
const DELETE_GRACE_DAYS: NonZeroU16 = NonZeroU16::MIN.saturating_add(29);

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
    /// Redis, for the rights of callers.
    pub redis_url: Secret,
    /// What every key in Redis begins with.
    pub redis_prefix: String,
    /// Authenticates page tokens; there once the environment was found without fault.
    pub page_token_key: Option<SecretKey>,
    /// How many days a deleted tenant can be undeleted.
    pub delete_grace_days: NonZeroU16,
    /// auth's internal listener.
    pub auth_addr: String,
    /// The internal listener of crm's `provision`.
    pub crm_provision_addr: String,
    /// worker's internal listener.
    pub worker_addr: String,
    /// Homes built ahead on each data server that takes new tenants, in placement `schema`.
    pub spares: u16,
    /// The same in placement `database`.
    pub spare_databases: u16,
}

/// What `migrate` needs.
#[derive(Clone, Debug)]
pub struct MigrateConfig {
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// The control database, with the owner's login, direct.
    pub control_owner_url: Secret,
    /// Data servers to register where the directory does not know them.
    pub(crate) data_servers: Vec<Traits>,
}

/// Spares on each server, where nothing else is said: as many sign-ups at once find a home that stands.
const SPARES: u16 = 4;
const SPARES_VARIABLE: &str = "ROWHOUSE_TENANT_SPARES";

/// A home is some dozens of files and catalogue rows that nobody uses yet; whoever asks for more has mistyped.
const SPARES_MAX: u16 = 1_000;

/// Databases that are built ahead on each server, where nothing else is said: few tenants have one.
const SPARE_DATABASES: u16 = 0;
const SPARE_DATABASES_VARIABLE: &str = "ROWHOUSE_TENANT_SPARE_DATABASES";

/// A database takes about 8 MB, a login, and a visit of the relay each eight seconds, 5 ms of CPU: this many take 256 MB of a
/// server and 2 % of one CPU for nobody.
const SPARE_DATABASES_MAX: u16 = 32;

/// Names of data servers, separated by commas, each with its address where it is known: `data1=db1:5432,data2`.
struct Servers {
    servers: Vec<Traits>,
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
            page_token_key: env.secret_key("ROWHOUSE_PAGE_TOKEN_KEY"),
            delete_grace_days: env.or("ROWHOUSE_DELETE_GRACE_DAYS", DELETE_GRACE_DAYS),
            auth_addr: env.required("ROWHOUSE_AUTH_ADDR", String::new()),
            crm_provision_addr: env.required("ROWHOUSE_CRM_PROVISION_ADDR", String::new()),
            worker_addr: env.required("ROWHOUSE_WORKER_ADDR", String::new()),
            spares: spares(env),
            spare_databases: spare_databases(env),
        }
    }
}

fn spares(env: &mut Env) -> u16 {
    let spares = env.or(SPARES_VARIABLE, SPARES);
    if spares > SPARES_MAX {
        env.refuse(SPARES_VARIABLE, "must be 1000 at most");
    }
    spares
}

fn spare_databases(env: &mut Env) -> u16 {
    let spares = env.or(SPARE_DATABASES_VARIABLE, SPARE_DATABASES);
    if spares > SPARE_DATABASES_MAX {
        env.refuse(SPARE_DATABASES_VARIABLE, "must be 32 at most");
    }
    spares
}

// === impl MigrateConfig ===

impl MigrateConfig {
    /// Reads the section.
    pub fn read(env: &mut Env) -> Self {
        Self {
            telemetry: Telemetry::read(env),
            control_owner_url: env.secret("ROWHOUSE_CONTROL_OWNER_URL"),
            data_servers: servers(env),
        }
    }
}

fn servers(env: &mut Env) -> Vec<Traits> {
    const NAME: &str = "ROWHOUSE_DATA_SERVERS";
    let Some(text) = env.optional(NAME) else {
        return Vec::new();
    };
    text.parse().map_or_else(
        |()| {
            env.refuse(
                NAME,
                "must be names of data servers, or name=host:port, separated by commas",
            );
            Vec::new()
        },
        |read: Servers| read.servers,
    )
}

// === impl Servers ===

impl FromStr for Servers {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let servers = text.split(',').map(|server| {
            let (name, address) = server.trim().split_once('=').unwrap_or((server.trim(), ""));
            Ok(Traits {
                name: name.parse().map_err(|_| ())?,
                address: address.parse().map_err(|_| ())?,
                labels: Labels::default(),
                placements: PLACEMENTS.to_vec(),
                tenants_max: Capacity::default(),
            })
        });
        Ok(Self {
            servers: servers.collect::<Result<_, ()>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_are_read_and_garbage_is_refused() {
        let names = |text: &str| text.parse::<Servers>().map(|servers| servers.servers.len());
        assert_eq!(names("data1"), Ok(1));
        assert_eq!(names("data1=db1.internal:5432, data2"), Ok(2));
        for text in [
            "",
            ",",
            "data1,",
            "Data1",
            "1data",
            "data1=db1",
            "data1=postgres://db1:5432",
        ] {
            assert_eq!(names(text), Err(()), "{text:?}");
        }
    }

    #[test]
    fn spares_have_a_bound_and_none_are_allowed() {
        let faults = |number: &str| {
            let mut env = Env::from_pairs([(SPARES_VARIABLE.to_owned(), number.to_owned())]);
            spares(&mut env);
            env.finish(()).is_err()
        };
        for (number, refused) in [
            ("0", false),
            ("1000", false),
            ("1001", true),
            ("-1", true),
            ("70000", true),
        ] {
            assert_eq!(faults(number), refused, "{number}");
        }
    }

    #[test]
    fn spare_databases_are_none_where_nothing_is_said_and_have_a_bound_of_their_own() {
        let read = |numbers: &[&str]| {
            let pairs = numbers.iter();
            let pairs = pairs.map(|number| (SPARE_DATABASES_VARIABLE.to_owned(), (*number).to_owned()));
            let mut env = Env::from_pairs(pairs);
            let spares = spare_databases(&mut env);
            env.finish(spares).ok()
        };
        assert_eq!(read(&[]), Some(0));
        assert_eq!(read(&["32"]), Some(32));
        for number in ["33", "-1", "1000"] {
            assert_eq!(read(&[number]), None, "{number}");
        }
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
