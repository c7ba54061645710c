//! What was refused, written in transactions of its own: the first time at once, again and again as a number.
//!
//! Whoever is refused a thousand times a second must not fill a log by it, so what repeats within a minute is one entry
//! with how often it happened, and a tenant has a bounded number of different ones in a minute; what is beyond is one
//! entry too. Nothing waits for a refusal to be written: what a process had not written when it was killed is lost.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rowhouse_context::{Ctx, Principal, ServiceName};
use rowhouse_middleware::{Refusal, RefusalLog};
use rowhouse_types::TenantId;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::entry::Entry;
use crate::log::AuditLog;

/// How often what was refused is written.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// Longest time to write what is left at the end.
const LAST_WRITE_MAX: Duration = Duration::from_secs(5);

/// How long the same refusal is counted into one entry.
const WINDOW: Duration = Duration::from_secs(60);

/// Different refusals of one tenant in a window, and of all tenants in a process.
const PER_TENANT_MAX: usize = 100;
const TOTAL_MAX: usize = 5_000;

/// Addresses of one refusal that are told apart; who comes from more than that is counted together, so that many machines which
/// guess at one account do not take the room of all that is told about the tenant.
const ADDRESSES_MAX: usize = 10;

/// What stands for the RPC in an entry about all that is beyond the bound.
const OTHERS: &str = "*";

/// The outcome of a refusal.
const REFUSED: &str = "refused";

/// Counts refusals, and writes them when [`run`](Self::run).
#[derive(Clone)]
pub struct Refusals {
    service: ServiceName,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Default)]
struct Counts {
    refusals: HashMap<Key, Count>,
    /// How many addresses are told apart, by the key without one.
    addresses: HashMap<Key, usize>,
    tenants: HashMap<Option<TenantId>, usize>,
}

/// What makes two refusals the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    tenant: Option<TenantId>,
    actor: String,
    on_behalf_of: Option<String>,
    rpc: String,
    reason: &'static str,
    permission: Option<String>,
    target: String,
    /// Of somebody who is not known otherwise.
    address: Option<String>,
}

struct Count {
    /// Of the first that is not written.
    ctx: Ctx,
    waiting: u64,
    /// When the next entry about it may be written.
    due: Instant,
}

// === impl Refusals ===

impl Refusals {
    /// Of `service`.
    #[must_use]
    pub fn new(service: ServiceName) -> Self {
        Self {
            service,
            counts: Arc::default(),
        }
    }

    /// Writes to `log` what was counted, until `stop`; then what is left.
    pub async fn run(&self, log: &dyn AuditLog, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(WRITE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    let last = tokio::time::timeout(LAST_WRITE_MAX, self.write(log, |_| true)).await;
                    if last.is_err() {
                        tracing::warn!("some refusals were not written to the audit log: there was no time left");
                    }
                    return;
                }
                _ = ticks.tick() => {
                    let now = Instant::now();
                    self.write(log, |due| due <= now).await;
                }
            }
        }
    }

    async fn write(&self, log: &dyn AuditLog, is_due: impl Fn(Instant) -> bool) {
        for entry in self.take(is_due) {
            if let Err(failure) = log.refused(&entry).await {
                metrics::counter!("rowhouse_refusals_lost_total").increment(1);
                let cause = failure.cause().unwrap_or_default();
                let (actor, action) = (entry.actor, entry.action);
                tracing::warn!(%failure, cause, actor, action, "a refusal was not written to the audit log");
            }
        }
    }

    /// The entries that are due; forgets what has not happened again for a window.
    fn take(&self, is_due: impl Fn(Instant) -> bool) -> Vec<Entry> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = &mut *counts;
        let mut entries = Vec::new();
        counts.refusals.retain(|key, count| {
            if !is_due(count.due) {
                return true;
            }
            if count.waiting == 0 {
                if let Some(held) = counts.tenants.get_mut(&key.tenant) {
                    *held = held.saturating_sub(1);
                }
                if let Some(held) = counts.addresses.get_mut(&key.without_address()) {
                    *held = held.saturating_sub(usize::from(key.address.is_some()));
                }
                return false;
            }
            entries.push(key.entry(self.service, count));
            count.waiting = 0;
            count.due = Instant::now() + WINDOW;
            true
        });
        counts.tenants.retain(|_, held| *held > 0);
        counts.addresses.retain(|_, held| *held > 0);
        entries
    }
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusals")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

impl RefusalLog for Refusals {
    fn refused(&self, refusal: Refusal) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.add(refusal);
    }
}

// === impl Counts ===

impl Counts {
    fn add(&mut self, refusal: Refusal) {
        let mut key = Key::of(&refusal);
        let anywhere = key.without_address();
        if !self.refusals.contains_key(&key) && self.addresses.get(&anywhere).is_some_and(|held| *held >= ADDRESSES_MAX)
        {
            key = anywhere.clone();
        }
        let (key, is_new) = match self.refusals.contains_key(&key) {
            true => (key, false),
            false if self.has_room(key.tenant) => (key, true),
            false => {
                let others = key.others();
                let is_new = !self.refusals.contains_key(&others);
                (others, is_new)
            }
        };
        if is_new {
            *self.tenants.entry(key.tenant).or_default() += 1;
            if key.address.is_some() {
                *self.addresses.entry(anywhere).or_default() += 1;
            }
        }
        let count = self.refusals.entry(key).or_insert_with(|| Count {
            ctx: refusal.ctx.clone(),
            waiting: 0,
            due: Instant::now(),
        });
        if count.waiting == 0 {
            count.ctx = refusal.ctx;
        }
        count.waiting += 1;
    }

    fn has_room(&self, tenant: Option<TenantId>) -> bool {
        let held = self.tenants.get(&tenant).copied().unwrap_or(0);
        held < PER_TENANT_MAX && self.refusals.len() < TOTAL_MAX
    }
}

// === impl Key ===

impl Key {
    fn of(refusal: &Refusal) -> Self {
        let own = match refusal.ctx.principal() {
            Principal::Member { tenant, .. } | Principal::Impersonated { tenant, .. } => Some(*tenant),
            _ => None,
        };
        let is_known = !matches!(refusal.ctx.principal(), Principal::Anonymous);
        Self {
            tenant: refusal.ctx.tenant_opt().or(own),
            actor: refusal.ctx.principal().actor(),
            on_behalf_of: refusal.ctx.principal().on_behalf_of(),
            rpc: refusal.rpc.to_owned(),
            reason: refusal.reason,
            permission: refusal.permission.clone(),
            target: refusal.target.clone(),
            address: refusal.ctx.address().filter(|_| !is_known).map(str::to_owned),
        }
    }

    /// The same from whichever address.
    fn without_address(&self) -> Self {
        Self {
            address: None,
            ..self.clone()
        }
    }

    /// What is counted together where the tenant has no room for more.
    fn others(self) -> Self {
        Self {
            actor: "several".to_owned(),
            on_behalf_of: None,
            rpc: OTHERS.to_owned(),
            reason: "SEVERAL",
            permission: None,
            target: String::new(),
            address: None,
            ..self
        }
    }

    fn entry(&self, service: ServiceName, count: &Count) -> Entry {
        let after = json!({ "reason": self.reason, "permission": self.permission, "times": count.waiting });
        Entry {
            tenant: self.tenant,
            actor: self.actor.clone(),
            on_behalf_of: self.on_behalf_of.clone(),
            after: Some(after),
            outcome: REFUSED.to_owned(),
            ..Entry::done(service, &count.ctx, &self.rpc, &self.target)
        }
    }
}

#[cfg(test)]
mod tests {
    use rowhouse_context::RequestId;
    use rowhouse_types::{SessionId, UserId};

    use super::*;

    fn refusal(tenant: TenantId, rpc: &'static str) -> Refusal {
        let principal = Principal::Member {
            user: UserId::from_uuid(uuid::Uuid::nil()),
            session: SessionId::generate(),
            tenant,
        };
        Refusal {
            ctx: Ctx::new(RequestId::generate(), principal, Some(tenant), Instant::now()),
            rpc,
            reason: "PERMISSION_MISSING",
            permission: Some("contacts:delete".to_owned()),
            target: String::new(),
        }
    }

    fn times(entries: &[Entry]) -> Vec<(String, u64)> {
        let mut times: Vec<(String, u64)> = entries
            .iter()
            .map(|entry| {
                let after = entry.after.as_ref().unwrap();
                (entry.action.clone(), after["times"].as_u64().unwrap())
            })
            .collect();
        times.sort();
        times
    }

    #[test]
    fn the_first_is_written_at_once_and_what_repeats_as_a_number() {
        let refusals = Refusals::new(ServiceName::Crm);
        let tenant = TenantId::generate();
        let now = Instant::now();
        refusals.refused(refusal(tenant, "A/B"));
        let first = refusals.take(|due| due <= now + Duration::from_millis(100));
        assert_eq!(times(&first), [("A/B".to_owned(), 1)]);
        assert_eq!((first[0].outcome.as_str(), first[0].tenant), (REFUSED, Some(tenant)));
        for _ in 0..500 {
            refusals.refused(refusal(tenant, "A/B"));
        }
        assert_eq!(refusals.take(|due| due <= now + WINDOW / 2), []);
        assert_eq!(times(&refusals.take(|_| true)), [("A/B".to_owned(), 500)]);
        assert_eq!(refusals.take(|_| true), [], "and then it is forgotten");
        assert!(refusals.counts.lock().unwrap().refusals.is_empty());
    }

    #[test]
    fn one_tenants_flood_is_bounded_and_leaves_room_for_its_neighbour() {
        const RPCS: [&str; 3] = ["A/B", "A/C", "A/D"];
        let refusals = Refusals::new(ServiceName::Crm);
        let (flood, neighbour) = (TenantId::generate(), TenantId::generate());
        for at in 0..PER_TENANT_MAX * 3 {
            let mut one = refusal(flood, RPCS[at % 3]);
            one.permission = Some(format!("p{at}"));
            refusals.refused(one);
        }
        refusals.refused(refusal(neighbour, "A/B"));
        let entries = refusals.take(|_| true);
        let of = |tenant| entries.iter().filter(move |entry| entry.tenant == Some(tenant));
        assert_eq!((of(flood).count(), of(neighbour).count()), (PER_TENANT_MAX + 1, 1));
        let others: Vec<Entry> = of(flood).filter(|entry| entry.action == OTHERS).cloned().collect();
        let beyond = u64::try_from(PER_TENANT_MAX * 2).unwrap();
        assert_eq!(times(&others), [(OTHERS.to_owned(), beyond)]);
    }

    #[test]
    fn many_machines_at_one_account_do_not_hide_what_else_is_refused() {
        let refusals = Refusals::new(ServiceName::Auth);
        let tenant = TenantId::generate();
        let attempt = |target: &str, address: String| Refusal {
            ctx: Ctx::new(
                RequestId::generate(),
                Principal::Anonymous,
                Some(tenant),
                Instant::now(),
            )
            .with_origin(None, Some(address)),
            rpc: "A/Login",
            reason: "LOGIN_FAILED",
            permission: None,
            target: target.to_owned(),
        };
        for at in 0..500 {
            refusals.refused(attempt("user_one", format!("192.0.2.{at}")));
        }
        refusals.refused(attempt("user_two", "192.0.2.1".to_owned()));
        let entries = refusals.take(|_| true);
        let of = |target: &'static str| entries.iter().filter(move |entry| entry.target == target);
        assert_eq!((of("user_one").count(), of("user_two").count()), (ADDRESSES_MAX + 1, 1));
        assert!(entries.iter().all(|entry| entry.action != OTHERS));
        let all: u64 = times(&entries).into_iter().map(|(_, times)| times).sum();
        assert_eq!(all, 501);
        refusals.take(|_| true);
        assert!(
            refusals.counts.lock().unwrap().addresses.is_empty(),
            "and then it is forgotten"
        );
    }
}
