//! What the processes of one suite are configured with: one place that knows who gets which variable.
//!
//! A process gets what it reads and no more: `crm serve` has no owner's URL, only `auth` has the master key of what it seals.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Result;

use crate::secrets::{Secrets, public_key};
use crate::servers::{Login, Servers};

/// The data server that every suite has.
pub const DATA_SERVER: &str = "data1";
/// The one that it has on request.
pub const SECOND_DATA_SERVER: &str = "data2";
/// Variables of whoever starts a suite that its processes inherit.
const PASSED_ON: [&str; 2] = ["ROWHOUSE_LOG", "ROWHOUSE_OTLP_ENDPOINT"];

/// One process of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Process {
    /// `rowhouse-tenant serve`.
    Tenant,
    /// `rowhouse-auth serve`.
    Auth,
    /// `rowhouse-crm serve`.
    Crm,
    /// `rowhouse-crm provision`.
    CrmProvision,
    /// `rowhouse-worker serve`.
    Worker,
}

/// One of a process's listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Listener {
    /// gRPC for callers (`ROWHOUSE_LISTEN`).
    Public,
    /// gRPC between services (`ROWHOUSE_INTERNAL_LISTEN`).
    Internal,
    /// HTTP for `/livez /readyz /metrics` (`ROWHOUSE_ADMIN_LISTEN`).
    Admin,
}

impl Listener {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Public, Self::Internal, Self::Admin];

    /// Its name in the list of ports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Admin => "admin",
        }
    }
}

impl Process {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Tenant, Self::Auth, Self::Crm, Self::CrmProvision, Self::Worker];
    /// Those whose binaries have a `migrate`, in the order in which it runs.
    pub const MIGRATING: [Self; 4] = [Self::Tenant, Self::Auth, Self::Crm, Self::Worker];

    /// Its name in tables, logs and marks.
    pub fn name(self) -> &'static str {
        match self {
            Self::CrmProvision => "crm-provision",
            other => other.service(),
        }
    }

    /// The service that it belongs to, and whose identity it has.
    pub fn service(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Auth => "auth",
            Self::Crm | Self::CrmProvision => "crm",
            Self::Worker => "worker",
        }
    }

    /// Its binary.
    pub fn binary(self) -> String {
        format!("rowhouse-{}", self.service())
    }

    /// The subcommand that it runs.
    pub fn subcommand(self) -> &'static str {
        if self == Self::CrmProvision {
            "provision"
        } else {
            "serve"
        }
    }

    fn control_login(self) -> Option<Login> {
        match self {
            Self::Tenant => Some(Login::ControlTenant),
            Self::Auth => Some(Login::ControlAuth),
            Self::Worker => Some(Login::ControlWorker),
            Self::Crm | Self::CrmProvision => None,
        }
    }
}

/// The keys of one suite.
#[derive(Clone)]
pub struct Keys {
    seeds: BTreeMap<&'static str, String>,
    public: String,
    master: String,
    data_master: String,
    page_token: String,
}

impl Keys {
    /// Reads a stack's keys, making what is missing.
    ///
    /// # Errors
    /// When they cannot be made or written.
    pub fn of(secrets: &mut Secrets) -> Result<Self> {
        let mut seeds = BTreeMap::new();
        let mut public = Vec::new();
        for process in Process::MIGRATING {
            let service = process.service();
            let seed = secrets.key(&format!("service_key_{service}"))?;
            public.push(format!("{service}={}", public_key(&seed)?));
            seeds.insert(service, seed);
        }
        Ok(Self {
            seeds,
            public: public.join(","),
            master: secrets.key("master_key")?,
            data_master: secrets.key("data_master_key")?,
            page_token: secrets.key("page_token_key")?,
        })
    }
}

/// A data server: a main database, its cluster and the pooler before that.
#[derive(Clone, Debug)]
pub struct DataServer {
    /// Where it is, and who may log in.
    pub servers: Servers,
    /// The main database's name.
    pub database: String,
}

impl DataServer {
    /// A login's direct URL of the main database.
    pub fn url(&self, login: Login) -> String {
        self.servers.login_url(login, &self.database)
    }

    /// `rowhouse_app`'s URL of the main database, through PgBouncer in transaction mode.
    pub fn pooled_url(&self) -> String {
        self.servers.pooled_url(&self.database)
    }

    /// A superuser's URL of the main database: for looking, and for planting faults.
    pub fn superuser_url(&self) -> String {
        self.servers.superuser_url(&self.database)
    }
}

/// What the processes of one suite are configured with.
#[derive(Clone)]
pub struct Settings {
    /// The servers that the control database, Redis and RabbitMQ are on.
    pub servers: Servers,
    /// The control database's name.
    pub control: String,
    /// The data servers, by name.
    pub data: BTreeMap<&'static str, DataServer>,
    /// The virtual host, with user and password.
    pub amqp_url: String,
    /// The prefix of Redis keys.
    pub redis_prefix: String,
    /// The mail server.
    pub smtp_url: String,
    /// Homes that are built ahead, each a schema.
    pub spares: u16,
    /// Those that are databases.
    pub spare_databases: u16,
    /// Where services show certificates: a folder with a folder for each.
    pub certificates: Option<PathBuf>,
    /// The folder of the worker's files.
    pub files: PathBuf,
    /// The ports of all listeners.
    pub ports: BTreeMap<(Process, Listener), u16>,
    /// The keys.
    pub keys: Keys,
}

// The fields hold secrets.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("control", &self.control)
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// The address of a process's listener.
    pub fn address(&self, process: Process, listener: Listener) -> SocketAddr {
        // Every pair has a port; 0 would only ever show as a refused connection.
        let port = self.ports.get(&(process, listener)).copied().unwrap_or_default();
        (Ipv4Addr::LOCALHOST, port).into()
    }

    /// `http://host:port` of a process's listener.
    pub fn url(&self, process: Process, listener: Listener) -> String {
        format!("http://{}", self.address(process, listener))
    }

    /// The seed of a service's identity, 32 bytes in base64.
    pub fn service_key(&self, process: Process) -> String {
        self.keys.seeds.get(process.service()).cloned().unwrap_or_default()
    }

    /// The master key of the logins that tenants' own databases have, 32 bytes in base64.
    pub fn data_master_key(&self) -> &str {
        &self.keys.data_master
    }

    /// The variables of a process that serves.
    pub fn serve(&self, process: Process) -> Vec<(String, String)> {
        let mut variables = Variables::new();
        let address = |listener| self.address(process, listener).to_string();
        variables.set("ROWHOUSE_LISTEN", address(Listener::Public));
        variables.set("ROWHOUSE_INTERNAL_LISTEN", address(Listener::Internal));
        variables.set("ROWHOUSE_ADMIN_LISTEN", address(Listener::Admin));
        self.identity(process, &mut variables);
        for (name, peer) in [
            ("ROWHOUSE_AUTH_ADDR", Process::Auth),
            ("ROWHOUSE_TENANT_ADDR", Process::Tenant),
            ("ROWHOUSE_WORKER_ADDR", Process::Worker),
            ("ROWHOUSE_CRM_ADDR", Process::Crm),
            ("ROWHOUSE_CRM_PROVISION_ADDR", Process::CrmProvision),
        ] {
            variables.set(name, self.peer_url(peer));
        }
        variables.set("ROWHOUSE_REDIS_URL", self.servers.redis_url());
        variables.set("ROWHOUSE_REDIS_PREFIX", &self.redis_prefix);
        variables.set("ROWHOUSE_AMQP_URL", &self.amqp_url);
        variables.set("ROWHOUSE_PAGE_TOKEN_KEY", &self.keys.page_token);
        if let Some(login) = process.control_login() {
            variables.set("ROWHOUSE_CONTROL_URL", self.servers.login_url(login, &self.control));
        }
        self.serve_own(process, &mut variables);
        variables.0
    }

    /// Who it is to the other services.
    fn identity(&self, process: Process, variables: &mut Variables) {
        match &self.certificates {
            Some(folder) => {
                let own = folder.join(process.service());
                variables.set("ROWHOUSE_TLS_DIR", own.display().to_string());
            }
            None => {
                variables.set("ROWHOUSE_SERVICE_KEY", self.service_key(process));
                variables.set("ROWHOUSE_SERVICE_KEYS", &self.keys.public);
            }
        }
    }

    /// Where the other services reach a process.
    fn peer_url(&self, process: Process) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address(process, Listener::Internal))
    }

    /// What only one process reads.
    fn serve_own(&self, process: Process, variables: &mut Variables) {
        match process {
            Process::Tenant => {
                variables.set("ROWHOUSE_TENANT_SPARES", self.spares.to_string());
                variables.set("ROWHOUSE_TENANT_SPARE_DATABASES", self.spare_databases.to_string());
            }
            Process::Auth => variables.set("ROWHOUSE_MASTER_KEY", &self.keys.master),
            Process::Crm => {
                variables.set("ROWHOUSE_DATA_URLS", self.of_each_data_server(DataServer::pooled_url));
                variables.set("ROWHOUSE_DATA_LANES", self.servers.lanes().to_string());
                variables.set(
                    "ROWHOUSE_DATA_LANE_SERVER_CONNECTIONS",
                    self.servers.lane_connections().to_string(),
                );
                variables.set(
                    "ROWHOUSE_DATA_KEEPS_STATEMENTS",
                    self.servers.keeps_statements().to_string(),
                );
                let relay = self.of_each_data_server(|data| data.url(Login::Relay));
                variables.set("ROWHOUSE_DATA_RELAY_URLS", relay);
                variables.set("ROWHOUSE_DATA_MASTER_KEY", &self.keys.data_master);
            }
            Process::CrmProvision => {
                variables.set("ROWHOUSE_DATA_OWNER_URLS", self.data_owner_urls());
                variables.set("ROWHOUSE_DATA_MASTER_KEY", &self.keys.data_master);
            }
            Process::Worker => {
                variables.set("ROWHOUSE_SMTP_URL", &self.smtp_url);
                variables.set("ROWHOUSE_MAIL_FROM", "Rowhouse <no-reply@rowhouse.example>");
                variables.set("ROWHOUSE_FILES_URL", format!("file://{}", self.files.display()));
                variables.set("ROWHOUSE_APP_URL", "https://app.rowhouse.example");
            }
        }
    }

    /// The variables of a binary's `migrate`.
    pub fn migrate(&self, process: Process) -> Vec<(String, String)> {
        let mut variables = Variables::new();
        if process.control_login().is_some() {
            variables.set(
                "ROWHOUSE_CONTROL_OWNER_URL",
                self.servers.login_url(Login::Owner, &self.control),
            );
            if process == Process::Tenant {
                variables.set("ROWHOUSE_DATA_SERVERS", self.data_servers());
            }
        } else {
            variables.set("ROWHOUSE_DATA_OWNER_URLS", self.data_owner_urls());
            variables.set("ROWHOUSE_DATA_MASTER_KEY", &self.keys.data_master);
        }
        variables.0
    }

    /// Names and addresses, as the directory shows them.
    fn data_servers(&self) -> String {
        self.of_each_data_server(|data| data.servers.postgres().authority())
    }

    fn data_owner_urls(&self) -> String {
        self.of_each_data_server(|data| data.url(Login::Owner))
    }

    /// `name=value` of each data server, separated by commas.
    fn of_each_data_server(&self, value: impl Fn(&DataServer) -> String) -> String {
        let pairs = self.data.iter().map(|(name, data)| format!("{name}={}", value(data)));
        pairs.collect::<Vec<_>>().join(",")
    }
}

/// Variables in the order in which they were set.
struct Variables(Vec<(String, String)>);

impl Variables {
    fn new() -> Self {
        let passed_on = PASSED_ON
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
        Self(passed_on.collect())
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_owned(), value.into()));
    }
}
