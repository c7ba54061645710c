//! The suite's own processes, started from the built binaries.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::fixture::Databases;
use crate::smtp::Mail;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Listener {
    /// gRPC for callers (`ROWHOUSE_LISTEN`).
    Public,
    /// gRPC between services (`ROWHOUSE_INTERNAL_LISTEN`).
    Internal,
    /// HTTP for `/livez /readyz /metrics` (`ROWHOUSE_ADMIN_LISTEN`).
    Admin,
}

/// How a suite differs from the usual one.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Processes that are not started (`restart` starts them).
    pub without: Vec<Process>,
    /// Variables added or replaced: for one process, or for all where it is `None`.
    pub environment: Vec<(Option<Process>, String, String)>,
    /// Binaries from `target/release` instead of `target/debug`.
    pub release: bool,
}

/// A running suite of one test, on databases, a virtual host and a Redis prefix of its own. Dropping it kills
/// everything that it started.
#[derive(Debug)]
pub struct Suite {
    databases: Databases,
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
        bail!("not yet: {name} {options:?}")
    }

    /// Kills a process with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn kill9(&self, process: Process) -> Result<()> {
        bail!("not yet: {process:?}")
    }

    /// Sends SIGTERM and waits for the drain to end.
    ///
    /// # Errors
    /// When it is not running or does not end within the drain's bound.
    pub async fn stop(&self, process: Process) -> Result<ExitStatus> {
        bail!("not yet: {process:?}")
    }

    /// Starts a process (killing it first where it runs) on the same ports, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn restart(&self, process: Process) -> Result<()> {
        bail!("not yet: {process:?}")
    }

    /// The address of a process's listener; it stays the same over restarts.
    pub fn address(&self, process: Process, listener: Listener) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], process as u16 + listener as u16))
    }

    /// `http://host:port` of a process's listener.
    pub fn url(&self, process: Process, listener: Listener) -> String {
        format!("http://{}", self.address(process, listener))
    }

    /// What a process has logged since the suite's start, over all its restarts.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log(&self, process: Process) -> Result<String> {
        bail!("not yet: {process:?}")
    }

    /// The mails sent so far, oldest first.
    ///
    /// # Errors
    /// When the sink's folder cannot be read.
    pub fn mails(&self) -> Result<Vec<Mail>> {
        bail!("not yet")
    }

    /// Waits for a mail to `address` for which `wanted` holds.
    ///
    /// # Errors
    /// When none arrived within `bound`.
    pub async fn wait_for_mail(&self, address: &str, bound: Duration, wanted: impl Fn(&Mail) -> bool) -> Result<Mail> {
        bail!("not yet: {address} {bound:?} {}", std::mem::size_of_val(&wanted))
    }

    /// The databases, with URLs for looking into them.
    pub fn databases(&self) -> &Databases {
        &self.databases
    }

    /// Redis, with its password.
    pub fn redis_url(&self) -> String {
        self.databases.servers().redis_url()
    }

    /// The prefix of this suite's Redis keys.
    pub fn redis_prefix(&self) -> &str {
        ""
    }

    /// This suite's virtual host, with user and password.
    pub fn amqp_url(&self) -> &str {
        ""
    }

    /// The folder that the worker's files go to.
    pub fn files(&self) -> &Path {
        Path::new("")
    }

    /// Runs `rowhouse-auth bootstrap-admin` and returns the one-time secret that it wrote.
    ///
    /// # Errors
    /// When the command fails or wrote no secret.
    pub async fn bootstrap_admin(&self, email: &str) -> Result<String> {
        bail!("not yet: {email}")
    }

    /// The variables that a process of this suite runs with, for tests that sign as a service or run a subcommand.
    pub fn environment(&self, process: Process) -> Vec<(String, String)> {
        vec![(format!("{process:?}"), String::new())]
    }
}
