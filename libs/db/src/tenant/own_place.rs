//! How many connections this process may have to tenants' own databases of one server, in all.
//!
//! Each such database is a pool of its own at `PgBouncer`, and nothing there bounds their sum: a few busy ones would leave
//! PostgreSQL no connection for the lanes, whose tenants are their neighbours on the server. So the sum is bounded here, and over
//! all processes it is so many times as large.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

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
    /// How many are taken only because it does.
    lingering: Arc<AtomicUsize>,
    tasks: TaskTracker,
    runtime: Handle,
    stop: CancellationToken,
}

/// What one database may have of them.
#[derive(Clone)]
pub(crate) struct OwnShare {
    places: OwnPlaces,
    /// Connections that it has or is about to have.
    held: Arc<AtomicUsize>,
    /// Whether it was refused a place, or waits for one, since it was last given one.
    lacks: Arc<AtomicBool>,
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
            tasks: tasks.clone(),
            runtime: Handle::current(),
            stop: stop.clone(),
        }
    }

    /// One database's share.
    pub(super) fn share(&self) -> OwnShare {
        OwnShare {
            places: self.clone(),
            held: Arc::default(),
            lacks: Arc::default(),
        }
    }

    /// Whether there is none, not even of those that are reserved, and no more than one is about to be free: then somebody who does
    /// not need his should give it back.
    pub(super) fn run_short(&self) -> bool {
        self.are_taken() && self.lingering.load(Ordering::Relaxed) <= 1
    }

    fn are_taken(&self) -> bool {
        self.free.available_permits() == 0
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
        self.lingering.fetch_add(1, Ordering::Relaxed);
        let places = self.clone();
        let lingering = async move {
            places
                .stop
                .run_until_cancelled(tokio::time::sleep(places.lingers))
                .await;
            places.lingering.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
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
        let others = self.held.fetch_add(1, Ordering::Relaxed);
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
        self.lacks.store(is_lacking, Ordering::Relaxed);
        if is_lacking { Err(Error::Busy) } else { Ok(place) }
    }

    async fn first(&self) -> Option<OwnedSemaphorePermit> {
        let free = || Arc::clone(&self.places.free);
        if let Ok(permit) = free().try_acquire_owned() {
            return Some(permit);
        }
        self.lacks.store(true, Ordering::Relaxed);
        tokio::time::timeout(WAIT_MAX, free().acquire_owned()).await.ok()?.ok()
    }

    /// Whether it is a place that keeps the database from another connection, and not the server.
    pub(super) fn lacks(&self) -> bool {
        self.lacks.load(Ordering::Relaxed)
    }
}

// === impl OwnPlace ===

impl OwnPlace {
    /// A pooler has a connection to the server behind it from now on, and keeps that for a while.
    pub(crate) fn connected(&mut self) {
        self.is_connected = true;
    }

    /// It ends in the middle of something, or was ended from the other side, so that a pooler keeps nothing of it.
    pub(crate) fn cut(&mut self) {
        self.is_connected = false;
    }
}

impl Drop for OwnPlace {
    fn drop(&mut self) {
        self.share.held.fetch_sub(1, Ordering::Relaxed);
        if let Some(permit) = self.permit.take().filter(|_| self.is_connected) {
            self.share.places.linger(permit);
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
        let busy = all(&places.share()).await;
        assert_eq!(busy.len(), 6, "a quarter is reserved");
        let (second, third) = (places.share(), places.share());
        let (_one, _other) = (second.take().await.unwrap(), third.take().await.unwrap());
        assert!(places.are_taken());
        assert_eq!(second.take().await.err(), Some(Error::Busy), "it has one");
        let begun = Instant::now();
        assert_eq!(places.share().take().await.err(), Some(Error::Busy));
        assert!(begun.elapsed() >= WAIT_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_none_waits_until_one_is_given_back() {
        let places = places(1, Duration::ZERO);
        let (one, other) = (places.share(), places.share());
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
        assert!(!places.are_taken());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_taken_as_long_as_the_pooler_keeps_its_connection() {
        let places = places(1, LINGERS);
        let share = places.share();
        let mut held = share.take().await.unwrap();
        held.connected();
        drop(held);
        tokio::time::sleep(LINGERS - Duration::from_millis(1)).await;
        assert!(places.are_taken());
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(!places.are_taken());
        // What was never connected, or was cut, leaves nothing at the pooler.
        for was_connected in [false, true] {
            let mut place = share.take().await.unwrap();
            if was_connected {
                place.connected();
                place.cut();
            }
            drop(place);
            assert!(!places.are_taken());
        }
    }
}
