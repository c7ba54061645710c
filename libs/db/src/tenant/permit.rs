//! How many transactions of one tenant this process has under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand;
use rowhouse_types::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::wait::Wait;
use crate::Error;
use crate::home::Home;

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
    /// Those that hold one and those that wait for one.
    users: usize,
}

/// One tenant's right to one connection; given back on drop.
#[derive(Debug)]
pub(super) struct Permit {
    // Dropped in this order: the permit is free before its tenant's entry goes.
    _permit: OwnedSemaphorePermit,
    _user: User,
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
    /// `most`: how many the tenant has; another number than before holds when none is taken any more.
    ///
    /// # Errors
    /// [`Error::TransactionsExceeded`] or [`Error::Busy`] shortly before the deadline, and at once where too many wait.
    pub(super) async fn acquire(&self, home: &Home, most: u16, deadline: Instant) -> Result<Permit, Error> {
        let (user, permits) = self.enlist(home, usize::from(most.max(1)))?;
        match tokio::time::timeout_at(told_before(deadline), permits.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Permit {
                _permit: permit,
                _user: user,
            }),
            // Closed: nobody closes it.
            Ok(Err(_)) => Err(Error::Fault("the tenant's permits are closed".to_owned())),
            Err(_) => {
                refused("permit");
                Err(home.transactions_taken())
            }
        }
    }

    fn enlist(&self, home: &Home, most: usize) -> Result<(User, Arc<Semaphore>), Error> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = tenants.entry(home.tenant).or_insert_with(|| Entry {
            permits: Arc::new(Semaphore::new(most)),
            users: 0,
        });
        if entry.users >= most.saturating_add(WAITING_MAX) {
            refused("queue");
            return Err(home.transactions_taken());
        }
        entry.users += 1;
        let user = User {
            tenant: home.tenant,
            tenants: Arc::clone(&self.tenants),
        };
        Ok((user, Arc::clone(&entry.permits)))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = tenants.get_mut(&self.tenant) {
            entry.users -= 1;
            if entry.users == 0 {
                tenants.remove(&self.tenant);
            }
        }
    }
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
    /// # Errors
    /// [`Error::TransactionsExceeded`] or [`Error::Busy`] where the pause would not end before the deadline.
    pub(super) async fn pause(&mut self, home: &Home, deadline: Instant) -> Result<(), Error> {
        self.wait.get_or_insert_with(|| Wait::begin("slot"));
        let bound = self.next;
        self.next = (bound * 2).min(PAUSES.1);
        let until = Instant::now() + bound.mul_f64(fraction());
        if until >= told_before(deadline) {
            refused("slot");
            return Err(home.transactions_taken());
        }
        tokio::time::sleep_until(until).await;
        Ok(())
    }

    /// What to say where the statement was not said: that the slots are taken, where it waited for one until no time was
    /// left for another attempt.
    pub(super) fn blamed_for(&self, home: &Home, error: Error) -> Error {
        if error == Error::DeadlineExceeded && self.wait.is_some() {
            refused("slot");
            return home.transactions_taken();
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
fn told_before(deadline: Instant) -> Instant {
    deadline.checked_sub(TOLD_BEFORE).unwrap_or(deadline)
}

/// `why`: what was not to be had.
fn refused(why: &'static str) {
    metrics::counter!("rowhouse_db_busy_total", "why" => why).increment(1);
}

#[cfg(test)]
mod tests {
    use rowhouse_types::{HomeState, Placement};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn home(transactions_max: Option<u16>) -> Home {
        Home {
            tenant: TenantId::generate(),
            server: "data1".parse().unwrap(),
            placement: Placement::Schema,
            generation: 1,
            version: 1,
            state: HomeState::Active,
            transactions_max,
        }
    }

    fn entries(permits: &Permits) -> usize {
        permits.tenants.lock().unwrap().len()
    }

    #[tokio::test]
    async fn a_deadline_is_blamed_on_the_slots_only_where_one_was_waited_for() {
        let (mut pauses, home) = (Pauses::new(), home(None));
        assert_eq!(
            pauses.blamed_for(&home, Error::DeadlineExceeded),
            Error::DeadlineExceeded
        );
        pauses.pause(&home, soon()).await.unwrap();
        assert_eq!(pauses.blamed_for(&home, Error::DeadlineExceeded), Error::Busy);
        assert_eq!(pauses.blamed_for(&home, Error::Stale), Error::Stale);
    }

    /// A lock that was not to be had after a wait for a slot is a matter of the tenant's data, not of its plan.
    #[tokio::test]
    async fn the_plans_bound_is_named_with_its_number_wherever_it_refuses() {
        let home = home(Some(1));
        let (tenant, most) = (home.tenant, 1);
        let exceeded = Error::TransactionsExceeded { tenant, most };
        let (permits, mut pauses) = (Permits::default(), Pauses::new());
        let held = permits.acquire(&home, most, soon()).await.unwrap();
        assert_eq!(
            permits.acquire(&home, most, Instant::now()).await.unwrap_err(),
            exceeded
        );
        drop(held);
        pauses.pause(&home, soon()).await.unwrap();
        assert_eq!(pauses.blamed_for(&home, Error::DeadlineExceeded), exceeded);
        assert_eq!(pauses.blamed_for(&home, Error::Busy), Error::Busy);
        assert_eq!(pauses.pause(&home, Instant::now()).await.unwrap_err(), exceeded);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_while_the_caller_still_listens() {
        let (permits, home) = (Permits::default(), home(Some(1)));
        let held = permits.acquire(&home, 1, soon()).await.unwrap();
        let deadline = soon();
        permits.acquire(&home, 1, deadline).await.unwrap_err();
        assert!(Instant::now() < deadline);
        drop(held);
    }

    #[tokio::test]
    async fn a_tenant_waits_for_itself_alone() {
        let permits = Permits::default();
        let (one, other) = (home(None), home(None));
        let held = permits.acquire(&one, 1, soon()).await.unwrap();
        assert_eq!(permits.acquire(&one, 1, Instant::now()).await.unwrap_err(), Error::Busy);
        let others = permits.acquire(&other, 1, soon()).await.unwrap();
        let (waited, ()) = tokio::join!(permits.acquire(&one, 1, soon()), async { drop(held) });
        drop((waited.unwrap(), others));
        assert_eq!(entries(&permits), 0, "nothing stays of those who have gone");
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing() {
        let permits = Permits::default();
        let tenant = home(None);
        let held = permits.acquire(&tenant, 1, soon()).await.unwrap();
        let mut waiting = Box::pin(permits.acquire(&tenant, 1, soon()));
        assert!(futures_util::future::poll_immediate(&mut waiting).await.is_none());
        drop(waiting);
        drop(held);
        assert_eq!(entries(&permits), 0);
    }

    #[tokio::test]
    async fn the_queue_of_one_tenant_is_bounded() {
        let permits = Permits::default();
        let (tenant, other) = (home(None), home(None));
        let held = permits.acquire(&tenant, 1, soon()).await.unwrap();
        let mut waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| Box::pin(permits.acquire(&tenant, 1, soon())))
            .collect();
        for one in &mut waiting {
            assert!(futures_util::future::poll_immediate(one).await.is_none());
        }
        assert_eq!(
            permits.acquire(&tenant, 1, soon()).await.unwrap_err(),
            Error::Busy,
            "at once"
        );
        permits.acquire(&other, 1, soon()).await.unwrap();
        drop(held);
        waiting.swap_remove(0).await.unwrap();
    }
}
