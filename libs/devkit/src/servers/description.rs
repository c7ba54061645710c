//! Where the running servers are, and who may log in.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::pgbouncer::DEV_LANES;

/// A login of the suite, as `libs/db/cluster/roles.sql` creates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Login {
    /// `rowhouse_owner`: owns every schema and migrates.
    Owner,
    /// `rowhouse_app`: the services' login for tenants' data.
    App,
    /// `rowhouse_relay`: publishes the outbox.
    Relay,
    /// `rowhouse_keeper`: claims homes, seals audit entries.
    Keeper,
    /// `rowhouse_pooler`: PgBouncer asks by it who may log in to a tenant's own database.
    Pooler,
    /// `rowhouse_ctl_tenant`: the tenant service's schema of the control database.
    ControlTenant,
    /// `rowhouse_ctl_auth`: the auth service's schema of the control database.
    ControlAuth,
    /// `rowhouse_ctl_worker`: the worker's schema of the control database.
    ControlWorker,
}

impl Login {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Owner,
        Self::App,
        Self::Relay,
        Self::Keeper,
        Self::Pooler,
        Self::ControlTenant,
        Self::ControlAuth,
        Self::ControlWorker,
    ];

    /// Its name in PostgreSQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "rowhouse_owner",
            Self::App => "rowhouse_app",
            Self::Relay => "rowhouse_relay",
            Self::Keeper => "rowhouse_keeper",
            Self::Pooler => "rowhouse_pooler",
            Self::ControlTenant => "rowhouse_ctl_tenant",
            Self::ControlAuth => "rowhouse_ctl_auth",
            Self::ControlWorker => "rowhouse_ctl_worker",
        }
    }
}

/// Where a server is and how to get in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Endpoint {
    pub(crate) fn postgres_url(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{user}:{password}@{}:{}/{database}", self.host, self.port)
    }

    /// `host:port`.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Reads a `postgres://` URL.
    pub(super) fn parse(variable: &str, url: &str) -> Result<Self> {
        let config = tokio_postgres::Config::from_str(url)
            .ok()
            .with_context(|| format!("{variable} is no URL"))?;
        let host = match config.get_hosts().first() {
            Some(tokio_postgres::config::Host::Tcp(host)) => host.clone(),
            _ => anyhow::bail!("{variable} names no host"),
        };
        let password = config
            .get_password()
            .with_context(|| format!("{variable} has no password"))?;
        Ok(Self {
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            user: config
                .get_user()
                .with_context(|| format!("{variable} has no user"))?
                .to_owned(),
            password: String::from_utf8(password.to_vec())?,
        })
    }
}

/// Where the running servers are and how to get in. Written into the stack's folder for whoever uses them.
#[derive(Clone, Serialize, Deserialize)]
pub struct Servers {
    pub(super) folder: PathBuf,
    pub(super) postgres: Endpoint,
    /// Whether PostgreSQL is a private copy, whose superuser is ours too.
    pub(super) postgres_is_private: bool,
    pub(super) pgbouncer: Endpoint,
    /// PostgreSQL and PgBouncer of the second data server, where the stack has one.
    #[serde(default)]
    pub(super) second: Option<(Endpoint, Endpoint)>,
    /// Lanes that PgBouncer has aliases for, in the data database of `cargo xtask up`.
    #[serde(default)]
    pub(super) lanes: u16,
    /// Whether every PgBouncer keeps prepared statements for each client.
    #[serde(default)]
    pub(super) keeps_statements: bool,
    pub(super) passwords: BTreeMap<String, String>,
    pub(super) redis_url: String,
    pub(super) amqp_url: String,
    pub(super) rabbitmq_admin_url: Option<String>,
    /// What was started, and how long each took: empty for servers that ran already or are not ours.
    #[serde(skip)]
    pub(super) started: Vec<(String, Duration)>,
}

// The fields hold passwords.
impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Servers {
    /// Reads the description that [`start`] left.
    ///
    /// # Errors
    /// When it is not there or not understood.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no description of a stack", file.display()))
    }

    /// The second data server's cluster and its PgBouncer, where the stack has one; Redis and RabbitMQ are the same.
    pub fn second(&self) -> Option<Self> {
        let (postgres, pgbouncer) = self.second.clone()?;
        Some(self.on(postgres, pgbouncer))
    }

    /// The same with another cluster of ours, whose logins have the same passwords.
    pub(crate) fn on(&self, postgres: Endpoint, pgbouncer: Endpoint) -> Self {
        Self {
            postgres,
            postgres_is_private: true,
            pgbouncer,
            second: None,
            started: Vec::new(),
            ..self.clone()
        }
    }

    /// The file with this description.
    pub fn file(&self) -> PathBuf {
        self.folder.join("stack.json")
    }

    /// The stack's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A superuser's URL of one database, direct.
    pub fn superuser_url(&self, database: &str) -> String {
        self.postgres
            .postgres_url(&self.postgres.user, &self.postgres.password, database)
    }

    /// A login's URL of one database, direct.
    pub fn login_url(&self, login: Login, database: &str) -> String {
        self.postgres
            .postgres_url(login.name(), &self.password(login), database)
    }

    /// `rowhouse_app`'s URL of one database, through PgBouncer in transaction mode.
    pub fn pooled_url(&self, database: &str) -> String {
        self.pgbouncer
            .postgres_url(Login::App.name(), &self.password(Login::App), database)
    }

    /// The URL of one database by a login that is not the suite's own, such as a tenant's database has; direct.
    pub fn url_of(&self, user: &str, password: &str, database: &str) -> String {
        self.postgres.postgres_url(user, password, database)
    }

    /// The same through PgBouncer.
    pub fn pooled_url_of(&self, user: &str, password: &str, database: &str) -> String {
        self.pgbouncer.postgres_url(user, password, database)
    }

    /// Lanes that PgBouncer has aliases for, in the data database of `cargo xtask up`; 0 for none.
    pub fn lanes(&self) -> u16 {
        self.lanes
    }

    /// Server connections of each of them.
    pub fn lane_connections(&self) -> u32 {
        if self.lanes > 0 { DEV_LANES.pool_size } else { 0 }
    }

    /// Whether PgBouncer keeps prepared statements for each client, and the second one too: they are one program, unless the first
    /// is given.
    pub fn keeps_statements(&self) -> bool {
        self.keeps_statements
    }

    /// PostgreSQL itself.
    pub(crate) fn postgres(&self) -> &Endpoint {
        &self.postgres
    }

    /// PgBouncer's own console, for `SHOW POOLS` and the like.
    pub fn pgbouncer_console_url(&self) -> String {
        self.pgbouncer
            .postgres_url(&self.pgbouncer.user, &self.pgbouncer.password, "pgbouncer")
    }

    /// Redis, with its password.
    pub fn redis_url(&self) -> String {
        self.redis_url.clone()
    }

    /// RabbitMQ's default virtual host, with user and password.
    pub fn amqp_url(&self) -> String {
        self.amqp_url.clone()
    }

    /// One of RabbitMQ's virtual hosts, with user and password.
    pub fn virtual_host_url(&self, name: &str) -> String {
        let authority_at = self.amqp_url.find("://").map_or(0, |at| at + 3);
        let rest = self.amqp_url.get(authority_at..).unwrap_or_default();
        let end = rest.find('/').map_or(self.amqp_url.len(), |at| authority_at + at);
        format!("{}/{name}", self.amqp_url.get(..end).unwrap_or_default())
    }

    /// RabbitMQ's management API, with user and password, without a slash at the end.
    ///
    /// # Errors
    /// When RabbitMQ was given by `ROWHOUSE_AMQP_URL` alone.
    pub fn rabbitmq_admin_url(&self) -> Result<&str> {
        self.rabbitmq_admin_url.as_deref().context(
            "virtual hosts are made through RabbitMQ's management API: give ROWHOUSE_RABBITMQ_ADMIN_URL beside \
             ROWHOUSE_AMQP_URL",
        )
    }

    /// Name and address of each server.
    pub fn addresses(&self) -> Vec<(&'static str, String)> {
        let mut addresses = vec![
            ("postgres", self.postgres.authority()),
            ("pgbouncer", self.pgbouncer.authority()),
            ("redis", authority(&self.redis_url)),
            ("rabbitmq", authority(&self.amqp_url)),
        ];
        if let Some((postgres, pgbouncer)) = &self.second {
            addresses.push(("postgres-data2", postgres.authority()));
            addresses.push(("pgbouncer-data2", pgbouncer.authority()));
        }
        addresses
    }

    /// A private PostgreSQL's superuser and password.
    pub(crate) fn private_superuser(&self) -> Option<(&str, &str)> {
        let superuser = (self.postgres.user.as_str(), self.postgres.password.as_str());
        self.postgres_is_private.then_some(superuser)
    }

    /// A login's password.
    pub(crate) fn password(&self, login: Login) -> String {
        self.passwords.get(login.name()).cloned().unwrap_or_default()
    }

    /// What was started just now, and how long each server took.
    pub fn started(&self) -> &[(String, Duration)] {
        &self.started
    }
}

/// `host:port` of a URL.
fn authority(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_host_replaces_the_path() {
        let endpoint = Endpoint::parse("X", "postgres://u:p@h:7/d").unwrap();
        let mut servers = Servers {
            folder: PathBuf::new(),
            postgres: endpoint.clone(),
            postgres_is_private: true,
            pgbouncer: endpoint,
            second: None,
            lanes: 0,
            keeps_statements: false,
            passwords: BTreeMap::new(),
            redis_url: String::new(),
            amqp_url: "amqp://u:p@h:5672/%2f".to_owned(),
            rabbitmq_admin_url: None,
            started: Vec::new(),
        };
        assert_eq!(servers.virtual_host_url("t1"), "amqp://u:p@h:5672/t1");
        assert_eq!(authority(&servers.amqp_url), "h:5672");
        servers.amqp_url = "amqp://u:p@h:5672".to_owned();
        assert_eq!(servers.virtual_host_url("t1"), "amqp://u:p@h:5672/t1");
        assert_eq!(servers.superuser_url("x"), "postgres://u:p@h:7/x");
        assert!(!format!("{servers:?}").contains("u:p"));
    }

    #[test]
    fn a_second_data_server_is_another_cluster_with_a_pooler_of_its_own_and_stands_in_the_description() {
        let endpoint = |port| Endpoint::parse("X", &format!("postgres://u:p@h:{port}/d")).unwrap();
        let mut servers = Servers {
            folder: PathBuf::new(),
            postgres: endpoint(1),
            postgres_is_private: false,
            pgbouncer: endpoint(2),
            second: None,
            lanes: 0,
            keeps_statements: false,
            passwords: BTreeMap::new(),
            redis_url: String::new(),
            amqp_url: String::new(),
            rabbitmq_admin_url: None,
            started: Vec::new(),
        };
        assert!(servers.second().is_none());
        servers.second = Some((endpoint(3), endpoint(4)));
        let read: Servers = serde_json::from_slice(&serde_json::to_vec(&servers).unwrap()).unwrap();
        let second = read.second().unwrap();
        assert_eq!(second.superuser_url("x"), "postgres://u:p@h:3/x");
        assert_eq!(second.pooled_url_of("a", "b", "x"), "postgres://a:b@h:4/x");
        assert!(
            second.private_superuser().is_some(),
            "it is ours, whoever gave the first"
        );
    }

    #[test]
    fn a_fault_in_a_given_url_names_the_variable_and_not_its_value() {
        let error = Endpoint::parse("ROWHOUSE_POSTGRES_URL", "postgres://u:hush@h:x/")
            .err()
            .unwrap()
            .to_string();
        assert_eq!(error, "ROWHOUSE_POSTGRES_URL is no URL");
    }
}
