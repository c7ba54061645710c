//! This process's view of the clock of rights: wakes long polls, and waits for confirmations.

use std::time::Duration;

use rowhouse_context::Ctx;
use rowhouse_db::ControlDb;
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Version, store};
use crate::error::Error;

/// How often other replicas' changes and confirmations are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits that began within this time share one look.
const LOOK_SHARED: Duration = Duration::from_millis(5);

/// What this process knows of the clock.
#[derive(Debug)]
pub(crate) struct Clock {
    db: ControlDb,
    /// The newest version that this process has seen.
    newest: watch::Sender<Version>,
    /// A lease was renewed in this process.
    confirmed: Notify,
    floor: Mutex<Look>,
}

/// The last look at what all live leases have confirmed.
#[derive(Debug)]
struct Look {
    floor: Version,
    at: Option<Instant>,
}

// === impl Clock ===

impl Clock {
    pub(crate) fn new(db: ControlDb) -> Self {
        Self {
            db,
            newest: watch::Sender::new(Version(0)),
            confirmed: Notify::new(),
            floor: Mutex::new(Look {
                floor: Version(0),
                at: None,
            }),
        }
    }

    /// Publishes a committed change and waits until no service can honour the rights before it.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] where that takes longer than the caller waits. The change stands all the same.
    pub(crate) async fn acknowledge(&self, ctx: &Ctx, version: Version) -> Result<(), Error> {
        self.publish(version);
        loop {
            let confirmed = self.confirmed.notified();
            tokio::pin!(confirmed);
            // Registered before the look: a confirmation in between must wake this wait.
            confirmed.as_mut().enable();
            let Some(pause) = self.look(version).await? else {
                return Ok(());
            };
            let next = (Instant::now() + pause).min(ctx.deadline());
            let _woken_or_time_to_look = timeout_at(next, confirmed).await;
            if ctx.time_left().is_zero() {
                return Err(Error::DeadlineExceeded);
            }
        }
    }

    /// As [`Self::acknowledge`], for everything that was committed so far: a repeated call finds its change made, and
    /// must not answer before the first one might have.
    pub(crate) async fn acknowledge_all(&self, ctx: &Ctx) -> Result<(), Error> {
        let version = store::version(&mut *self.db.pool().acquire().await?).await?;
        self.acknowledge(ctx, version).await
    }

    /// Wakes the long polls of this process.
    pub(crate) fn publish(&self, version: Version) {
        self.newest.send_if_modified(|newest| {
            let newer = version > *newest;
            if newer {
                *newest = version;
            }
            newer
        });
    }

    /// Wakes waits: a lease of this process has confirmed something.
    pub(super) fn confirmation(&self) {
        self.confirmed.notify_waiters();
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Version> {
        self.newest.subscribe()
    }

    /// Looks whether every live lease has confirmed `version`: `None` where all have, else how long to wait before
    /// another look is worth it.
    ///
    /// One look serves all waits that began with it: a floor that has reached a version was read after that version's
    /// commit, since nobody confirms what is not there yet.
    async fn look(&self, version: Version) -> Result<Option<Duration>, Error> {
        let mut look = self.floor.lock().await;
        if look.floor >= version {
            return Ok(None);
        }
        let age = look.at.map(|at| at.elapsed());
        if let Some(shared) = age.and_then(|age| LOOK_SHARED.checked_sub(age)) {
            return Ok(Some(shared));
        }
        let at = Instant::now();
        let floor = store::floor(&mut *self.db.pool().acquire().await?).await?;
        // A new instance begins with nothing confirmed and lowers the floor; what was reached stays reached.
        look.floor = floor.max(look.floor);
        look.at = Some(at);
        Ok((look.floor < version).then_some(LOOK_EVERY))
    }
}

/// Looks for other replicas' changes, as long as somebody waits for one, until `stop`.
pub(crate) async fn watch(state: std::sync::Arc<crate::state::State>, stop: CancellationToken) {
    let clock = &state.clock;
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut away = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if clock.newest.receiver_count() == 0 {
            continue;
        }
        let looked = async { store::version(&mut *clock.db.pool().acquire().await?).await };
        match looked.await {
            Ok(version) => {
                clock.publish(version);
                away = false;
            }
            Err(error) if !away => {
                away = true;
                tracing::warn!(%error, "the clock of rights cannot be read");
                sleep_until(Instant::now() + Duration::from_millis(200)).await;
            }
            Err(_) => sleep_until(Instant::now() + Duration::from_millis(200)).await,
        }
    }
}
