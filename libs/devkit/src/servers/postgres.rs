//! A private PostgreSQL.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Endpoint, Plan, ensure_running};
use crate::cluster;
use crate::spawn::{Account, Launch};
use crate::stack::{Profile, Stack};

/// `initdb` takes half a second; a slow disk with sync may need a minute.
const INITDB_BOUND: Duration = Duration::from_secs(180);

/// For both profiles. Every tenant has a schema of some dozen objects, and dropping or dumping takes a lock on each:
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
    let programs = programs.context("PostgreSQL was not looked for")?;
    let port = plan.port("postgres", "postgres")?;
    let password = plan.secrets.password("postgres")?;
    let endpoint = Endpoint {
        host: "127.0.0.1".to_owned(),
        port,
        user: "postgres".to_owned(),
        password,
    };
    let folder = plan.data.join("postgres");
    let mut arguments: Vec<OsString> = vec!["-D".into(), folder.clone().into(), "-p".into(), port.to_string().into()];
    let extra = if plan.stack.profile() == Profile::Test {
        TEST_SETTINGS.as_slice()
    } else {
        &[]
    };
    for (name, value) in SETTINGS.iter().chain(extra) {
        arguments.extend(["-c".into(), format!("{name}={value}").into()]);
    }
    let server = Launch {
        process: "postgres".to_owned(),
        program: programs.join("postgres"),
        arguments,
        environment: Vec::new(),
        folder: plan.data.clone(),
        log: plan.stack.log("postgres"),
        account: plan.account.clone(),
        files: Vec::new(),
    };
    let setup = plan.data.join("postgres.setup");
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
    let initdb = Launch {
        process: "setup".to_owned(),
        program: programs.join("initdb"),
        arguments,
        folder: setup,
        files: vec![(password_file, endpoint.password.clone())],
        ..server.clone()
    };
    Ok(PostgresPlan {
        endpoint,
        private: Some(Private { initdb, server, folder }),
    })
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
        initialise(stack, private).await?;
    }
    // A number in here may by now belong to any process of the machine, and PostgreSQL would wait for that one. That no
    // server of ours runs on this folder is known from the marks.
    if crate::mark::find_process(stack.folder(), "postgres").is_none() {
        crate::mark::stop(stack.folder(), false, |found| found.process.is_empty());
        let _ = fs::remove_file(private.folder.join("postmaster.pid"));
    }
    ensure_running(stack, &private.server, check).await
}

/// Builds the cluster aside and moves it into place, so that one that exists is complete.
async fn initialise(stack: &Stack, private: &Private) -> Result<()> {
    let aside = private.initdb.folder.join("data");
    if private.initdb.folder.exists() {
        fs::remove_dir_all(&private.initdb.folder)?;
    }
    Account::folder(private.initdb.account.as_ref(), &private.initdb.folder)?;
    private.initdb.to_end(stack.folder(), INITDB_BOUND).await?;
    fs::rename(&aside, &private.folder)?;
    fs::remove_dir_all(&private.initdb.folder)?;
    Ok(())
}
