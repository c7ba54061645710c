//! A PgBouncer of one test, with lanes for its data database.
//!
//! The common one has no aliases, because each test's database is new, and to reload it for each would disturb the
//! others. One more takes 30 ms and 5 MB.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::fixture::Databases;
use crate::port::{self, Reservation};
use crate::secrets::random_word;
use crate::servers::pgbouncer::{self, CONSOLE, Pools};
use crate::servers::{Endpoint, LanePools, Login, Servers, pgbouncer_keeps_statements, pgbouncer_program};
use crate::spawn::{Account, Launch};
use crate::volume::Volume;
use crate::{cluster, scram, wait};

/// Where a pod has its volumes.
const MOUNTED_AT: &str = "/run/secrets/";

/// It takes 30 ms on an idle machine.
const START_BOUND: Duration = Duration::from_secs(30);

/// A PgBouncer with lanes for one test's data database; killed on drop.
pub struct Pooler {
    child: Child,
    url: String,
    console: Endpoint,
    account: Option<Account>,
    folder: TempDir,
    log: PathBuf,
    keeps_statements: bool,
    _reservation: Reservation,
}

/// What one PgBouncer has that the others of the tests have not.
#[derive(Debug, Default)]
pub struct Particulars<'a> {
    /// Files that its section `[pgbouncer]` includes, as `deploy/` has them: what lies in `/run/secrets` there is looked for in
    /// the pooler's own folder here.
    pub included: &'a [String],
    /// What lies there.
    pub volumes: &'a [Volume],
    /// What it takes for PostgreSQL, where not PostgreSQL itself.
    pub before: Option<&'a Pooler>,
}

// === impl Pooler ===

impl Pooler {
    /// Starts it. `pool_size`: server connections of the database itself, beside its lanes.
    ///
    /// # Errors
    /// When there is no PgBouncer on this machine, or it does not come up.
    pub async fn start(databases: &Databases, lanes: LanePools, pool_size: u32) -> Result<Self> {
        Self::start_with(databases, lanes, pool_size, &Particulars::default()).await
    }

    /// As [`Pooler::start`], with something particular. One that takes TLS alone has no console for [`cluster::connect`].
    ///
    /// # Errors
    /// As [`Pooler::start`], and when the volumes cannot be written.
    pub async fn start_with(
        databases: &Databases,
        lanes: LanePools,
        pool_size: u32,
        particulars: &Particulars<'_>,
    ) -> Result<Self> {
        let (servers, name) = (databases.servers(), databases.data_name());
        Self::start_for(servers, name, lanes, pool_size, particulars).await
    }

    /// As [`Pooler::start_with`], for a database that is no test's, or not on the first data server.
    ///
    /// # Errors
    /// As [`Pooler::start_with`].
    pub async fn start_for(
        servers: &Servers,
        database: &str,
        lanes: LanePools,
        pool_size: u32,
        particulars: &Particulars<'_>,
    ) -> Result<Self> {
        let account = Account::unprivileged()?;
        let folder = tempfile::tempdir()?;
        Account::folder(account.as_ref(), folder.path())?;
        let (configuration, users) = (folder.path().join("pgbouncer.ini"), folder.path().join("users.txt"));
        let reservation = port::reserve()?;
        let console = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: reservation.port(),
            user: CONSOLE.to_owned(),
            password: random_word(),
        };
        let (app_password, pooler_password) = (servers.password(Login::App), servers.password(Login::Pooler));
        let app = match servers.private_superuser() {
            Some(_) => scram::verifier(&app_password)?,
            None => app_password.clone(),
        };
        for volume in particulars.volumes {
            volume.write(folder.path(), account.as_ref())?;
        }
        let behind = particulars
            .before
            .map_or_else(|| servers.postgres(), |pooler| &pooler.console);
        let aliases = pgbouncer::aliases(database, behind, lanes);
        let pools = Pools {
            size: pool_size,
            idle_s: 60,
        };
        let program = pgbouncer_program()?;
        let keeps_statements = pgbouncer_keeps_statements(&program);
        let mut settings = pgbouncer::settings(console.port, behind, &users, pools, &aliases, keeps_statements);
        let mut files = Vec::new();
        let mounted_at = format!("{}/", folder.path().display());
        for (number, text) in particulars.included.iter().enumerate() {
            let file = folder.path().join(format!("included-{number}.ini"));
            writeln!(settings, "%include {}", file.display())?;
            files.push((file, text.replace(MOUNTED_AT, &mounted_at)));
        }
        let logins = pgbouncer::logins(&app, &pooler_password, &scram::verifier(&console.password)?);
        files.extend([(configuration.clone(), settings), (users, logins)]);
        // A test may have several, and reads what one of them has logged.
        let process = format!("pgbouncer-{database}-{}", random_word());
        let log = servers.folder().join("log").join(format!("{process}.log"));
        let launch = Launch {
            process,
            program,
            arguments: vec![configuration.into()],
            environment: Vec::new(),
            folder: folder.path().to_owned(),
            log: log.clone(),
            account: account.clone(),
            files,
        };
        // Made before it answers: whatever fails from here on kills it.
        let mut pooler = Self {
            child: launch.attached(servers.folder())?,
            url: console.postgres_url(Login::App.name(), &app_password, database),
            console,
            account,
            folder,
            log: log.clone(),
            keeps_statements,
            _reservation: reservation,
        };
        let (console_url, port) = (pooler.console_url(), pooler.console.port);
        let is_particular = !particulars.included.is_empty();
        wait::until_up("PgBouncer", START_BOUND, &mut pooler.child, &log, || async {
            if is_particular {
                // It may refuse who comes without TLS. It listens once it has read its configuration.
                Ok(TcpStream::connect(("127.0.0.1", port)).await.map(|_| true)?)
            } else {
                cluster::connect(&console_url).await.map(|_| true)
            }
        })
        .await?;
        Ok(pooler)
    }

    /// `rowhouse_app`'s URL of the data database. The lanes are aliases of it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its own console, for `SHOW POOLS` and the like.
    pub fn console_url(&self) -> String {
        let Endpoint { user, password, .. } = &self.console;
        self.console.postgres_url(user, password, "pgbouncer")
    }

    /// Its listener, and the login of its console.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.console
    }

    /// Whether it keeps prepared statements for each client: one before 1.21 does not.
    pub fn keeps_statements(&self) -> bool {
        self.keeps_statements
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Where it logs, and no other.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Writes a volume into its folder, or replaces one, as the kubelet does: PgBouncer is not told. Answers where it is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn mount(&self, volume: &Volume) -> Result<PathBuf> {
        volume.write(self.folder.path(), self.account.as_ref())
    }

    /// Where its volumes are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

// It knows passwords.
impl fmt::Debug for Pooler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooler")
            .field("process", &self.process())
            .field("port", &self.console.port)
            .finish_non_exhaustive()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
