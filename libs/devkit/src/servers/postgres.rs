//! A private PostgreSQL: the stack's own, that of its second data server, and those of tests.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Endpoint, Plan, ensure_running, find};
use crate::cluster;
use crate::spawn::{Account, Launch};
use crate::stack::{Profile, Stack};

/// `initdb` takes half a second; a slow disk with sync may need a minute.
const INITDB_BOUND: Duration = Duration::from_secs(180);

/// For every profile. Every tenant has a schema of some dozen objects, and dropping or dumping takes a lock on each:
/// hence the locks. TCP only, so that no socket file is in the way.
const SETTINGS: [(&str, &str); 9] = [
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("max_connections", "300"),
    ("max_locks_per_transaction", "256"),
    ("shared_buffers", "256MB"),
    ("password_encryption", "scram-sha-256"),
    ("timezone", "UTC"),
    ("jit", "off"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
];

/// Tests throw their data away, so nothing waits for a disk, and no autovacuum wakes up among hundreds of databases.
const TEST_SETTINGS: [(&str, &str); 8] = [
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("autovacuum", "off"),
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "1h"),
];

/// The stack's own: the process's name, and its folder's.
const FIRST: &str = "postgres";

/// That of the second data server, likewise.
pub(super) const SECOND: &str = "postgres-data2";

pub(super) struct PostgresPlan {
    pub(super) endpoint: Endpoint,
    private: Option<Private>,
}

impl PostgresPlan {
    pub(super) fn is_private(&self) -> bool {
        self.private.is_some()
    }
}

struct Private {
    initdb: Launch,
    server: Launch,
    folder: PathBuf,
}

pub(super) fn plan(plan: &mut Plan<'_>, given: Option<Endpoint>, programs: Option<&Path>) -> Result<PostgresPlan> {
    if let Some(endpoint) = given {
        return Ok(PostgresPlan {
            endpoint,
            private: None,
        });
    }
    private(plan, FIRST, programs.context("PostgreSQL was not looked for")?)
}

/// The cluster of the second data server, which is always a private one.
pub(super) fn second(plan: &mut Plan<'_>) -> Result<PostgresPlan> {
    let programs = find::postgres_folder().context("a second data server needs a PostgreSQL on this machine")?;
    private(plan, SECOND, &programs)
}

fn private(plan: &mut Plan<'_>, name: &str, programs: &Path) -> Result<PostgresPlan> {
    let port = plan.port(name, name)?;
    let endpoint = endpoint(port, plan.secrets.password(name)?);
    let folder = plan.data.join(name);
    let cluster = Cluster {
        process: name.to_owned(),
        programs,
        data: &plan.data,
        log: plan.stack.log(name),
        account: plan.account.clone(),
        profile: plan.stack.profile(),
    };
    let private = Private {
        initdb: cluster.initdb(plan.data.join(format!("{name}.setup")), &endpoint.password),
        server: cluster.server(&folder, port),
        folder,
    };
    Ok(PostgresPlan {
        endpoint,
        private: Some(private),
    })
}

/// The superuser of a cluster of ours.
pub(crate) fn endpoint(port: u16, password: String) -> Endpoint {
    Endpoint {
        host: "127.0.0.1".to_owned(),
        port,
        user: "postgres".to_owned(),
        password,
    }
}

/// What a cluster of ours is made and run with.
pub(crate) struct Cluster<'a> {
    /// The process's name, beginning with `postgres`.
    pub(crate) process: String,
    /// The folder of `postgres` and `initdb`.
    pub(crate) programs: &'a Path,
    /// The stack's folder of data, in which it lies: an orphan of it is known by that.
    pub(crate) data: &'a Path,
    pub(crate) log: PathBuf,
    pub(crate) account: Option<Account>,
    pub(crate) profile: Profile,
}

impl Cluster<'_> {
    /// The server.
    ///
    /// `folder`: the cluster's.
    pub(crate) fn server(&self, folder: &Path, port: u16) -> Launch {
        let mut arguments: Vec<OsString> = vec!["-D".into(), folder.into(), "-p".into(), port.to_string().into()];
        let extra = if self.profile.is_durable() {
            &[]
        } else {
            TEST_SETTINGS.as_slice()
        };
        for (name, value) in SETTINGS.iter().chain(extra) {
            arguments.extend(["-c".into(), format!("{name}={value}").into()]);
        }
        Launch {
            process: self.process.clone(),
            program: self.programs.join("postgres"),
            arguments,
            environment: Vec::new(),
            folder: self.data.to_owned(),
            log: self.log.clone(),
            account: self.account.clone(),
            files: Vec::new(),
        }
    }

    /// What [`initialise`] runs.
    ///
    /// `setup`: a folder to work in. `password`: the superuser's.
    pub(crate) fn initdb(&self, setup: PathBuf, password: &str) -> Launch {
        let password_file = setup.join("password");
        let words = [
            "--username=postgres",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ];
        let mut arguments: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        arguments.push(format!("--pwfile={}", password_file.display()).into());
        arguments.push(format!("--pgdata={}", setup.join("data").display()).into());
        Launch {
            process: "setup".to_owned(),
            program: self.programs.join("initdb"),
            arguments,
            environment: Vec::new(),
            folder: setup,
            log: self.log.clone(),
            account: self.account.clone(),
            files: vec![(password_file, password.to_owned())],
        }
    }
}

pub(super) async fn run(stack: &Stack, plan: &PostgresPlan) -> Result<Option<(String, Duration)>> {
    let endpoint = &plan.endpoint;
    let url = endpoint.postgres_url(&endpoint.user, &endpoint.password, "postgres");
    let check = || async { cluster::connect(&url).await.map(|_| true) };
    let Some(private) = &plan.private else {
        check().await.context("ROWHOUSE_POSTGRES_URL")?;
        return Ok(None);
    };
    if !private.folder.exists() {
        initialise(stack.folder(), &private.initdb, &private.folder).await?;
    }
    // A number in here may by now belong to any process of the machine, and PostgreSQL would wait for that one. That no
    // server of ours runs on this folder is known from the marks.
    if crate::mark::find_process(stack.folder(), &private.server.process).is_none() {
        // Orphans: the other cluster's back ends have their postmaster.
        crate::mark::stop(stack.folder(), false, |found| found.root && found.process.is_empty());
        let _ = fs::remove_file(private.folder.join("postmaster.pid"));
    }
    ensure_running(stack, &private.server, check).await
}

/// Builds a cluster aside and moves it into place, so that one that exists is complete.
///
/// `stack`: its folder, whose mark the processes get. `initdb`: [`Cluster::initdb`]. `folder`: the cluster's.
pub(crate) async fn initialise(stack: &Path, initdb: &Launch, folder: &Path) -> Result<()> {
    let aside = initdb.folder.join("data");
    if initdb.folder.exists() {
        fs::remove_dir_all(&initdb.folder)?;
    }
    Account::folder(initdb.account.as_ref(), &initdb.folder)?;
    initdb.to_end(stack, INITDB_BOUND).await?;
    fs::rename(&aside, folder)?;
    fs::remove_dir_all(&initdb.folder)?;
    Ok(())
}
