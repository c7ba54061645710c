//! A data server of one test: a PostgreSQL cluster and the PgBouncer before it, beside those that all tests share.
//!
//! Nobody else is on it, so the test may stop it and start it again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::cluster::{self, Kind};
use crate::pooler::{Particulars, Pooler};
use crate::port::{self, Reservation};
use crate::secrets::{Secrets, random_word};
use crate::servers::postgres::{self, Cluster};
use crate::servers::{LanePools, Servers, postgres_programs};
use crate::settings::DataServer;
use crate::spawn::{Account, Launch};
use crate::stack::Profile;
use crate::wait;

/// It takes half a second; recovery is none, since it is never stopped but in order.
const START_BOUND: Duration = Duration::from_secs(60);

/// Its clients are sent away and a checkpoint is written, to no disk.
const STOP_BOUND: Duration = Duration::from_secs(60);

/// Server connections of each database: as many as the pooler of all tests has.
const POOL_SIZE: u32 = 8;

/// A running data server; dropping it ends it and removes what it has stored.
#[derive(Debug)]
pub struct OwnServer {
    // Ends before what it stands on.
    _pooler: Pooler,
    process: Mutex<Option<Child>>,
    launch: Launch,
    data: DataServer,
    folder: PathBuf,
    _port: Reservation,
}

// === impl OwnServer ===

impl OwnServer {
    /// Makes the cluster, with the suite's roles and an empty main database, and starts it and its pooler.
    ///
    /// `first`: whose passwords its logins have.
    pub(crate) async fn start_new(first: &Servers, database: String) -> Result<Self> {
        let (word, programs) = (random_word(), postgres_programs()?);
        let data = first.folder().join("data").canonicalize()?;
        let process = format!("postgres-{word}");
        let (folder, port) = (data.join(&process), port::reserve()?);
        let cluster = Cluster {
            log: first.folder().join("log").join(format!("{process}.log")),
            process,
            programs: &programs,
            data: &data,
            account: Account::unprivileged()?,
            // Only tests have one.
            profile: Profile::Test,
        };
        let endpoint = postgres::endpoint(port.port(), copy(first, &cluster, &folder).await?);
        let lanes = LanePools { count: 0, pool_size: 0 };
        let behind = first.on(endpoint.clone(), endpoint.clone());
        // It asks PostgreSQL nothing before its first client does.
        let pooler = Pooler::start_for(&behind, &database, lanes, POOL_SIZE, &Particulars::default()).await?;
        let own = Self {
            data: DataServer {
                servers: first.on(endpoint, pooler.endpoint().clone()),
                database,
            },
            _pooler: pooler,
            process: Mutex::new(None),
            launch: cluster.server(&folder, port.port()),
            folder,
            _port: port,
        };
        own.start().await?;
        cluster::ensure_roles(&own.data.servers).await?;
        cluster::ensure_database(&own.data.servers, &own.data.database, Kind::Data, None).await?;
        Ok(own)
    }

    /// Where it is, also while it is stopped.
    pub fn data_server(&self) -> DataServer {
        self.data.clone()
    }

    /// Starts PostgreSQL again, on the same port and with what it had. Its pooler has gone on.
    ///
    /// # Errors
    /// When it runs already or does not come up; the end of its log is in the message.
    pub async fn start(&self) -> Result<()> {
        let mut process = self.process.lock().await;
        ensure!(process.is_none(), "the data server runs already");
        let child = process.insert(self.launch.attached(self.data.servers.folder())?);
        let url = self.data.servers.superuser_url("postgres");
        wait::until_up("the data server", START_BOUND, child, &self.launch.log, || async {
            cluster::connect(&url).await.map(|_| true)
        })
        .await
    }

    /// Stops PostgreSQL, whoever is connected, and waits until it is gone. What was committed is kept.
    ///
    /// # Errors
    /// When it does not run, or does not end in time; it is killed then.
    pub async fn stop(&self) -> Result<()> {
        let mut child = self
            .process
            .lock()
            .await
            .take()
            .context("the data server does not run")?;
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
        let waited = wait::until("the end of the data server", STOP_BOUND, || {
            let ended = child.try_wait();
            async move { Ok(ended?.is_some()) }
        })
        .await;
        if waited.is_err() {
            end(&mut child);
        }
        waited
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        if let Some(child) = self.process.get_mut() {
            end(child);
        }
        // What is left of it goes with the stack's data.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// At once: the postmaster ends its back ends, which SIGKILL would leave to themselves.
fn end(child: &mut Child) {
    // Both fail only for a process that is gone already.
    let _ = i32::try_from(child.id()).map(|id| kill(Pid::from_raw(id), Signal::SIGQUIT));
    let _ = child.wait();
}

/// Makes the cluster as `initdb` leaves it, which is run once for all tests: a copy takes a tenth of its time. Answers the
/// superuser's password.
async fn copy(first: &Servers, cluster: &Cluster<'_>, folder: &Path) -> Result<String> {
    let template = cluster.data.join("postgres.template");
    let lock = File::create(cluster.data.join("postgres.template.lock"))?;
    // Other processes' tests come at the same moment.
    lock.lock()?;
    let password = Secrets::load(first.folder())?.password("postgres")?;
    if !template.exists() {
        let setup = cluster.data.join("postgres.template.setup");
        postgres::initialise(first.folder(), &cluster.initdb(setup, &password), &template).await?;
    }
    drop(lock);
    let copied = Command::new("cp").arg("-a").arg(&template).arg(folder).status().await?;
    ensure!(copied.success(), "{} was not copied: {copied}", template.display());
    Ok(password)
}
