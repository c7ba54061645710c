//! How many transactions of one tenant this process has under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand;
use rowhouse_types::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::bound::Bound;
use super::wait::Wait;
use crate::Error;

/// Transactions of one tenant that may wait here: a quarter of the calls that a process takes at once, so that one
/// tenant's do not fill it.
const WAITING_MAX: usize = 256;

/// First and longest pause before asking again for a slot that another process's transaction has: about as long as a
/// transaction takes, and so long that twenty processes asking cost a server nothing.
const PAUSES: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(64));

/// How long before the deadline somebody who waits is refused: the caller's own clock runs from before the call was sent, so an
/// answer at the deadline comes too late to say which bound it was. Longer than an answer travels within one region.
const TOLD_BEFORE: Duration = Duration::from_millis(20);

/// The permits of all tenants. A tenant has an entry while it has a transaction under way or waiting.
#[derive(Debug, Default)]
pub(super) struct Permits {
    tenants: Arc<Mutex<HashMap<TenantId, Entry>>>,
}

#[derive(Debug)]
struct Entry {
    permits: Arc<Semaphore>,
    /// How many there are, held or not, as soon as those that are owed are gone.
    most: usize,
    /// Permits that go when they are given back: more were held than there may be now.
    owed: usize,
    /// Those that hold one and those that wait for one.
    users: usize,
}

/// One tenant's right to one connection; given back on drop.
#[derive(Debug)]
pub(super) struct Permit {
    /// There until the drop.
    permit: Option<OwnedSemaphorePermit>,
    // Dropped last: the permit is free before its tenant's entry goes.
    user: User,
}

/// Keeps a tenant's entry.
#[derive(Debug)]
struct User {
    tenant: TenantId,
    tenants: Arc<Mutex<HashMap<TenantId, Entry>>>,
}

/// The pauses between attempts to take a slot.
#[derive(Debug)]
pub(super) struct Pauses {
    next: Duration,
    /// From the first pause on, until whoever waits is through or gives up.
    wait: Option<Wait>,
}

// === impl Permits ===

impl Permits {
    /// Waits for one of the tenant's permits. Who came first gets it first.
    ///
    /// `bound`: how many the tenant has. Another number than before holds from now on, also for those who wait; nothing is
    /// taken from those who hold one.
    ///
    /// # Errors
    /// [`Error::TransactionsExceeded`] or [`Error::Busy`] shortly before the deadline, and at once where too many wait.
    pub(super) async fn acquire(&self, bound: Bound, deadline: Instant) -> Result<Permit, Error> {
        let (user, permits) = self.enlist(bound)?;
        match tokio::time::timeout_at(told_before(deadline), permits.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Permit {
                permit: Some(permit),
                user,
            }),
            // Closed: nobody closes it.
            Ok(Err(_)) => Err(Error::Fault("the tenant's permits are closed".to_owned())),
            Err(_) => {
                refused("permit");
                Err(bound.reached())
            }
        }
    }

    fn enlist(&self, bound: Bound) -> Result<(User, Arc<Semaphore>), Error> {
        let most = usize::from(bound.most);
        let mut tenants = lock(&self.tenants);
        let entry = tenants.entry(bound.tenant).or_insert_with(|| Entry::new(most));
        // A tenant that always has something under way has the same entry for ever.
        entry.becomes(most);
        if entry.users >= most.saturating_add(WAITING_MAX) {
            refused("queue");
            return Err(bound.reached());
        }
        entry.users += 1;
        let user = User {
            tenant: bound.tenant,
            tenants: Arc::clone(&self.tenants),
        };
        Ok((user, Arc::clone(&entry.permits)))
    }
}

// === impl Entry ===

impl Entry {
    fn new(most: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(most)),
            most,
            owed: 0,
            users: 0,
        }
    }

    /// There are so many from now on.
    fn becomes(&mut self, most: usize) {
        if let Some(more) = most.checked_sub(self.most) {
            // What is owed need not go, so the rest is new.
            let kept = self.owed.min(more);
            self.owed -= kept;
            self.permits.add_permits(more - kept);
        } else {
            self.owed += self.most - most;
            self.settle();
        }
        self.most = most;
    }

    /// Takes what is owed of what nobody holds.
    fn settle(&mut self) {
        self.owed -= self.permits.forget_permits(self.owed);
    }
}

// === impl Permit ===

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let mut tenants = lock(&self.user.tenants);
        match tenants.get_mut(&self.user.tenant) {
            // Else whoever waits would have it at once, and a queue that never ends would never come to the smaller number.
            Some(entry) if entry.owed > 0 => {
                entry.owed -= 1;
                permit.forget();
            }
            // Under the lock, so that nothing comes to be owed in between.
            Some(_) | None => drop(permit),
        }
    }
}

// === impl User ===

impl Drop for User {
    fn drop(&mut self) {
        let mut tenants = lock(&self.tenants);
        if let Some(entry) = tenants.get_mut(&self.tenant) {
            // Of somebody who was given a permit and had gone.
            entry.settle();
            entry.users -= 1;
            if entry.users == 0 {
                tenants.remove(&self.tenant);
            }
        }
    }
}

fn lock(tenants: &Mutex<HashMap<TenantId, Entry>>) -> MutexGuard<'_, HashMap<TenantId, Entry>> {
    tenants.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Pauses ===

impl Pauses {
    pub(super) fn new() -> Self {
        Self {
            next: PAUSES.0,
            wait: None,
        }
    }

    /// Pauses for a random time that is longer in the mean after each refusal.
    ///
    /// `taken`: what to say where the slots are, [`Bound::reached`].
    ///
    /// # Errors
    /// `taken` where the pause would not end before the deadline.
    pub(super) async fn pause(&mut self, taken: Error, deadline: Instant) -> Result<(), Error> {
        self.wait.get_or_insert_with(|| Wait::begin("slot"));
        let bound = self.next;
        self.next = (bound * 2).min(PAUSES.1);
        let until = Instant::now() + bound.mul_f64(fraction());
        if until >= told_before(deadline) {
            refused("slot");
            return Err(taken);
        }
        tokio::time::sleep_until(until).await;
        Ok(())
    }

    /// What to say where the statement was not said: that the slots are taken, where it waited for one until no time was
    /// left for another attempt.
    pub(super) fn blamed_for(&self, taken: Error, error: Error) -> Error {
        if error == Error::DeadlineExceeded && self.wait.is_some() {
            refused("slot");
            return taken;
        }
        error
    }
}

/// Between 0 and 1.
fn fraction() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness: half. Those who ask then ask together, which is slower and not wrong.
    match rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

/// When somebody who waits is told, at the latest.
pub(super) fn told_before(deadline: Instant) -> Instant {
    deadline.checked_sub(TOLD_BEFORE).unwrap_or(deadline)
}

/// `why`: what was not to be had.
pub(super) fn refused(why: &'static str) {
    metrics::counter!("rowhouse_db_busy_total", "why" => why).increment(1);
}

#[cfg(test)]
mod tests {
    use super::super::bound::tests::{of_lanes, of_plan};
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    /// Everybody's one.
    fn one() -> Bound {
        of_lanes(TenantId::generate(), 1)
    }

    fn entries(permits: &Permits) -> usize {
        permits.tenants.lock().unwrap().len()
    }

    async fn is_waiting<F: Future + Unpin>(waiting: &mut F) -> bool {
        futures_util::future::poll_immediate(waiting).await.is_none()
    }

    #[tokio::test]
    async fn a_deadline_is_blamed_on_the_slots_only_where_one_was_waited_for() {
        let mut pauses = Pauses::new();
        let blamed = |pauses: &Pauses, error| pauses.blamed_for(Error::Busy, error);
        assert_eq!(blamed(&pauses, Error::DeadlineExceeded), Error::DeadlineExceeded);
        pauses.pause(Error::Busy, soon()).await.unwrap();
        assert_eq!(blamed(&pauses, Error::DeadlineExceeded), Error::Busy);
        assert_eq!(blamed(&pauses, Error::Stale), Error::Stale);
    }

    /// A lock that was not to be had after a wait for a slot is a matter of the tenant's data, not of its plan.
    #[tokio::test]
    async fn the_plans_bound_is_named_with_its_number_wherever_it_refuses() {
        let bound = of_plan(TenantId::generate(), 1);
        let exceeded = bound.reached();
        let (permits, mut pauses) = (Permits::default(), Pauses::new());
        let held = permits.acquire(bound, soon()).await.unwrap();
        assert_eq!(permits.acquire(bound, Instant::now()).await.unwrap_err(), exceeded);
        drop(held);
        pauses.pause(exceeded.clone(), soon()).await.unwrap();
        assert_eq!(pauses.blamed_for(exceeded.clone(), Error::DeadlineExceeded), exceeded);
        assert_eq!(pauses.blamed_for(exceeded.clone(), Error::Busy), Error::Busy);
        let given_up = pauses.pause(exceeded.clone(), Instant::now()).await;
        assert_eq!(given_up.unwrap_err(), exceeded);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_while_the_caller_still_listens() {
        let (permits, bound) = (Permits::default(), of_plan(TenantId::generate(), 1));
        let held = permits.acquire(bound, soon()).await.unwrap();
        let deadline = soon();
        permits.acquire(bound, deadline).await.unwrap_err();
        assert!(Instant::now() < deadline);
        drop(held);
    }

    #[tokio::test]
    async fn a_tenant_waits_for_itself_alone() {
        let permits = Permits::default();
        let (one, other) = (one(), one());
        let held = permits.acquire(one, soon()).await.unwrap();
        assert_eq!(permits.acquire(one, Instant::now()).await.unwrap_err(), Error::Busy);
        let others = permits.acquire(other, soon()).await.unwrap();
        let (waited, ()) = tokio::join!(permits.acquire(one, soon()), async { drop(held) });
        drop((waited.unwrap(), others));
        assert_eq!(entries(&permits), 0, "nothing stays of those who have gone");
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing() {
        let (permits, one) = (Permits::default(), one());
        let held = permits.acquire(one, soon()).await.unwrap();
        let mut waiting = Box::pin(permits.acquire(one, soon()));
        assert!(is_waiting(&mut waiting).await);
        drop(waiting);
        drop(held);
        assert_eq!(entries(&permits), 0);
    }

    #[tokio::test]
    async fn the_queue_of_one_tenant_is_bounded() {
        let permits = Permits::default();
        let (tenant, other) = (one(), one());
        let held = permits.acquire(tenant, soon()).await.unwrap();
        let mut waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| Box::pin(permits.acquire(tenant, soon())))
            .collect();
        for one in &mut waiting {
            assert!(is_waiting(one).await);
        }
        assert_eq!(
            permits.acquire(tenant, soon()).await.unwrap_err(),
            Error::Busy,
            "at once"
        );
        permits.acquire(other, soon()).await.unwrap();
        drop(held);
        waiting.swap_remove(0).await.unwrap();
    }

    /// A busy tenant always has something under way, so its entry never goes.
    #[tokio::test(start_paused = true)]
    async fn another_number_holds_at_once_for_a_tenant_that_is_never_idle() {
        let (permits, tenant) = (Permits::default(), TenantId::generate());
        let acquire = |most| permits.acquire(of_plan(tenant, most), soon());
        let is_full = async |most| {
            let refused = permits.acquire(of_plan(tenant, most), Instant::now()).await;
            refused.is_err_and(|error| error == of_plan(tenant, most).reached())
        };
        let throughout = acquire(1).await.unwrap();
        let mut waiting = Box::pin(acquire(1));
        assert!(is_waiting(&mut waiting).await);

        // Raised: who waits already is the first to have more.
        let third = acquire(3).await.unwrap();
        let second = waiting.await.unwrap();
        assert!(is_full(3).await);

        // Lowered while all are held: nothing is taken away, and what is given back goes, also while somebody waits.
        let mut waiting = Box::pin(acquire(2));
        assert!(is_waiting(&mut waiting).await);
        drop(third);
        assert!(is_waiting(&mut waiting).await, "two are held");
        drop(second);
        let second = waiting.await.unwrap();
        assert!(is_full(2).await);

        // Lowered while one is free.
        drop(second);
        assert!(is_full(1).await);

        // Raised again while something is owed: that stays, and the rest is new.
        let second = acquire(2).await.unwrap();
        assert!(is_full(1).await);
        let third = acquire(3).await.unwrap();
        assert!(is_full(3).await);
        drop((second, third));
        drop((acquire(3).await.unwrap(), throughout));
        assert_eq!(entries(&permits), 0);
    }

    /// It was given a permit, and has gone before it could look.
    #[tokio::test]
    async fn what_is_owed_is_not_kept_by_who_gave_up() {
        let (permits, tenant) = (Permits::default(), TenantId::generate());
        let acquire = |most| permits.acquire(of_plan(tenant, most), soon());
        let (throughout, second) = (acquire(2).await.unwrap(), acquire(2).await.unwrap());
        let mut given = Box::pin(acquire(2));
        assert!(is_waiting(&mut given).await);
        drop(second);
        let refused = permits.acquire(of_plan(tenant, 1), Instant::now()).await;
        assert!(refused.is_err());
        drop(given);
        let refused = permits.acquire(of_plan(tenant, 1), Instant::now()).await;
        assert!(refused.is_err(), "the second is gone");
        drop(throughout);
        drop(acquire(1).await.unwrap());
        assert_eq!(entries(&permits), 0);
    }
}
