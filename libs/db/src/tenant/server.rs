//! One data server: the pools of its lanes.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bb8::{Pool, PooledConnection, RunError};
use rowhouse_config::Secret;
use rowhouse_types::TenantId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::db::TenantDbConfig;
use super::homes::Homes;
use super::lane::{Lanes, Pair};
use super::own_place::OwnPlaces;
use super::permit::Permit;
use super::wait::Wait;
use crate::Error;
use crate::wire::{Connection, LastFault, Target};

/// Longest wait for a connection, within the call's deadline.
const POOL_WAIT_MAX: Duration = Duration::from_secs(5);

/// What one connection may remember, in bytes, before it is retired.
const MEMORY_MAX: usize = 64 << 20;
/// What a back end remembers of one table, measured.
const TABLE_BYTES: usize = 39 << 10;
/// Tables of a home that its transactions touch: crm's four (`contacts`, `requests`, `audit_entries`, `audit_seals`), and room for
/// one more.
const TABLES_PER_HOME: usize = 5;
/// Homes that one connection serves before it is retired: 336. Lanes keep it from ever coming to that; a retirement costs
/// about 14 ms, which is a third of what so many first transactions take. Over the pooler's alias for bulk work it is so many
/// transactions of its back end.
const HOMES_PER_CONNECTION_MAX: usize = MEMORY_MAX / (TABLE_BYTES * TABLES_PER_HOME);

/// What connections that ask for logins count as in the metrics.
const LOGINS_LANE: &str = "logins";

/// Homes of one lane that are counted; it is a figure for whoever looks whether there are enough lanes.
const HOMES_PER_LANE_COUNTED: usize = 10_000;

/// Which connections a transaction uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// One of the tenant's two lanes.
    Lane,
    /// Those for streams, exports and jobs.
    Bulk,
}

/// A data server.
pub(super) struct Server {
    /// As many as there are lanes; or one, which serves everybody.
    lanes: Vec<Lane>,
    /// Only beside lanes.
    bulk: Option<Lane>,
    /// Its main database, to ask for the logins of others, which are reached as it is.
    main: Arc<Target>,
    /// For connections to those others.
    own_places: OwnPlaces,
    /// Whether it did not answer when it was last asked.
    pub(super) is_away: AtomicBool,
}

/// A pool, and how much is under way in it.
struct Lane {
    pool: Pool<Target>,
    last_fault: LastFault,
    under_way: Arc<AtomicUsize>,
    homes: Mutex<Homes>,
    server: String,
    name: String,
}

/// A transaction's connection. Boxed, because it moves from hand to hand.
pub(super) type Borrowed = Box<Held>;

/// A connection and what its use takes. Given back in this order: the connection, the place in its lane, the permit.
pub(super) struct Held {
    connection: PooledConnection<'static, Target>,
    /// None in a tenant's own database, which has no lanes.
    _place: Option<Place>,
    /// None where nothing bounds the tenant's transactions.
    _permit: Option<Arc<Permit>>,
}

/// Counts among what is under way in a lane, from before the wait for its connection.
struct Place {
    under_way: Arc<AtomicUsize>,
}

// === impl Server ===

impl Server {
    pub(super) fn new(
        name: &str,
        url: &Secret,
        config: &TenantDbConfig,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, Error> {
        let lanes = config.lanes;
        let lane = |lane: &str, connections_max: u32| {
            let target = Target::new(name, url, tasks.clone(), stop.clone())?.in_lane(lane);
            let target = if lanes.are_on() && lanes.are_aliases {
                // A pooler is in between for sure, and its back ends do not end with our connections. Over a lane they meet its
                // tenants alone, and `server_lifetime` ends them; over this one they would meet everybody in that time.
                let target = target.by_alias(lane)?;
                if lane == Lanes::BULK {
                    target.ending_back_ends_after(HOMES_PER_CONNECTION_MAX)
                } else {
                    target
                }
            } else {
                // One may be in between, which nothing shows: then it costs a log-in and helps nobody.
                target.retiring_after(HOMES_PER_CONNECTION_MAX)
            };
            Ok(Lane::new(name, lane, target, connections_max))
        };
        let main = Arc::new(Target::new(name, url, tasks.clone(), stop.clone())?.in_lane(LOGINS_LANE));
        let own_places = OwnPlaces::new(config.own_databases, tasks, stop);
        if !lanes.are_on() {
            return Ok(Self {
                main,
                own_places,
                lanes: vec![lane("all", config.pool_size_max)?],
                bulk: None,
                is_away: AtomicBool::default(),
            });
        }
        let each_max = lanes.connections_per_lane_max;
        Ok(Self {
            main,
            own_places,
            lanes: (0..lanes.count)
                .map(|number| lane(&Lanes::name(number), each_max))
                .collect::<Result<_, _>>()?,
            bulk: Some(lane(Lanes::BULK, each_max)?),
            is_away: AtomicBool::default(),
        })
    }

    /// Its main database, to ask for the logins of others, which are reached as it is.
    pub(super) fn main(&self) -> &Arc<Target> {
        &self.main
    }

    /// For connections to tenants' own databases.
    pub(super) fn own_places(&self) -> &OwnPlaces {
        &self.own_places
    }

    /// A free connection for a transaction of the tenant.
    pub(super) async fn connection(
        &self,
        tenant: TenantId,
        way: Way,
        permit: Option<Arc<Permit>>,
        deadline: Instant,
    ) -> Result<Borrowed, Error> {
        let lane = match (way, &self.bulk) {
            (Way::Bulk, Some(bulk)) => bulk,
            (Way::Lane | Way::Bulk, _) => self.lane_of(tenant)?,
        };
        let mut held = lane.connection(permit, deadline).await?;
        held.enters(tenant);
        lane.note(tenant);
        Ok(held)
    }

    /// Connections to ask the server with. A lane's only as long as the lane was never reached, to find an alias that is
    /// missing; later the tenants of that lane may have all of it.
    pub(super) async fn connections_to_ask(&self, deadline: Instant) -> Result<Vec<Borrowed>, Error> {
        let untried = self.lanes.first().filter(|lane| lane.is_untried());
        let asked = self.bulk.as_ref().or(self.lanes.first());
        let mut connections = Vec::new();
        for lane in asked.into_iter().chain(untried.filter(|_| self.bulk.is_some())) {
            connections.push(lane.connection(None, deadline).await?);
        }
        Ok(connections)
    }

    fn lane_of(&self, tenant: TenantId) -> Result<&Lane, Error> {
        let number = match u16::try_from(self.lanes.len()) {
            Ok(count) if count >= 2 => Pair::of(tenant, count).less_busy(|lane| self.under_way(lane)),
            _ => 0,
        };
        let lane = self.lanes.get(usize::from(number));
        // Never: a pair is below the number of lanes.
        lane.ok_or_else(|| Error::Fault("the server has no such lane".to_owned()))
    }

    fn under_way(&self, lane: u16) -> usize {
        let lane = self.lanes.get(usize::from(lane));
        lane.map_or(0, |lane| lane.under_way.load(Ordering::Relaxed))
    }
}

// === impl Lane ===

impl Lane {
    fn new(server: &str, name: &str, target: Target, connections_max: u32) -> Self {
        let last_fault = target.last_fault();
        let pool = Pool::builder()
            .max_size(connections_max.max(1))
            .connection_timeout(POOL_WAIT_MAX)
            .build_unchecked(target);
        Self {
            pool,
            last_fault,
            under_way: Arc::default(),
            homes: Mutex::new(Homes::new(HOMES_PER_LANE_COUNTED)),
            server: server.to_owned(),
            name: name.to_owned(),
        }
    }

    async fn connection(&self, permit: Option<Arc<Permit>>, deadline: Instant) -> Result<Borrowed, Error> {
        let place = Place::take(&self.under_way);
        let _wait = Wait::begin("connection");
        let connection = match tokio::time::timeout_at(deadline, self.pool.get_owned()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(RunError::User(error))) => return Err(error),
            Ok(Err(RunError::TimedOut)) => return Err(self.exhausted().unwrap_or(Error::PoolTimeout)),
            Err(_) => return Err(self.exhausted().unwrap_or(Error::DeadlineExceeded)),
        };
        Ok(Box::new(Held {
            connection,
            _place: Some(place),
            _permit: permit,
        }))
    }

    /// Counts the lane's homes.
    fn note(&self, tenant: TenantId) {
        let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        if homes.note(tenant) {
            metrics::gauge!("rowhouse_db_lane_homes", "server" => self.server.clone(), "lane" => self.name.clone())
                .set(f64::from(homes.count()));
        }
    }

    fn is_untried(&self) -> bool {
        self.pool.state().statistics.connections_created == 0
    }

    /// The pool waits and tries again while a server refuses; the waiter shall hear why.
    fn exhausted(&self) -> Option<Error> {
        let fault = self.last_fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
        fault.map(Error::Unavailable)
    }
}

// === impl Place ===

impl Place {
    fn take(under_way: &Arc<AtomicUsize>) -> Self {
        under_way.fetch_add(1, Ordering::Relaxed);
        Self {
            under_way: Arc::clone(under_way),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Held ===

impl Held {
    /// A connection to a tenant's own database.
    pub(super) fn to_own_database(connection: PooledConnection<'static, Target>, permit: Option<Arc<Permit>>) -> Self {
        Self {
            connection,
            _place: None,
            _permit: permit,
        }
    }
}

impl Deref for Held {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}
