//! The suite that `cargo xtask up` leaves running: the same processes as in tests, detached from whoever started them.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::checkout::Checkout;
use crate::cluster::{self, Kind};
use crate::port::Ports;
use crate::secrets::Secrets;
use crate::servers::{self, Servers};
use crate::settings::{DATA_SERVER, DataServer, Keys, Listener, Process, SECOND_DATA_SERVER, Settings};
use crate::smtp::{self, Mail};
use crate::spawn::Launch;
use crate::stack::{Profile, Stack};
use crate::{http, mark, migrate, wait};

/// How long a process may take until it is ready.
const READY_BOUND: Duration = Duration::from_secs(60);
/// The name of the SMTP sink's process.
const SINK: &str = "smtp-sink";
/// The first operator.
pub const ADMIN_EMAIL: &str = "admin@rowhouse.example";

/// The suite of `cargo xtask up`.
#[derive(Debug)]
pub struct Resident {
    stack: Stack,
    checkout: Checkout,
    settings: Settings,
    sink: SocketAddr,
    release: bool,
    /// Held until this value goes, so that nobody takes a port between its choice and the process's bind.
    _ports: Ports,
}

/// How a suite is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Optimised binaries.
    pub release: bool,
    /// With a second data server, on a cluster of its own; one that had it keeps it.
    pub second_data_server: bool,
}

/// One line of the table that `up` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The process.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// `ready`, or what is wrong.
    pub health: String,
}

impl Resident {
    /// Starts what is not running: servers, databases, the SMTP sink. The services are started by
    /// [`Resident::start_services`]. The caller holds the stack's lock.
    ///
    /// # Errors
    /// When a server does not come up.
    pub async fn prepare(stack: Stack, checkout: Checkout, sink_program: &Path, how: How) -> Result<Self> {
        let servers = servers::start_with(&stack, how.second_data_server).await?;
        cluster::ensure_roles(&servers).await?;
        ensure!(
            !cluster::has_database(&servers, cluster::SECOND_DATA).await?,
            "{} lies on the first data server, where an older `up` has put it: run `cargo xtask up --fresh`, or drop it",
            cluster::SECOND_DATA
        );
        cluster::ensure_database(&servers, cluster::CONTROL, Kind::Control, None).await?;
        cluster::ensure_database(&servers, cluster::DATA, Kind::Data, None).await?;
        if let Some(second) = servers.second() {
            cluster::ensure_roles(&second).await?;
            cluster::ensure_database(&second, cluster::SECOND_DATA, Kind::Data, None).await?;
        }
        let resident = Self::describe(stack, checkout, servers, Some(how))?;
        fs::create_dir_all(&resident.settings.files)?;
        resident.start_sink(sink_program).await?;
        Ok(resident)
    }

    /// The suite that `up` has left running.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(checkout: Checkout) -> Result<Self> {
        let stack = Stack::open(&checkout, Profile::Dev)?;
        let file = stack.folder().join("stack.json");
        ensure!(file.exists(), "the dev stack was not started: run `cargo xtask up`");
        let servers = Servers::read(&file)?;
        Self::describe(stack, checkout, servers, None)
    }

    /// `how`: where it is to be started, so that ports are assigned.
    fn describe(stack: Stack, checkout: Checkout, servers: Servers, how: Option<How>) -> Result<Self> {
        let assign = how.is_some();
        let mut known = Ports::load(stack.folder());
        let mut port = |process: &str, name: &str| match known.remembered(name) {
            Some(port) if !assign || mark::find_process(stack.folder(), process).is_some() => Ok(port),
            None if !assign => anyhow::bail!("the dev stack was not started in full: run `cargo xtask up`"),
            _ => known.assign(name),
        };
        let mut ports = BTreeMap::new();
        for process in Process::ALL {
            for listener in Listener::ALL {
                let name = format!("{}.{}", process.name(), listener.name());
                ports.insert((process, listener), port(process.name(), &name)?);
            }
        }
        let sink = SocketAddr::from(([127, 0, 0, 1], port(SINK, SINK)?));
        let folder = stack.folder().to_owned();
        let settings = Settings {
            control: cluster::CONTROL.to_owned(),
            data: data_servers(&servers),
            amqp_url: servers.amqp_url(),
            redis_prefix: "rowhouse".to_owned(),
            smtp_url: format!("smtp://{sink}"),
            spares: 4,
            spare_databases: 1,
            certificates: None,
            files: stack.folder().join("files"),
            ports,
            keys: Keys::of(&mut Secrets::load(stack.folder())?)?,
            servers,
        };
        Ok(Self {
            stack,
            checkout,
            settings,
            sink,
            release: how.map_or_else(|| runs_release(&folder), |how| how.release),
            _ports: known,
        })
    }

    async fn start_sink(&self, program: &Path) -> Result<()> {
        let address = self.sink.to_string();
        let launch = Launch {
            process: SINK.to_owned(),
            program: program.to_owned(),
            arguments: vec![
                "smtp-sink".into(),
                "--listen".into(),
                address.into(),
                "--folder".into(),
                self.mail_folder().into(),
            ],
            environment: Vec::new(),
            folder: self.stack.folder().to_owned(),
            log: self.stack.log(SINK),
            account: None,
            files: Vec::new(),
        };
        let sink = self.sink;
        servers::ensure_running(&self.stack, &launch, || async move {
            tokio::net::TcpStream::connect(sink).await?;
            Ok(true)
        })
        .await?;
        Ok(())
    }

    /// Whether its binaries are from `target/release`: those that are to be started, or those that run.
    #[must_use]
    pub fn is_release(&self) -> bool {
        self.release
    }

    /// Brings the schemas up to date.
    ///
    /// # Errors
    /// When a binary is not built or its migration fails.
    pub async fn migrate(&self) -> Result<()> {
        migrate::migrate(
            &self.checkout,
            &self.settings,
            &self.stack.folder().join("log"),
            self.release,
        )
        .await
    }

    /// Creates the first operator and returns the one-time secret; `None` when there is one already.
    ///
    /// # Errors
    /// When the command fails.
    pub async fn bootstrap_admin(&self) -> Result<Option<String>> {
        let logs = self.stack.folder().join("log");
        let file = self.admin_password_file();
        migrate::bootstrap_admin(&self.checkout, &self.settings, &logs, self.release, ADMIN_EMAIL, &file).await
    }

    /// Starts the services that are not running, or whose binary or configuration has changed, or that are not ready.
    /// Returns their names.
    ///
    /// # Errors
    /// When one does not become ready; the end of its log is in the message.
    pub async fn start_services(&self) -> Result<Vec<&'static str>> {
        let mut started: Vec<(Process, Launch, Child)> = Vec::new();
        for process in Process::ALL {
            let launch = self.launch(process)?;
            if let Some(running) = mark::find_process(self.stack.folder(), process.name()) {
                if running.fingerprint == launch.fingerprint() && self.is_ready(process).await.unwrap_or(false) {
                    continue;
                }
                let folder = self.stack.folder().to_owned();
                let stop = move || mark::stop(&folder, true, |found| found.process == process.name());
                tokio::task::spawn_blocking(stop).await?;
            }
            let child = launch.detached(self.stack.folder())?;
            started.push((process, launch, child));
        }
        for (process, launch, child) in &mut started {
            wait::until_up(process.name(), READY_BOUND, child, &launch.log, || {
                self.is_ready(*process)
            })
            .await?;
        }
        Ok(started.into_iter().map(|(process, ..)| process.name()).collect())
    }

    fn launch(&self, process: Process) -> Result<Launch> {
        Ok(Launch {
            process: process.name().to_owned(),
            program: self.checkout.binary(&process.binary(), self.release)?,
            arguments: vec![process.subcommand().into()],
            environment: self.settings.serve(process),
            folder: self.stack.folder().to_owned(),
            log: self.stack.log(process.name()),
            account: None,
            files: Vec::new(),
        })
    }

    async fn is_ready(&self, process: Process) -> Result<bool> {
        let url = format!("{}/readyz", self.settings.url(process, Listener::Admin));
        Ok(http::request("GET", &url).await?.0 == 200)
    }

    /// Who is where, and how they are.
    pub async fn table(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for process in Process::ALL {
            let listener = if process == Process::CrmProvision {
                Listener::Internal
            } else {
                Listener::Public
            };
            let health = match self.is_ready(process).await {
                Ok(true) => "ready".to_owned(),
                Ok(false) => "not ready".to_owned(),
                Err(_) => "does not answer".to_owned(),
            };
            let address = self.settings.address(process, listener).to_string();
            rows.push(Row {
                name: process.name().to_owned(),
                address,
                health,
            });
        }
        for (name, address) in self.settings.servers.addresses() {
            rows.push(Row {
                name: name.to_owned(),
                address,
                health: "ready".to_owned(),
            });
        }
        rows.push(Row {
            name: SINK.to_owned(),
            address: self.sink.to_string(),
            health: "ready".to_owned(),
        });
        rows
    }

    /// The number of a process that runs.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self, process: Process) -> Result<i32> {
        let found = mark::find_process(self.stack.folder(), process.name());
        let found = found.with_context(|| format!("{} does not run: run `cargo xtask up`", process.name()))?;
        Ok(found.pid)
    }

    /// What the processes are configured with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// `http://host:port` of a process's listener.
    pub fn url(&self, process: Process, listener: Listener) -> String {
        self.settings.url(process, listener)
    }

    /// The mails sent so far, oldest first.
    ///
    /// # Errors
    /// When the sink's folder cannot be read.
    pub fn mails(&self) -> Result<Vec<Mail>> {
        smtp::list(&self.mail_folder())
    }

    /// The folder of the SMTP sink.
    pub fn mail_folder(&self) -> PathBuf {
        self.stack.folder().join("mail")
    }

    /// The file with the first operator's one-time secret.
    pub fn admin_password_file(&self) -> PathBuf {
        self.stack.folder().join("admin-password")
    }

    /// The first operator's one-time secret, as `up` has shown it.
    ///
    /// # Errors
    /// When the file is not there.
    pub fn admin_password(&self) -> Result<String> {
        let file = self.admin_password_file();
        let secret = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(secret.trim().to_owned())
    }
}

/// Whether the suite that runs in a stack is from `target/release`.
fn runs_release(stack: &Path) -> bool {
    let auth = mark::find_process(stack, Process::Auth.name());
    let program = auth.and_then(|auth| fs::read_link(format!("/proc/{}/exe", auth.pid)).ok());
    program.is_some_and(|program| program.parent().is_some_and(|folder| folder.ends_with("release")))
}

/// The data servers of a stack: one, or two.
fn data_servers(servers: &Servers) -> BTreeMap<&'static str, DataServer> {
    let data = |servers: Servers, database: &str| DataServer {
        servers,
        database: database.to_owned(),
    };
    let first = (DATA_SERVER, data(servers.clone(), cluster::DATA));
    let second = servers
        .second()
        .map(|second| (SECOND_DATA_SERVER, data(second, cluster::SECOND_DATA)));
    [first].into_iter().chain(second).collect()
}
