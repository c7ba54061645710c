//! The data servers, through `PgBouncer` in transaction mode.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use rowhouse_config::Secret;
use rowhouse_context::{Ctx, ServiceName};
use rowhouse_seal::MasterKeys;
use rowhouse_types::{Placement, TenantId};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bound::Bound;
use super::databases::{Databases, OwnDatabases};
use super::lane::Lanes;
use super::permit::{Permit, Permits};
use super::server::{Borrowed, Server, Way};
use super::tidy::Tidy;
use super::tx::TenantTx;
use super::wait::Wait;
use crate::Error;
use crate::home::{Directory, DirectoryError, Home};
use crate::login::OwnLogins;

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
    /// Connections to each data server at most, where there are no lanes.
    pub pool_size_max: u32,
    /// Pools of tenants' own databases.
    pub own_databases: OwnDatabases,
    /// Open the passwords of their logins.
    pub master_keys: MasterKeys,
    /// How each data server's connections are divided.
    pub lanes: Lanes,
    /// Versions of the tenant migrations that this code serves.
    pub versions: RangeInclusive<i32>,
}

/// Tenants' data: the data servers, and the directory. Cheap to clone.
#[derive(Clone)]
pub struct TenantDb {
    pub(super) inner: Arc<Inner>,
    way: Way,
}

pub(super) struct Inner {
    pub(super) participant: ServiceName,
    pub(super) versions: RangeInclusive<i32>,
    pub(super) servers: BTreeMap<String, Server>,
    databases: Databases,
    lanes: Lanes,
    /// A tenant lives on one server, so these bound its connections there.
    permits: Permits,
    directory: Arc<dyn Directory>,
    pub(super) tidy: Tidy,
    stop: CancellationToken,
}

// === impl TenantDb ===

impl TenantDb {
    /// Makes the pools. Connections are opened when they are needed, so no server has to be there yet. Where lanes leave neighbours
    /// nothing it says so, and goes on: who was served so far still is.
    ///
    /// # Errors
    /// [`Error::Fault`] for a URL or a key that cannot be used; it never holds them.
    #[expect(
        clippy::unused_async,
        reason = "a pool belongs to a runtime, which an async function is sure to have"
    )]
    pub async fn connect(config: TenantDbConfig, directory: Arc<dyn Directory>) -> Result<Self, Error> {
        if !config.lanes.leave_neighbours_one() {
            let (slots, slots_max) = (config.lanes.slots_per_tenant, config.lanes.slots_max());
            tracing::error!(
                slots,
                slots_max,
                "a tenant may hold every connection of its lanes: give it fewer slots, or each lane more connections"
            );
        }
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut servers = BTreeMap::new();
        for (name, url) in &config.urls {
            servers.insert(name.clone(), Server::new(name, url, &config, &tasks, &stop)?);
        }
        let logins = OwnLogins::new(&config.master_keys).map_err(|error| Error::Fault(error.to_string()))?;
        let databases = Databases::new(config.own_databases, logins, &tasks, &stop);
        Ok(Self {
            inner: Arc::new(Inner {
                participant: config.participant,
                versions: config.versions,
                servers,
                databases,
                lanes: config.lanes,
                permits: Permits::default(),
                directory,
                tidy: Tidy::new(tasks, Handle::current()),
                stop,
            }),
            way: Way::Lane,
        })
    }

    /// The same data for streams, exports and jobs: their transactions use connections of their own and none of the
    /// tenant's lanes. Read by pages, a transaction a page.
    ///
    /// Everybody meets the same few back ends there, so over an alias of the pooler each of them counts its transactions and ends
    /// after the last that it may have; a COMMIT that would travel with the first statement takes a round trip of its own there.
    #[must_use]
    pub fn bulk(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            way: Way::Bulk,
        }
    }

    /// Begins a transaction in the home of the context's tenant. Nothing is sent yet: BEGIN and enter travel with the
    /// first statement, COMMIT by [`TenantTx::commit`] or with the statement after [`TenantTx::commit_with_next`].
    ///
    /// # Errors
    /// [`Error::Fault`] when the context names no tenant; what the directory answers; [`Error::DeadlineExceeded`].
    pub async fn begin(&self, ctx: &Ctx, mode: Mode) -> Result<TenantTx, Error> {
        let tenant = ctx.tenant().map_err(|error| Error::Fault(error.to_string()))?;
        let home = self.inner.home(ctx, tenant, false).await?;
        Ok(TenantTx::new(
            Arc::clone(&self.inner),
            self.way,
            ctx.clone(),
            mode,
            home,
        ))
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
            .field("servers", &self.inner.servers.keys())
            .field("way", &self.way)
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

    /// The tenant's right to a connection; none where it needs none.
    pub(super) async fn permit(&self, home: &Home, way: Way, deadline: Instant) -> Result<Option<Arc<Permit>>, Error> {
        let Some(bound) = self.bound(home, way) else {
            return Ok(None);
        };
        let _wait = Wait::begin("permit");
        let permit = self.permits.acquire(bound, deadline).await?;
        Ok(Some(Arc::new(permit)))
    }

    /// How many connections a tenant may hold this way over all processes; none where that is not bounded.
    pub(super) fn bound(&self, home: &Home, way: Way) -> Option<Bound> {
        Bound::of(home, way, self.lanes)
    }

    /// A free connection to the database in which the home is.
    pub(super) async fn connection(
        &self,
        home: &Home,
        way: Way,
        permit: Option<Arc<Permit>>,
        deadline: Instant,
    ) -> Result<Borrowed, Error> {
        let server = self.servers.get(home.server.as_str());
        let server = server.ok_or_else(|| Error::ServerUnknown {
            name: home.server.clone(),
        })?;
        if home.placement == Placement::Database {
            return self.databases.connection(home, server, permit, deadline).await;
        }
        server.connection(home.tenant, way, permit, deadline).await
    }
}
