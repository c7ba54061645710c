//! Pools of tenants' own databases.
//!
//! There may be many, most of them idle at any time, so a pool is made when its database is first used and closed when it
//! has been idle for a while. Each is entered by a login of its own. `PgBouncer` reaches each by its `*` entry. There are no
//! lanes: a back end of such a database remembers one home.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bb8::{Pool, RunError};
use rowhouse_types::TenantId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::login::OwnLogin;
use super::permit::Permit;
use super::server::{Borrowed, Held, Server};
use super::wait::Wait;
use crate::Error;
use crate::home::Home;
use crate::login::OwnLogins;
use crate::migrator::own_name;
use crate::wire::{LastFault, Target};

/// Longest wait for a connection, within the call's deadline.
const POOL_WAIT_MAX: Duration = Duration::from_secs(5);

/// The pools of tenants' own databases: their bounds, and what their connections keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnDatabases {
    /// Databases that have a pool at once. One more takes the place of the one that was used longest ago.
    pub open_max: usize,
    /// Connections to each.
    pub connections_max: u32,
    /// How long a pool stays that nobody uses.
    pub idle_max: Duration,
    /// Whether statements stay prepared on a connection from one transaction to the next. Only where whoever is connected to
    /// keeps them for each client: PostgreSQL itself, or `PgBouncer` from 1.21 on with `max_prepared_statements`. An older one
    /// hands out what another client has prepared under the same name, and nothing says that it did.
    pub keeps_statements: bool,
}

/// The pools. A database is named by its server and its tenant.
pub(super) struct Databases {
    bounds: OwnDatabases,
    logins: Arc<OwnLogins>,
    open: Arc<Mutex<Open>>,
}

type Open = HashMap<(String, TenantId), Used>;

struct Used {
    pool: Pool<Target>,
    last_fault: LastFault,
    last: Instant,
    /// Each call that waits for a connection has one, too: it may wait for longer than a pool is kept.
    waiting: Arc<()>,
}

// === impl OwnDatabases ===

impl Default for OwnDatabases {
    /// Such tenants are few. Four connections carry some thousand transactions a second; 64 such pools are 256 connections
    /// of a replica to the pooler, which may be of any version.
    fn default() -> Self {
        Self {
            open_max: 64,
            connections_max: 4,
            idle_max: Duration::from_secs(60),
            keeps_statements: false,
        }
    }
}

// === impl Databases ===

impl Databases {
    /// No pool yet, and a task among `tasks` that closes idle ones until `stop`.
    pub(super) fn new(bounds: OwnDatabases, logins: OwnLogins, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let open = Arc::new(Mutex::new(Open::new()));
        tasks.spawn(close_idle(Arc::clone(&open), bounds.idle_max, stop.clone()));
        Self {
            bounds,
            logins: Arc::new(logins),
            open,
        }
    }

    /// A free connection to the database of the home's tenant.
    ///
    /// `server`: whose main database the tenant's is beside, named by the tenant's id. `permit`: kept with the connection.
    pub(super) async fn connection(
        &self,
        home: &Home,
        server: &Server,
        permit: Option<Arc<Permit>>,
        deadline: Instant,
    ) -> Result<Borrowed, Error> {
        let (pool, last_fault, _waiting) = self.pool(home, server);
        let exhausted = || {
            let fault = last_fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
            fault.map(Error::Unavailable)
        };
        let _wait = Wait::begin("connection");
        match tokio::time::timeout_at(deadline, pool.get_owned()).await {
            Ok(Ok(connection)) => Ok(Box::new(Held::to_own_database(connection, permit))),
            Ok(Err(RunError::User(error))) => Err(error),
            Ok(Err(RunError::TimedOut)) => Err(exhausted().unwrap_or(Error::PoolTimeout)),
            Err(_) => Err(exhausted().unwrap_or(Error::DeadlineExceeded)),
        }
    }

    /// Databases that have a pool now.
    pub(super) fn count(&self) -> usize {
        lock(&self.open).len()
    }

    fn pool(&self, home: &Home, server: &Server) -> (Pool<Target>, LastFault, Arc<()>) {
        let key = (home.server.as_str().to_owned(), home.tenant);
        let mut open = lock(&self.open);
        if let Some(used) = open.get_mut(&key) {
            used.last = Instant::now();
            return (
                used.pool.clone(),
                Arc::clone(&used.last_fault),
                Arc::clone(&used.waiting),
            );
        }
        let target = self.target(home, server);
        while open.len() >= self.bounds.open_max.max(1) {
            let Some(oldest) = oldest(&open) else { break };
            // A transaction that holds one of its connections ends undisturbed: the connection is closed when it comes back.
            open.remove(&oldest);
        }
        let last_fault = target.last_fault();
        let pool = Pool::builder()
            .max_size(self.bounds.connections_max.max(1))
            .connection_timeout(POOL_WAIT_MAX)
            // Whole pools are closed, by `close_idle`; the pool needs no task of its own for that.
            .idle_timeout(None)
            .max_lifetime(None)
            .build_unchecked(target);
        let used = Used {
            pool: pool.clone(),
            last_fault: Arc::clone(&last_fault),
            last: Instant::now(),
            waiting: Arc::default(),
        };
        let waiting = Arc::clone(&used.waiting);
        open.insert(key, used);
        report(&open);
        (pool, last_fault, waiting)
    }

    fn target(&self, home: &Home, server: &Server) -> Target {
        let target = server.main().for_own_database(OwnLogin {
            name: own_name(home.tenant),
            main: Arc::clone(server.main()),
            logins: Arc::clone(&self.logins),
        });
        if self.bounds.keeps_statements {
            target.keeping_statements()
        } else {
            target
        }
    }
}

/// The one that was used longest ago; one that is in use only where all are.
fn oldest(open: &Open) -> Option<(String, TenantId)> {
    let oldest = open.iter().min_by_key(|(_, used)| (used.is_in_use(), used.last));
    oldest.map(|(key, _)| key.clone())
}

/// Looks twice in the time after which a pool is idle.
async fn close_idle(open: Arc<Mutex<Open>>, idle_max: Duration, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(idle_max / 2))
        .await
        .is_some()
    {
        let mut open = lock(&open);
        open.retain(|_, used| used.is_in_use() || used.last.elapsed() < idle_max);
        report(&open);
    }
    // The pools end with their connections.
    lock(&open).clear();
}

fn report(open: &Open) {
    let count = u32::try_from(open.len()).unwrap_or(u32::MAX);
    metrics::gauge!("rowhouse_db_own_databases_open").set(f64::from(count));
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Used ===

impl Used {
    fn is_in_use(&self) -> bool {
        let state = self.pool.state();
        state.connections > state.idle_connections || Arc::strong_count(&self.waiting) > 1
    }
}
