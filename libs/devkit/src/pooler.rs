//! A PgBouncer of one test, with lanes for its data database.
//!
//! The common one has no aliases, because each test's database is new, and to reload it for each would disturb the
//! others. One more takes 30 ms and 5 MB.

use std::process::Child;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use crate::fixture::Databases;
use crate::port::{self, Reservation};
use crate::secrets::random_word;
use crate::servers::pgbouncer::{self, CONSOLE, Pools};
use crate::servers::{Endpoint, LanePools, Login, Servers, pgbouncer_program};
use crate::spawn::{Account, Launch};
use crate::{cluster, scram, wait};

/// It takes 30 ms on an idle machine.
const START_BOUND: Duration = Duration::from_secs(30);

/// A PgBouncer with lanes for one test's data database; killed on drop.
#[derive(Debug)]
pub struct Pooler {
    child: Child,
    url: String,
    console_url: String,
    _folder: TempDir,
    _reservation: Reservation,
}

// === impl Pooler ===

impl Pooler {
    /// Starts it. `pool_size`: server connections of the database itself, beside its lanes.
    ///
    /// # Errors
    /// When there is no PgBouncer on this machine, or it does not come up.
    pub async fn start(databases: &Databases, lanes: LanePools, pool_size: u32) -> Result<Self> {
        Self::start_for(databases.servers(), databases.data_name(), lanes, pool_size).await
    }

    /// As [`Pooler::start`], for a database that is no test's.
    ///
    /// # Errors
    /// As [`Pooler::start`].
    pub async fn start_for(servers: &Servers, database: &str, lanes: LanePools, pool_size: u32) -> Result<Self> {
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
        let aliases = pgbouncer::aliases(database, servers.postgres(), lanes);
        let pools = Pools {
            size: pool_size,
            idle_s: 60,
        };
        let settings = pgbouncer::settings(console.port, servers.postgres(), &users, pools, &aliases);
        let log = servers.folder().join("log").join(format!("pgbouncer-{database}.log"));
        let launch = Launch {
            process: format!("pgbouncer-{database}"),
            program: pgbouncer_program()?,
            arguments: vec![configuration.clone().into()],
            environment: Vec::new(),
            folder: folder.path().to_owned(),
            log: log.clone(),
            account,
            files: vec![
                (configuration, settings),
                (
                    users,
                    pgbouncer::logins(&app, &pooler_password, &scram::verifier(&console.password)?),
                ),
            ],
        };
        let console_url = console.postgres_url(&console.user, &console.password, "pgbouncer");
        // Made before it answers: whatever fails from here on kills it.
        let mut pooler = Self {
            child: launch.attached(servers.folder())?,
            url: console.postgres_url(Login::App.name(), &app_password, database),
            console_url: console_url.clone(),
            _folder: folder,
            _reservation: reservation,
        };
        wait::until_up("PgBouncer", START_BOUND, &mut pooler.child, &log, || async {
            cluster::connect(&console_url).await.map(|_| true)
        })
        .await?;
        Ok(pooler)
    }

    /// `rowhouse_app`'s URL of the data database. The lanes are aliases of it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its own console, for `SHOW POOLS` and the like.
    pub fn console_url(&self) -> &str {
        &self.console_url
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
