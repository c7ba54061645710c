//! What was refused, and that operators were let into a tenant, written in transactions of its own: the first time at once, again
//! and again as a number.
//!
//! Whoever is refused a thousand times a second must not fill a log by it, so what repeats within a minute is one entry
//! with how often it happened, and a tenant has a bounded number of different ones in a minute; what is beyond is one
//! entry too. Nothing waits for an entry to be written: what a process had not written when it was killed is lost.
//!
//! An operator who is let in is one entry for each reason and minute, whatever they call: it says who, why, and what they called
//! first.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use rowhouse_context::{Ctx, Principal, ServiceName};
use rowhouse_middleware::{Access, Refusal, RefusalLog};
use rowhouse_types::TenantId;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::entry::Entry;
use crate::log::AuditLog;

/// How often what was counted is written.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// Longest time to write what is left at the end.
const LAST_WRITE_MAX: Duration = Duration::from_secs(5);

/// Tenants whose entries are written at once: each may wait for its home.
const WRITTEN_AT_ONCE: usize = 4;

/// How long the same is counted into one entry.
const WINDOW: Duration = Duration::from_secs(60);

/// Different refusals of one tenant in a window, and of all tenants in a process; and different accesses.
const PER_TENANT_MAX: usize = 100;
const TOTAL_MAX: usize = 5_000;

/// Addresses of one refusal that are told apart; who comes from more than that is counted together, so that many machines which
/// guess at one account do not take the room of all that is told about the tenant.
const ADDRESSES_MAX: usize = 10;

/// What stands for the RPC in an entry about all that is beyond the bound.
const OTHERS: &str = "*";

/// What stands there for whom that was refused, and for why an operator was let in.
const SEVERAL: &str = "several";

/// The outcome of a refusal.
const REFUSED: &str = "refused";

/// The action of an operator who was let in.
const ACCESS: &str = "operator.access";

/// Counts refusals and accesses of operators, and writes them when [`run`](Self::run).
#[derive(Clone)]
pub struct Refusals {
    service: ServiceName,
    refused: Arc<Mutex<Counts>>,
    /// With room of its own: a flood of refusals must not hide who was let in meanwhile.
    let_in: Arc<Mutex<Counts>>,
}

#[derive(Default)]
struct Counts {
    known: HashMap<Key, Count>,
    /// How many addresses are told apart, by the key without one.
    addresses: HashMap<Key, usize>,
    tenants: HashMap<Option<TenantId>, usize>,
}

/// What makes two of them the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    tenant: Option<TenantId>,
    actor: String,
    on_behalf_of: Option<String>,
    what: What,
    /// Of somebody who is not known otherwise.
    address: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum What {
    Refused {
        rpc: &'static str,
        reason: &'static str,
        permission: Option<String>,
        target: String,
    },
    LetIn {
        /// Absent where it stands for several.
        why: Option<String>,
    },
}

struct Count {
    /// Of the first that is not written.
    ctx: Ctx,
    rpc: &'static str,
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
            refused: Arc::default(),
            let_in: Arc::default(),
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
                        tracing::warn!("some entries were not written to the audit log: there was no time left");
                    }
                    return;
                }
                _ = ticks.tick() => {}
            }
            let now = Instant::now();
            let too_late = async {
                stop.cancelled().await;
                tokio::time::sleep(LAST_WRITE_MAX).await;
            };
            tokio::select! {
                () = self.write(log, |due| due <= now) => {}
                () = too_late => tracing::warn!("some entries were not written to the audit log: there was no time left"),
            }
        }
    }

    /// A tenant's one after the other, and those of some at once: a home that cannot be entered now keeps few others waiting.
    async fn write(&self, log: &dyn AuditLog, is_due: impl Fn(Instant) -> bool) {
        let mut tenants: HashMap<Option<TenantId>, Vec<Entry>> = HashMap::new();
        for entry in self.take(is_due) {
            tenants.entry(entry.tenant).or_default().push(entry);
        }
        let left = Left(tenants.values().map(Vec::len).sum::<usize>().into());
        let written = stream::iter(tenants.into_values()).for_each_concurrent(WRITTEN_AT_ONCE, async |entries| {
            for entry in entries {
                let noted = log.note(&entry).await;
                left.0.fetch_sub(1, Ordering::Relaxed);
                if let Err(failure) = noted {
                    lost(1);
                    let cause = failure.cause().unwrap_or_default();
                    let (actor, action) = (entry.actor, entry.action);
                    tracing::warn!(%failure, cause, actor, action, "an entry was not written to the audit log");
                }
            }
        });
        written.await;
    }

    /// The entries that are due; forgets what has not happened again for a window.
    fn take(&self, is_due: impl Fn(Instant) -> bool) -> Vec<Entry> {
        let mut entries = lock(&self.let_in).take(self.service, &is_due);
        entries.extend(lock(&self.refused).take(self.service, &is_due));
        entries
    }
}

/// Entries that are still to be written: lost where they are given up.
struct Left(AtomicUsize);

impl Drop for Left {
    fn drop(&mut self) {
        lost(*self.0.get_mut());
    }
}

fn lost(entries: usize) {
    if entries > 0 {
        metrics::counter!("rowhouse_refusals_lost_total").increment(entries as u64);
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
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
        let what = What::Refused {
            rpc: refusal.rpc,
            reason: refusal.reason,
            permission: refusal.permission,
            target: refusal.target,
        };
        lock(&self.refused).add(Key::of(&refusal.ctx, what), refusal.ctx, refusal.rpc);
    }

    fn let_in(&self, access: Access) {
        let why = access.ctx.reason().map(str::to_owned);
        let key = Key::of(&access.ctx, What::LetIn { why });
        lock(&self.let_in).add(key, access.ctx, access.rpc);
    }
}

// === impl Counts ===

impl Counts {
    fn add(&mut self, mut key: Key, ctx: Ctx, rpc: &'static str) {
        let anywhere = key.without_address();
        if !self.known.contains_key(&key) && self.addresses.get(&anywhere).is_some_and(|held| *held >= ADDRESSES_MAX) {
            key = anywhere.clone();
        }
        let (key, is_new) = match self.known.contains_key(&key) {
            true => (key, false),
            false if self.has_room(key.tenant) => (key, true),
            false => {
                let others = key.others();
                let is_new = !self.known.contains_key(&others);
                (others, is_new)
            }
        };
        if is_new {
            *self.tenants.entry(key.tenant).or_default() += 1;
            if key.address.is_some() {
                *self.addresses.entry(anywhere).or_default() += 1;
            }
        }
        let count = self.known.entry(key).or_insert_with(|| Count {
            ctx: ctx.clone(),
            rpc,
            waiting: 0,
            due: Instant::now(),
        });
        if count.waiting == 0 {
            (count.ctx, count.rpc) = (ctx, rpc);
        }
        count.waiting += 1;
    }

    fn take(&mut self, service: ServiceName, is_due: impl Fn(Instant) -> bool) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.known.retain(|key, count| {
            if !is_due(count.due) {
                return true;
            }
            if count.waiting == 0 {
                if let Some(held) = self.tenants.get_mut(&key.tenant) {
                    *held = held.saturating_sub(1);
                }
                if let Some(held) = self.addresses.get_mut(&key.without_address()) {
                    *held = held.saturating_sub(usize::from(key.address.is_some()));
                }
                return false;
            }
            entries.push(key.entry(service, count));
            count.waiting = 0;
            count.due = Instant::now() + WINDOW;
            true
        });
        self.tenants.retain(|_, held| *held > 0);
        self.addresses.retain(|_, held| *held > 0);
        entries
    }

    fn has_room(&self, tenant: Option<TenantId>) -> bool {
        let held = self.tenants.get(&tenant).copied().unwrap_or(0);
        held < PER_TENANT_MAX && self.known.len() < TOTAL_MAX
    }
}

// === impl Key ===

impl Key {
    fn of(ctx: &Ctx, what: What) -> Self {
        let own = match ctx.principal() {
            Principal::Member { tenant, .. } | Principal::Impersonated { tenant, .. } => Some(*tenant),
            _ => None,
        };
        let is_known = !matches!(ctx.principal(), Principal::Anonymous);
        Self {
            tenant: ctx.tenant_opt().or(own),
            actor: ctx.principal().actor(),
            on_behalf_of: ctx.principal().on_behalf_of(),
            what,
            address: ctx.address().filter(|_| !is_known).map(str::to_owned),
        }
    }

    /// The same from whichever address.
    fn without_address(&self) -> Self {
        Self {
            address: None,
            ..self.clone()
        }
    }

    /// What is counted together where the tenant has no room for more. An operator who was let in stays named.
    fn others(self) -> Self {
        match self.what {
            What::Refused { .. } => Self {
                actor: SEVERAL.to_owned(),
                on_behalf_of: None,
                what: What::Refused {
                    rpc: OTHERS,
                    reason: "SEVERAL",
                    permission: None,
                    target: String::new(),
                },
                address: None,
                ..self
            },
            What::LetIn { .. } => Self {
                what: What::LetIn { why: None },
                ..self
            },
        }
    }

    fn entry(&self, service: ServiceName, count: &Count) -> Entry {
        let entry = Entry {
            tenant: self.tenant,
            actor: self.actor.clone(),
            on_behalf_of: self.on_behalf_of.clone(),
            ..Entry::done(service, &count.ctx, ACCESS, "")
        };
        let times = count.waiting;
        match &self.what {
            What::Refused {
                rpc,
                reason,
                permission,
                target,
            } => Entry {
                action: (*rpc).to_owned(),
                target: target.clone(),
                after: Some(json!({ "reason": reason, "permission": permission, "times": times })),
                outcome: REFUSED.to_owned(),
                ..entry
            },
            What::LetIn { why: Some(why) } => Entry {
                after: Some(json!({ "rpc": count.rpc, "times": times })),
                reason: Some(why.clone()),
                ..entry
            },
            What::LetIn { why: None } => Entry {
                after: Some(json!({ "rpc": count.rpc, "times": times, "first_reason": count.ctx.reason() })),
                reason: Some(SEVERAL.to_owned()),
                ..entry
            },
        }
    }
}

#[cfg(test)]
mod tests;
