//! How many connections this process may have to tenants' own databases of one server, in all.
//!
//! Each such database is a pool of its own at `PgBouncer`, and nothing there bounds their sum: a few busy ones would leave
//! PostgreSQL no connection for the lanes, whose tenants are their neighbours on the server. So the sum is bounded here, and over
//! all processes it is so many times as large.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rowhouse_types::TenantId;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::databases::OwnDatabases;
use crate::Error;

/// Longest wait for a place: as long as anybody waits for a connection.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Of the places, the part that is left to databases that have none, one in so many: who is busy has several, and one is enough to
/// be served.
const RESERVED_ONE_IN: u32 = 4;

/// The places of one server.
#[derive(Clone)]
pub(super) struct OwnPlaces {
    free: Arc<Semaphore>,
    reserved: u32,
    /// How long a pooler keeps the server connection behind one of ours that has ended.
    lingers: Duration,
    /// How many places come back when that time is over.
    lingering: Arc<AtomicUsize>,
    /// By database, whatever became of the pool that it had.
    owners: Arc<Mutex<HashMap<TenantId, Weak<Owner>>>>,
    tasks: TaskTracker,
    runtime: Handle,
    stop: CancellationToken,
}

/// What one database may have of them.
#[derive(Clone)]
pub(crate) struct OwnShare {
    places: OwnPlaces,
    owner: Arc<Owner>,
}

/// What is known of one database.
#[derive(Default)]
struct Owner {
    /// Connections that it has or is about to have.
    held: AtomicUsize,
    /// Whether it was refused a place, or waits for one, since it was last given one.
    lacks: AtomicBool,
    /// Whether somebody was asked to make room for its first connection, which is not there yet nor refused.
    has_asked: AtomicBool,
}

/// One connection's. Given back on drop.
pub(crate) struct OwnPlace {
    /// There until the drop, once it was given.
    permit: Option<OwnedSemaphorePermit>,
    is_connected: bool,
    share: OwnShare,
}

// === impl OwnPlaces ===

impl OwnPlaces {
    /// As many as `bounds` says. `tasks`: where those are that give places back later, until `stop`.
    pub(super) fn new(bounds: OwnDatabases, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let most = bounds.server_connections_max.max(1);
        Self {
            free: Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS))),
            reserved: most / RESERVED_ONE_IN,
            lingers: bounds.pooler_idle,
            lingering: Arc::default(),
            owners: Arc::default(),
            tasks: tasks.clone(),
            runtime: Handle::current(),
            stop: stop.clone(),
        }
    }

    /// One database's share: the same as that of a pool which it had before and of which a transaction still has a connection.
    pub(super) fn share(&self, tenant: TenantId) -> OwnShare {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.retain(|_, owner| owner.strong_count() > 0);
        let owner = owners.get(&tenant).and_then(Weak::upgrade).unwrap_or_default();
        owners.insert(tenant, Arc::downgrade(&owner));
        OwnShare {
            places: self.clone(),
            owner,
        }
    }

    /// Whether somebody who does not need his should give it back for the next one that is taken. Behind a pooler it comes back too
    /// late for whoever asks, so already where no more are free than are reserved: those are what is ready meanwhile. What was
    /// given up and is on its way counts, or who cannot connect, and gives his place back at once, would have one neighbour after
    /// the other give up theirs.
    fn run_short(&self) -> bool {
        let ready = if self.lingers.is_zero() { 0 } else { self.reserved };
        let coming = self.free.available_permits() + self.lingering.load(Ordering::Relaxed);
        coming <= usize::try_from(ready).unwrap_or(usize::MAX)
    }

    /// One that leaves what is reserved.
    fn unreserved(&self) -> Option<OwnedSemaphorePermit> {
        let mut permits = Arc::clone(&self.free).try_acquire_many_owned(self.reserved + 1).ok()?;
        permits.split(1)
    }

    /// Gives one back when the pooler has ended its connection too.
    fn linger(&self, permit: OwnedSemaphorePermit) {
        if self.lingers.is_zero() {
            return;
        }
        let places = self.clone();
        places.lingering.fetch_add(1, Ordering::Relaxed);
        let lingering = async move {
            places
                .stop
                .run_until_cancelled(tokio::time::sleep(places.lingers))
                .await;
            drop(permit);
            places.lingering.fetch_sub(1, Ordering::Relaxed);
        };
        self.tasks.spawn_on(lingering, &self.runtime);
    }
}

// === impl OwnShare ===

impl OwnShare {
    /// A place for one more connection. A database that has none waits for it; one that has some does without, unless there are
    /// more than are reserved, since its calls are served by what it has.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub(crate) async fn take(&self) -> Result<OwnPlace, Error> {
        let others = self.owner.held.fetch_add(1, Ordering::Relaxed);
        let mut place = OwnPlace {
            permit: None,
            is_connected: false,
            share: self.clone(),
        };
        place.permit = if others == 0 {
            self.first().await
        } else {
            self.places.unreserved()
        };
        let is_lacking = place.permit.is_none();
        self.owner.lacks.store(is_lacking, Ordering::Relaxed);
        if is_lacking {
            self.asks_no_more();
            return Err(Error::Busy);
        }
        Ok(place)
    }

    async fn first(&self) -> Option<OwnedSemaphorePermit> {
        let free = || Arc::clone(&self.places.free);
        if let Ok(permit) = free().try_acquire_owned() {
            return Some(permit);
        }
        self.owner.lacks.store(true, Ordering::Relaxed);
        tokio::time::timeout(WAIT_MAX, free().acquire_owned()).await.ok()?.ok()
    }

    /// Whether it is a place that keeps the database from another connection, and not the server.
    pub(super) fn lacks(&self) -> bool {
        self.owner.lacks.load(Ordering::Relaxed)
    }

    /// Whether a pool that nobody uses should make room for the first connection of this database. Said once for each that it comes
    /// to need, however many calls wait for it: else they would have every neighbour give up his.
    /// Nor where transactions hold connections of a pool that was closed: then what comes is no first one.
    pub(super) fn asks_for_room(&self) -> bool {
        let has_none = self.owner.held.load(Ordering::Relaxed) == 0;
        has_none && self.places.run_short() && !self.owner.has_asked.swap(true, Ordering::Relaxed)
    }

    /// It has its connection, or was refused one; or nobody made room.
    pub(super) fn asks_no_more(&self) {
        self.owner.has_asked.store(false, Ordering::Relaxed);
    }
}

// === impl OwnPlace ===

impl OwnPlace {
    /// A pooler has a connection to the server behind it from now on, and keeps that for a while.
    pub(crate) fn connected(&mut self) {
        self.is_connected = true;
        self.share.asks_no_more();
    }

    /// It ends in the middle of something, so that a pooler ends its own too. One that was ended from the other side while nobody
    /// used it is none of those: it may be the network that did, and the pooler keeps its own.
    pub(crate) fn cut(&mut self) {
        self.is_connected = false;
    }
}

impl Drop for OwnPlace {
    fn drop(&mut self) {
        self.share.owner.held.fetch_sub(1, Ordering::Relaxed);
        let Some(permit) = self.permit.take() else { return };
        if self.is_connected {
            self.share.places.linger(permit);
        } else {
            self.share.asks_no_more();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const LINGERS: Duration = Duration::from_secs(60);

    fn places(most: u32, lingers: Duration) -> OwnPlaces {
        let bounds = OwnDatabases {
            server_connections_max: most,
            pooler_idle: lingers,
            ..OwnDatabases::default()
        };
        OwnPlaces::new(bounds, &TaskTracker::new(), &CancellationToken::new())
    }

    fn share(places: &OwnPlaces) -> OwnShare {
        places.share(TenantId::generate())
    }

    fn are_taken(places: &OwnPlaces) -> bool {
        places.free.available_permits() == 0
    }

    /// As many as it is given at once.
    async fn all(share: &OwnShare) -> Vec<OwnPlace> {
        let mut places = Vec::new();
        while let Ok(place) = share.take().await {
            places.push(place);
        }
        places
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_busy_leaves_a_place_to_those_who_have_none() {
        let places = places(8, Duration::ZERO);
        let busy = all(&share(&places)).await;
        assert_eq!(busy.len(), 6, "a quarter is reserved");
        let (second, third) = (share(&places), share(&places));
        let (_one, _other) = (second.take().await.unwrap(), third.take().await.unwrap());
        assert!(are_taken(&places));
        assert_eq!(second.take().await.err(), Some(Error::Busy), "it has one");
        let begun = Instant::now();
        assert_eq!(share(&places).take().await.err(), Some(Error::Busy));
        assert!(begun.elapsed() >= WAIT_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_none_waits_until_one_is_given_back() {
        let places = places(1, Duration::ZERO);
        let (one, other) = (share(&places), share(&places));
        let held = one.take().await.unwrap();
        let waiting = tokio::spawn({
            let other = other.clone();
            async move { other.take().await }
        });
        tokio::time::sleep(WAIT_MAX / 2).await;
        assert!(other.lacks(), "it is a place that it waits for");
        drop(held);
        let place = waiting.await.unwrap().unwrap();
        assert!(!other.lacks());
        drop(place);
        assert!(!are_taken(&places));
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_taken_as_long_as_the_pooler_keeps_its_connection() {
        let places = places(1, LINGERS);
        let share = share(&places);
        let mut held = share.take().await.unwrap();
        held.connected();
        drop(held);
        tokio::time::sleep(LINGERS - Duration::from_millis(1)).await;
        assert!(are_taken(&places));
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(!are_taken(&places));
        // What was never connected, or was cut, leaves nothing at the pooler.
        for was_connected in [false, true] {
            let mut place = share.take().await.unwrap();
            if was_connected {
                place.connected();
                place.cut();
            }
            drop(place);
            assert!(!are_taken(&places));
        }
    }

    /// Else a pool that is opened anew while old transactions go on would have what is reserved for others, each time.
    #[tokio::test(start_paused = true)]
    async fn a_database_whose_pool_was_closed_has_what_its_transactions_still_hold() {
        let places = places(8, Duration::ZERO);
        let tenant = TenantId::generate();
        let held = places.share(tenant).take().await.unwrap();
        let busy = all(&share(&places)).await;
        assert_eq!(busy.len(), 5, "a quarter is reserved");
        assert_eq!(places.share(tenant).take().await.err(), Some(Error::Busy), "it has one");
        drop(share(&places).take().await.unwrap());
        drop(held);
        places.share(tenant).take().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_asked_for_while_places_are_left_where_they_come_back_late() {
        for (lingers, expected) in [(Duration::ZERO, false), (LINGERS, true)] {
            let places = places(8, lingers);
            let (busy, other) = (share(&places), share(&places));
            let _held = all(&busy).await;
            assert_eq!(other.asks_for_room(), expected, "two are free, and reserved");
        }
        // Straight to PostgreSQL they come back at once, so there it is time when there is none.
        let places = places(1, Duration::ZERO);
        let _held = share(&places).take().await.unwrap();
        assert!(share(&places).asks_for_room());
    }

    /// A database that refuses its connections costs the others one pool, not all.
    #[tokio::test(start_paused = true)]
    async fn who_cannot_connect_asks_no_more_while_what_was_given_up_is_on_its_way() {
        let places = places(4, LINGERS);
        let (neighbour, broken) = (share(&places), share(&places));
        let mut held = all(&neighbour).await;
        held.iter_mut().for_each(OwnPlace::connected);
        assert_eq!(held.len(), 3, "a quarter is reserved");
        let mut asked = 0;
        for _ in 0..5 {
            if broken.asks_for_room() {
                asked += 1;
                held.pop();
            }
            drop(broken.take().await.unwrap());
        }
        assert_eq!((asked, held.len()), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_asked_for_once_for_each_first_connection() {
        let places = places(1, Duration::ZERO);
        let (one, other) = (share(&places), share(&places));
        let held = one.take().await.unwrap();
        // Until it is refused.
        assert!(other.asks_for_room());
        assert!(!other.asks_for_room(), "a second call waits for the same");
        assert_eq!(other.take().await.err(), Some(Error::Busy));
        assert!(other.asks_for_room());
        // Until it is connected, or could not be.
        drop(held);
        for is_reached in [false, true] {
            let mut place = other.take().await.unwrap();
            assert!(!other.asks_for_room(), "it is about to be connected");
            if is_reached {
                place.connected();
            }
            drop(place);
            // Somebody has the only place again.
            let _held = one.take().await;
            assert!(other.asks_for_room());
        }
    }
}
