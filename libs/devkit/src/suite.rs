//! The suite's own processes, started from the built binaries for one test.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::Mutex;

use crate::caller::Endpoints;
use crate::checkout::Checkout;
use crate::fixture::{Databases, VirtualHost, unique};
use crate::port::{self, Reservation};
use crate::secrets::Secrets;
use crate::settings::{Keys, Settings};
pub use crate::settings::{Listener, Process};
use crate::smtp::{Mail, SmtpSink};
use crate::spawn::Launch;
use crate::{http, migrate, wait};

/// How long a process may take until it is ready, on a machine that runs other tests beside it.
const READY_BOUND: Duration = Duration::from_secs(60);
/// Longer than the default of `ROWHOUSE_DRAIN_MS`.
const DRAIN_BOUND: Duration = Duration::from_secs(30);
/// SIGKILL works at once, unless the machine is out of breath.
const KILL_BOUND: Duration = Duration::from_secs(30);

/// How a suite differs from the usual one.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Processes that are not started (`restart` starts them).
    pub without: Vec<Process>,
    /// Variables added or replaced: for one process, or for all where it is `None`.
    pub environment: Vec<(Option<Process>, String, String)>,
    /// A second data server, `data2`, on a cluster of its own, migrated and not registered.
    pub second_data_server: bool,
    /// Mutual TLS between the services, strictly: a folder in which each service has a folder of its own, with its name.
    pub certificates: Option<PathBuf>,
    /// Binaries from `target/release` instead of `target/debug`.
    pub release: bool,
}

/// A running suite of one test, on databases, a virtual host and a Redis prefix of its own. Dropping it kills
/// everything that it started.
#[derive(Debug)]
pub struct Suite {
    // Fields are dropped in this order: processes, then what they stand on.
    children: Mutex<BTreeMap<Process, Child>>,
    checkout: Checkout,
    options: Options,
    settings: Settings,
    sink: SmtpSink,
    virtual_host: VirtualHost,
    databases: Databases,
    folder: PathBuf,
    _reservations: Vec<Reservation>,
}

impl Suite {
    /// Starts all five processes and waits until each is ready.
    ///
    /// # Errors
    /// When a server or binary is missing or a process does not become ready; the end of its log is in the message.
    pub async fn start(name: &str) -> Result<Self> {
        Self::start_with(name, Options::default()).await
    }

    /// As [`Suite::start`], with differences.
    ///
    /// # Errors
    /// As [`Suite::start`].
    pub async fn start_with(name: &str, options: Options) -> Result<Self> {
        let databases = async {
            let mut databases = Databases::create(name).await?;
            if options.second_data_server {
                databases.add_second_data().await?;
            }
            Ok(databases)
        };
        let (databases, virtual_host) = tokio::try_join!(databases, VirtualHost::create(name))?;
        let servers = databases.servers().clone();
        let folder = servers.folder().join("runs").join(unique(name));
        let (files, mails) = (folder.join("files"), folder.join("mail"));
        fs::create_dir_all(&files)?;
        let sink = SmtpSink::start(&mails).await?;
        let mut ports = BTreeMap::new();
        let mut reservations = Vec::new();
        for process in Process::ALL {
            for listener in Listener::ALL {
                let reservation = port::reserve()?;
                ports.insert((process, listener), reservation.port());
                reservations.push(reservation);
            }
        }
        let settings = Settings {
            control: databases.control_name().to_owned(),
            data: databases.data_servers(),
            amqp_url: virtual_host.url().to_owned(),
            redis_prefix: unique(name),
            smtp_url: sink.url(),
            // A test that wants some says so: the others shall not wait for what they do not use.
            spares: 0,
            spare_databases: 0,
            certificates: options.certificates.clone(),
            files,
            ports,
            keys: Keys::of(&mut Secrets::load(&folder)?)?,
            servers,
        };
        let suite = Self {
            children: Mutex::new(BTreeMap::new()),
            checkout: Checkout::find()?,
            options,
            settings,
            sink,
            virtual_host,
            databases,
            folder,
            _reservations: reservations,
        };
        if suite.options.second_data_server {
            // As an operator does before it is registered; the other one is a copy of a template that was migrated.
            suite.migrate(Process::Crm).await?;
        }
        suite.start_all().await?;
        Ok(suite)
    }

    /// All at once: none may depend on an order.
    async fn start_all(&self) -> Result<()> {
        let wanted: Vec<Process> = Process::ALL
            .into_iter()
            .filter(|p| !self.options.without.contains(p))
            .collect();
        for process in &wanted {
            self.spawn(*process).await?;
        }
        for process in wanted {
            self.ready(process).await?;
        }
        Ok(())
    }

    /// Kills a process with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn kill9(&self, process: Process) -> Result<()> {
        self.end(process, Signal::SIGKILL, KILL_BOUND).await.map(|_| ())
    }

    /// Sends SIGTERM and waits for the drain to end.
    ///
    /// # Errors
    /// When it is not running or does not end within the drain's bound.
    pub async fn stop(&self, process: Process) -> Result<ExitStatus> {
        self.end(process, Signal::SIGTERM, DRAIN_BOUND).await
    }

    /// Sends any signal, SIGSTOP and SIGCONT for example.
    ///
    /// # Errors
    /// When the process is not running.
    pub async fn signal(&self, process: Process, signal: Signal) -> Result<()> {
        let mut children = self.children.lock().await;
        let child = children
            .get_mut(&process)
            .with_context(|| format!("{} was not started", process.name()))?;
        if let Some(status) = child.try_wait()? {
            bail!("{} has ended by itself: {status}", process.name());
        }
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        Ok(())
    }

    async fn end(&self, process: Process, signal: Signal, bound: Duration) -> Result<ExitStatus> {
        self.signal(process, signal).await?;
        let mut child = self
            .children
            .lock()
            .await
            .remove(&process)
            .context("another task ended it meanwhile")?;
        let mut status = None;
        let waiting = wait::until(process.name(), bound, || {
            status = child.try_wait().ok().flatten();
            let ended = status.is_some();
            async move { Ok(ended) }
        });
        let waited = waiting.await;
        if waited.is_err() {
            kill_child(&mut child);
        }
        waited.with_context(|| format!("{} did not end after {signal}; it was killed", process.name()))?;
        status.context("it ended without a status")
    }

    /// Starts a process (killing it first where it runs) on the same ports, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn restart(&self, process: Process) -> Result<()> {
        if let Some(mut child) = self.children.lock().await.remove(&process) {
            kill_child(&mut child);
        }
        self.spawn(process).await?;
        self.ready(process).await
    }

    /// As [`Suite::restart`], with variables added or replaced from now on.
    ///
    /// # Errors
    /// As [`Suite::restart`].
    pub async fn restart_with(&mut self, process: Process, variables: Vec<(&str, String)>) -> Result<()> {
        let variables = variables.into_iter();
        let variables = variables.map(|(name, value)| (Some(process), name.to_owned(), value));
        self.options.environment.extend(variables);
        self.restart(process).await
    }

    async fn spawn(&self, process: Process) -> Result<()> {
        let launch = Launch {
            process: process.name().to_owned(),
            program: self.checkout.binary(&process.binary(), self.options.release)?,
            arguments: vec![process.subcommand().into()],
            environment: self.environment(process),
            folder: self.folder.clone(),
            log: self.log_file(process),
            account: None,
            files: Vec::new(),
        };
        let child = launch.attached(self.settings.servers.folder())?;
        self.children.lock().await.insert(process, child);
        Ok(())
    }

    async fn ready(&self, process: Process) -> Result<()> {
        let url = format!("{}/readyz", self.url(process, Listener::Admin));
        let mut children = self.children.lock().await;
        let child = children.get_mut(&process).context("another task ended it meanwhile")?;
        let log = self.log_file(process);
        wait::until_up(process.name(), READY_BOUND, child, &log, || async {
            Ok(http::request("GET", &url).await?.0 == 200)
        })
        .await
    }

    /// The address of a process's listener; it stays the same over restarts.
    pub fn address(&self, process: Process, listener: Listener) -> SocketAddr {
        self.settings.address(process, listener)
    }

    /// `http://host:port` of a process's listener.
    pub fn url(&self, process: Process, listener: Listener) -> String {
        self.settings.url(process, listener)
    }

    /// Channels to the public listeners, with connections of their own.
    ///
    /// # Errors
    /// When an address is none: never.
    pub fn endpoints(&self) -> Result<Endpoints> {
        let url = |process| self.url(process, Listener::Public);
        Endpoints::new(
            &url(Process::Tenant),
            &url(Process::Auth),
            &url(Process::Crm),
            &url(Process::Worker),
        )
    }

    fn log_file(&self, process: Process) -> PathBuf {
        self.folder.join(format!("{}.log", process.name()))
    }

    /// What a process has logged since the suite's start, over all its restarts.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log(&self, process: Process) -> Result<String> {
        let file = self.log_file(process);
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The mails sent so far, oldest first.
    ///
    /// # Errors
    /// When the sink's folder cannot be read.
    pub fn mails(&self) -> Result<Vec<Mail>> {
        self.sink.mails()
    }

    /// Waits for a mail to `address` for which `wanted` holds, and returns the newest such.
    ///
    /// # Errors
    /// When none arrived within `bound`.
    pub async fn wait_for_mail(&self, address: &str, bound: Duration, wanted: impl Fn(&Mail) -> bool) -> Result<Mail> {
        let address = address.to_lowercase();
        let mut found = None;
        wait::until(&format!("a mail to {address}"), bound, || {
            let mails = self.mails();
            let found = mails.map(|mails| {
                found = mails
                    .into_iter()
                    .rev()
                    .find(|mail| mail.to.contains(&address) && wanted(mail));
                found.is_some()
            });
            async move { found }
        })
        .await?;
        found.context("the mail went away")
    }

    /// The databases, with URLs for looking into them.
    pub fn databases(&self) -> &Databases {
        &self.databases
    }

    /// Redis, with its password.
    pub fn redis_url(&self) -> String {
        self.settings.servers.redis_url()
    }

    /// The prefix of this suite's Redis keys.
    pub fn redis_prefix(&self) -> &str {
        &self.settings.redis_prefix
    }

    /// This suite's virtual host, with user and password.
    pub fn amqp_url(&self) -> &str {
        self.virtual_host.url()
    }

    /// The folder that the worker's files go to.
    pub fn files(&self) -> &Path {
        &self.settings.files
    }

    /// Runs `migrate` of a process's service, as an operator does before a new version is rolled out.
    ///
    /// # Errors
    /// When the command fails; the end of its log is in the message.
    pub async fn migrate(&self, process: Process) -> Result<()> {
        let release = self.options.release;
        migrate::migrate_one(&self.checkout, &self.settings, process, &self.folder, release).await
    }

    /// Runs `rowhouse-auth bootstrap-admin` and returns the one-time secret that it wrote.
    ///
    /// # Errors
    /// When the command fails or wrote no secret.
    pub async fn bootstrap_admin(&self, email: &str) -> Result<String> {
        let file = self.folder.join("admin-password");
        let release = self.options.release;
        let secret = migrate::bootstrap_admin(&self.checkout, &self.settings, &self.folder, release, email, &file);
        secret.await?.context("bootstrap-admin wrote no secret")
    }

    /// Runs a command of `rowhouse-auth`, such as `disable-account`, to its end.
    ///
    /// # Errors
    /// When the command fails; the end of its log is in the message.
    pub async fn auth_command(&self, arguments: &[&str]) -> Result<()> {
        migrate::auth_command(
            &self.checkout,
            &self.settings,
            &self.folder,
            self.options.release,
            arguments,
        )
        .await
    }

    /// The variables that a process of this suite runs with, for tests that sign as a service or run a subcommand.
    pub fn environment(&self, process: Process) -> Vec<(String, String)> {
        let mut variables = self.settings.serve(process);
        for (only, name, value) in &self.options.environment {
            if only.is_none_or(|only| only == process) {
                variables.retain(|(known, _)| known != name);
                variables.push((name.clone(), value.clone()));
            }
        }
        variables
    }

    /// What the processes are configured with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        for child in self.children.get_mut().values_mut() {
            kill_child(child);
        }
        // The logs stay: of a test that fails they are what one wants to read. The next `cargo xtask test` deletes them.
    }
}

/// Blocks for the moment that SIGKILL takes.
fn kill_child(child: &mut Child) {
    // Both fail only for a process that is gone already.
    let _ = child.kill();
    let _ = child.wait();
}
