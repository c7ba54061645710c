//! Pools of the data servers, through `PgBouncer` in transaction mode.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bb8::{Pool, RunError};
use rowhouse_config::Secret;
use rowhouse_context::{Ctx, ServiceName};
use rowhouse_types::{Placement, TenantId};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::databases::{Databases, OwnDatabases};
use super::tidy::{Borrowed, Tidy};
use super::tx::TenantTx;
use crate::Error;
use crate::home::{Directory, DirectoryError, Home};
use crate::wire::Target;

/// Longest wait for a connection, within the call's deadline.
const POOL_WAIT_MAX: Duration = Duration::from_secs(5);

/// Longest time to ask a server whether it is there.
const PING_MAX: Duration = Duration::from_secs(2);

/// Longest time at shutdown for dropped transactions to be rolled back before their connections are cut.
const TIDY_MAX: Duration = Duration::from_secs(2);

/// Whether a transaction may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `BEGIN READ ONLY`.
    Read,
    /// `BEGIN READ WRITE`.
    Write,
}

/// How to reach tenants' data.
#[derive(Clone, Debug)]
pub struct TenantDbConfig {
    /// Whose homes.
    pub participant: ServiceName,
    /// The login `rowhouse_app` through `PgBouncer`, by the data server's registered name.
    pub urls: BTreeMap<String, Secret>,
    /// Connections to each data server at most.
    pub pool_size_max: u32,
    /// Pools of tenants' own databases.
    pub own_databases: OwnDatabases,
    /// Versions of the tenant migrations that this code serves.
    pub versions: RangeInclusive<i32>,
}

/// Tenants' data: pools by server, and the directory. Cheap to clone.
#[derive(Clone)]
pub struct TenantDb {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) participant: ServiceName,
    pub(super) versions: RangeInclusive<i32>,
    pools: BTreeMap<String, Server>,
    databases: Databases,
    directory: Arc<dyn Directory>,
    pub(super) tidy: Tidy,
    stop: CancellationToken,
}

struct Server {
    url: Secret,
    pool: Pool<Target>,
    last_fault: Arc<Mutex<Option<String>>>,
}

// === impl TenantDb ===

impl TenantDb {
    /// Makes the pools. Connections are opened when they are needed, so no server has to be there yet.
    ///
    /// # Errors
    /// [`Error::Fault`] for a URL that cannot be read; it never holds the URL.
    #[expect(
        clippy::unused_async,
        reason = "a pool belongs to a runtime, which an async function is sure to have"
    )]
    pub async fn connect(config: TenantDbConfig, directory: Arc<dyn Directory>) -> Result<Self, Error> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut pools = BTreeMap::new();
        for (name, url) in &config.urls {
            let target = Target::new(name, url, tasks.clone(), stop.clone())?;
            let last_fault = target.last_fault();
            let pool = Pool::builder()
                .max_size(config.pool_size_max.max(1))
                .connection_timeout(POOL_WAIT_MAX)
                .build_unchecked(target);
            let url = url.clone();
            pools.insert(name.clone(), Server { url, pool, last_fault });
        }
        let databases = Databases::new(config.own_databases, &tasks, &stop);
        Ok(Self {
            inner: Arc::new(Inner {
                participant: config.participant,
                versions: config.versions,
                pools,
                databases,
                directory,
                tidy: Tidy::new(tasks, Handle::current()),
                stop,
            }),
        })
    }

    /// Begins a transaction in the home of the context's tenant. Nothing is sent yet: BEGIN and enter travel with the
    /// first statement, COMMIT by [`TenantTx::commit`] or with the statement after [`TenantTx::commit_with_next`].
    ///
    /// # Errors
    /// [`Error::Fault`] when the context names no tenant; what the directory answers; [`Error::DeadlineExceeded`].
    pub async fn begin(&self, ctx: &Ctx, mode: Mode) -> Result<TenantTx, Error> {
        let tenant = ctx.tenant().map_err(|error| Error::Fault(error.to_string()))?;
        let home = self.inner.home(ctx, tenant, false).await?;
        Ok(TenantTx::new(Arc::clone(&self.inner), ctx.clone(), mode, home))
    }

    /// The same for a transaction of one statement: COMMIT travels with it, and the whole is one round trip.
    ///
    /// # Errors
    /// As [`TenantDb::begin`].
    pub async fn begin_single(&self, ctx: &Ctx, mode: Mode) -> Result<TenantTx, Error> {
        let mut tx = self.begin(ctx, mode).await?;
        tx.commit_with_next();
        Ok(tx)
    }

    /// How many tenants' own databases have a pool now.
    #[must_use]
    pub fn own_databases_open(&self) -> usize {
        self.inner.databases.count()
    }

    /// Whether every data server answers, asked now.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::PoolTimeout`] of the first server that does not.
    pub async fn ping(&self) -> Result<(), Error> {
        for name in self.inner.pools.keys() {
            let mut connection = self.inner.connection(name, Instant::now() + PING_MAX).await?;
            connection.dirty = true;
            let asked = tokio::time::timeout(PING_MAX, connection.client.batch_execute("SELECT 1")).await;
            match asked {
                Ok(Ok(())) => connection.dirty = false,
                Ok(Err(error)) => return Err(Error::from_driver("ping", &error)),
                Err(_) => return Err(Error::Unavailable(format!("data server {name} is silent"))),
            }
        }
        Ok(())
    }

    /// Rolls back what was dropped, within two seconds, then ends all connections and their tasks.
    pub async fn shutdown(self) {
        self.inner.tidy.finish(TIDY_MAX).await;
        self.inner.stop.cancel();
        self.inner.tidy.connections_ended().await;
    }
}

impl fmt::Debug for TenantDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantDb")
            .field("participant", &self.inner.participant)
            .field("servers", &self.inner.pools.keys())
            .finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    pub(super) async fn home(&self, ctx: &Ctx, tenant: TenantId, fresh: bool) -> Result<Home, Error> {
        let asked = tokio::time::timeout_at(ctx.deadline(), self.directory.home(ctx, tenant, fresh)).await;
        match asked {
            Ok(Ok(home)) if home.tenant == tenant => Ok(home),
            Ok(Ok(_)) => Err(Error::Fault(
                "the directory answered with another tenant's home".to_owned(),
            )),
            Ok(Err(DirectoryError::TenantUnknown)) => Err(Error::TenantUnknown),
            Ok(Err(DirectoryError::NotReady)) => Err(Error::TenantNotReady),
            Ok(Err(DirectoryError::Unavailable(cause))) => Err(Error::Unavailable(cause)),
            Err(_) => Err(Error::DeadlineExceeded),
        }
    }

    /// A free connection to the database in which the home is.
    pub(super) async fn connection_to(&self, home: &Home, deadline: Instant) -> Result<Borrowed, Error> {
        match self.pools.get(home.server.as_str()) {
            Some(server) if home.placement == Placement::Database => {
                let connection = self.databases.connection(home, &server.url, deadline).await?;
                Ok(Box::new(connection))
            }
            _ => self.connection(home.server.as_str(), deadline).await,
        }
    }

    /// A free connection to the server.
    async fn connection(&self, server: &str, deadline: Instant) -> Result<Borrowed, Error> {
        let Some(found) = self.pools.get(server) else {
            return Err(Error::Fault(format!("no URL is configured for data server {server}")));
        };
        match tokio::time::timeout_at(deadline, found.pool.get_owned()).await {
            Ok(Ok(connection)) => Ok(Box::new(connection)),
            Ok(Err(RunError::User(error))) => Err(Error::from_driver("connect", &error)),
            Ok(Err(RunError::TimedOut)) => Err(found.exhausted().unwrap_or(Error::PoolTimeout)),
            Err(_) => Err(found.exhausted().unwrap_or(Error::DeadlineExceeded)),
        }
    }
}

// === impl Server ===

impl Server {
    /// The pool waits and tries again while a server refuses; the waiter shall hear why.
    fn exhausted(&self) -> Option<Error> {
        let fault = self.last_fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
        fault.map(Error::Unavailable)
    }
}
