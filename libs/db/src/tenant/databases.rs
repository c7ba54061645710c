//! Pools of tenants' own databases.
//!
//! There may be many, most of them idle at any time, so a pool is made when its database is first used and closed when it
//! has been idle for a while. Each is entered by a login of its own. `PgBouncer` reaches each by its `*` entry. There are no
//! lanes: a back end of such a database remembers one home. All of a server's share `own_place`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bb8::{Pool, QueueStrategy, RunError};
use rowhouse_types::TenantId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::login::OwnLogin;
use super::own_place::OwnShare;
use super::permit::{Permit, refused, told_before};
use super::server::{Borrowed, Held, Server};
use super::wait::Wait;
use crate::Error;
use crate::home::Home;
use crate::login::OwnLogins;
use crate::migrator::own_name;
use crate::wire::{LastFault, OwnDatabase, Target};

/// Longest wait for a connection, within the call's deadline.
const POOL_WAIT_MAX: Duration = Duration::from_secs(5);

/// Shortest time between two looks at what is idle.
const LOOK_MIN: Duration = Duration::from_millis(1);

/// The pools of tenants' own databases: their bounds, and what their connections keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnDatabases {
    /// Databases that have a pool at once, on all servers. One more takes the place of the one that was used longest ago.
    pub open_max: usize,
    /// Connections to each.
    pub connections_max: u32,
    /// Connections to all of those on one server. Where there are so many, or nearly so many behind a pooler, a pool that nobody
    /// uses makes room for a database that has none.
    pub server_connections_max: u32,
    /// How long a connection stays that nobody uses, and a pool.
    pub idle_max: Duration,
    /// How long a pooler keeps a connection to PostgreSQL that nobody uses (`server_idle_timeout` of `PgBouncer`): until then one
    /// of ours that has ended counts still. Zero straight to PostgreSQL.
    pub pooler_idle: Duration,
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
    opened: Opened,
    last: Instant,
}

#[derive(Clone)]
struct Opened {
    pool: Pool<Target>,
    last_fault: LastFault,
    share: OwnShare,
    /// Each call that waits for a connection has one, too: it may wait for longer than a pool is kept.
    waiting: Arc<()>,
}

// === impl OwnDatabases ===

impl Default for OwnDatabases {
    /// Such tenants are few. Four connections carry some thousand transactions a second; 64 such pools are 256 connections
    /// of a replica to the pooler, which may be of any version. That is more than most servers take: whoever runs one says how
    /// many it has room for.
    fn default() -> Self {
        Self {
            open_max: 64,
            connections_max: 4,
            server_connections_max: 256,
            idle_max: Duration::from_secs(60),
            pooler_idle: Duration::from_secs(60),
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
        let opened = self.opened(home, server);
        // Who has one is served by it, and could not use what others give up: that is for those who have none.
        let has_none = opened.pool.state().connections == 0;
        if has_none && opened.share.asks_for_room() && !self.make_room_beside(home) {
            opened.share.asks_no_more();
        }
        let _wait = Wait::begin("connection");
        match tokio::time::timeout_at(told_before(deadline), opened.pool.get_owned()).await {
            Ok(Ok(connection)) => Ok(Box::new(Held::to_own_database(connection, permit))),
            Ok(Err(RunError::User(error))) => Err(error),
            Ok(Err(RunError::TimedOut)) => Err(opened.refusal(Error::PoolTimeout)),
            Err(_) => Err(opened.refusal(Error::DeadlineExceeded)),
        }
    }

    /// Closes one pool of the home's server that has connections and that nobody uses, the one that was used longest ago. Its
    /// places are free when its connections are gone, at the pooler too. Whether there was one.
    fn make_room_beside(&self, home: &Home) -> bool {
        let mut open = lock(&self.open);
        let beside = |(server, tenant): &(String, TenantId)| server == home.server.as_str() && *tenant != home.tenant;
        let idle = open.iter().filter(|(key, used)| beside(key) && used.holds_idly());
        let oldest = idle.min_by_key(|(_, used)| used.last).map(|(key, _)| key.clone());
        let was_closed = oldest.and_then(|oldest| open.remove(&oldest)).is_some();
        report(&open);
        was_closed
    }

    /// Databases that have a pool now.
    pub(super) fn count(&self) -> usize {
        lock(&self.open).len()
    }

    fn opened(&self, home: &Home, server: &Server) -> Opened {
        let key = (home.server.as_str().to_owned(), home.tenant);
        let mut open = lock(&self.open);
        if let Some(used) = open.get_mut(&key) {
            used.last = Instant::now();
            return used.opened.clone();
        }
        let share = server.own_places().share(home.tenant);
        let target = self.target(home, server, share.clone());
        while open.len() >= self.bounds.open_max.max(1) {
            let Some(oldest) = oldest(&open) else { break };
            // A transaction that holds one of its connections ends undisturbed: the connection is closed when it comes back.
            open.remove(&oldest);
        }
        let last_fault = target.last_fault();
        let pool = Pool::builder()
            .max_size(self.bounds.connections_max.max(1))
            .connection_timeout(POOL_WAIT_MAX)
            // A pool that is in use gives back what it does not need: others may wait for its places. Whole pools are closed by
            // `close_idle`.
            .queue_strategy(QueueStrategy::Lifo)
            .idle_timeout(self.bounds.idle_max.max(LOOK_MIN))
            .reaper_rate((self.bounds.idle_max / 2).max(LOOK_MIN))
            .max_lifetime(None)
            .build_unchecked(target);
        let opened = Opened {
            pool,
            last_fault,
            share,
            waiting: Arc::default(),
        };
        let used = Used {
            opened: opened.clone(),
            last: Instant::now(),
        };
        open.insert(key, used);
        report(&open);
        opened
    }

    fn target(&self, home: &Home, server: &Server, share: OwnShare) -> Target {
        let login = OwnLogin {
            name: own_name(home.tenant),
            main: Arc::clone(server.main()),
            logins: Arc::clone(&self.logins),
        };
        server.main().for_own_database(OwnDatabase {
            login,
            share,
            keeps_statements: self.bounds.keeps_statements,
        })
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
        .run_until_cancelled(tokio::time::sleep((idle_max / 2).max(LOOK_MIN)))
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
        let state = self.opened.pool.state();
        state.connections > state.idle_connections || Arc::strong_count(&self.opened.waiting) > 1
    }

    /// Whether it has connections, and uses none.
    fn holds_idly(&self) -> bool {
        self.opened.pool.state().connections > 0 && !self.is_in_use()
    }
}

// === impl Opened ===

impl Opened {
    /// Why no connection became free.
    ///
    /// `otherwise`: where neither places nor the server are the reason.
    fn refusal(&self, otherwise: Error) -> Error {
        if self.share.lacks() {
            refused("place");
            return Error::Busy;
        }
        let fault = self.last_fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
        fault.map_or(otherwise, Error::Unavailable)
    }
}
