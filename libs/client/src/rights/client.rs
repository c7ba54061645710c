//! Rights as asked of auth, and cached only under a lease.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use moka::future::Cache as Memory;
use rowhouse_cache::Cache;
use rowhouse_context::{Ctx, ServiceName};
use rowhouse_proto::auth::v1::RenewLeaseRequest;
use rowhouse_types::UserId;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::outage::Outage;
use crate::peer::Peer;
use crate::request::own_ctx;
use crate::rights::authority::{RemoteAuth, RightsAuthority};
use crate::rights::entry::{self, StoredRights};
use crate::rights::ledger::{Ledger, Now, Renewal};
use crate::rights::{Rights, RightsError, RightsQuery, RightsSource};

/// How long a renewal waits at auth for a change, in milliseconds. A quarter of the lease: three renewals may fail
/// before it runs out.
const RENEW_WAIT_MS: i32 = 500;

/// Longest time for a renewal, the wait included.
const RENEW_MAX: Duration = Duration::from_millis(1_500);

/// Pause after a renewal that failed, and shortest time between two that brought nothing.
const RENEW_PAUSE: Duration = Duration::from_millis(100);

/// Longest time for a question about rights: a hung auth must not hold calls until their deadlines.
const ASK_MAX: Duration = Duration::from_secs(5);

/// Bytes of rights kept in memory: 30,000 entries of those who lead no teams.
const MEMORY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Bytes of an entry, and what each of the people adds whose records it reaches.
const ENTRY_BYTES: usize = 500;
const PERSON_BYTES: usize = size_of::<UserId>();

/// How long unused rights stay in memory and all rights in Redis. Whether they may be used is decided by versions; this
/// only frees the space.
const KEPT: Duration = Duration::from_secs(300);

/// What a principal may do, as auth says: the holder's side of the lease protocol.
///
/// While the lease lives, rights come from memory; with a live lease and nothing in memory, from Redis where that entry
/// is new enough, else from auth. Without a lease every call asks auth, and where auth does not answer the call is
/// refused.
///
/// [`RightsClient::run`] must run beside it; without it every call asks auth. Cheap to clone.
#[derive(Clone)]
pub struct RightsClient {
    inner: Arc<Inner>,
}

struct Inner {
    auth: Arc<dyn RightsAuthority>,
    own_name: ServiceName,
    /// Names this process to auth; another one after a restart, whose lease is another.
    instance_id: String,
    ledger: Mutex<Ledger>,
    /// Renewals that auth did not answer.
    unrenewed: Outage,
    /// Answers with an older version than one before.
    set_back: Outage,
    memory: Memory<RightsQuery, Arc<Rights>>,
    cache: Option<Cache>,
    now: fn() -> Now,
}

// === impl RightsClient ===

impl RightsClient {
    /// A client of `auth`. `cache`: Redis, which only saves refills.
    #[must_use]
    pub fn new(auth: &Peer, cache: Cache) -> Self {
        Self::with_clock(auth.own_name(), Arc::new(RemoteAuth::new(auth)), Some(cache), Now::read)
    }

    /// Of auth itself. What others have written into Redis it does not take for the rights of its own callers: it would only
    /// save one statement, and whoever has Redis would be anybody here.
    #[must_use]
    pub fn of_auth(auth: Arc<dyn RightsAuthority>) -> Self {
        Self::with_clock(ServiceName::Auth, auth, None, Now::read)
    }

    fn with_clock(
        own_name: ServiceName,
        auth: Arc<dyn RightsAuthority>,
        cache: Option<Cache>,
        now: fn() -> Now,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                auth,
                own_name,
                instance_id: Uuid::new_v4().to_string(),
                ledger: Mutex::default(),
                unrenewed: Outage::new("rights_renewals_failed_total"),
                set_back: Outage::new("rights_renewals_failed_total"),
                memory: Memory::builder()
                    .max_capacity(MEMORY_BYTES_MAX)
                    .weigher(|_, rights: &Arc<Rights>| weight(rights))
                    .time_to_idle(KEPT)
                    .build(),
                cache,
                now,
            }),
        }
    }

    /// Holds the lease until `stop` is cancelled.
    pub async fn run(&self, stop: CancellationToken) {
        let mut wait_ms = 0;
        loop {
            let asked = tokio::time::Instant::now();
            let renewal = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                renewal = self.inner.renew(wait_ms) => renewal,
            };
            wait_ms = RENEW_WAIT_MS;
            metrics::gauge!("rights_lease_live").set(if self.has_lease() { 1.0 } else { 0.0 });
            if renewal == Some(Renewal::Changed) {
                // Auth holds back the acknowledgement of the change until this is confirmed.
                continue;
            }
            let pause_from = if renewal.is_some() {
                asked
            } else {
                tokio::time::Instant::now()
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(pause_from + RENEW_PAUSE) => {}
            }
        }
    }

    /// Whether this process may use cached rights now.
    #[must_use]
    pub fn has_lease(&self) -> bool {
        self.inner.ledger().is_live((self.inner.now)())
    }
}

#[async_trait]
impl RightsSource for RightsClient {
    async fn rights(&self, ctx: &Ctx, query: &RightsQuery) -> Result<Arc<Rights>, RightsError> {
        self.inner.rights(ctx, query).await
    }
}

impl fmt::Debug for RightsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RightsClient")
            .field("instance_id", &self.inner.instance_id)
            .finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    async fn rights(&self, ctx: &Ctx, query: &RightsQuery) -> Result<Arc<Rights>, RightsError> {
        if !self.ledger().is_live((self.now)()) {
            return self.ask(ctx, query, "no_lease").await;
        }
        if let Some(known) = self.memory.get(query).await {
            if self.may_use(query, &known) {
                return Ok(known);
            }
            self.memory.invalidate(query).await;
        }
        // Callers who miss together share one refill. It may have begun before a change that was acknowledged before
        // this call: then its version is too old, and this call asks for itself.
        let shared = self.memory.try_get_with(*query, self.refill(ctx, query));
        match tokio::time::timeout_at(ctx.deadline(), shared).await {
            Ok(Ok(known)) if self.may_use(query, &known) => Ok(known),
            Ok(Ok(_)) => {
                let rights = self.ask(ctx, query, "stale").await?;
                self.memory.insert(*query, rights.clone()).await;
                Ok(rights)
            }
            // The deadline may have been that of whoever began the refill.
            Ok(Err(error)) if *error == RightsError::DeadlineExceeded => self.ask(ctx, query, "late").await,
            Ok(Err(error)) => Err(RightsError::clone(&error)),
            Err(_) => Err(RightsError::DeadlineExceeded),
        }
    }

    /// Rights from Redis, if they may be used, else from auth.
    async fn refill(&self, ctx: &Ctx, query: &RightsQuery) -> Result<Arc<Rights>, RightsError> {
        let Some(cache) = &self.cache else {
            return self.ask(ctx, query, "miss").await;
        };
        let key = entry::key(query);
        let stored = cache.get::<StoredRights>(&key).await;
        if let Some(rights) = stored.and_then(|stored| stored.open(query))
            && self.may_use(query, &rights)
        {
            return Ok(Arc::new(rights));
        }
        let rights = self.ask(ctx, query, "miss").await?;
        cache.set(&key, &StoredRights::new(query, &rights), KEPT).await;
        Ok(rights)
    }

    async fn ask(&self, ctx: &Ctx, query: &RightsQuery, why: &'static str) -> Result<Arc<Rights>, RightsError> {
        metrics::counter!("rights_asked_total", "why" => why).increment(1);
        let asked = self.auth.rights(ctx, query);
        match tokio::time::timeout(ASK_MAX.min(ctx.time_left()), asked).await {
            Ok(answer) => answer,
            Err(_) if ctx.time_left().is_zero() => Err(RightsError::DeadlineExceeded),
            Err(_) => Err(RightsError::Unavailable("auth did not answer in time".to_owned())),
        }
    }

    /// One renewal of the lease; `None` where auth did not answer.
    async fn renew(&self, wait_ms: i32) -> Option<Renewal> {
        let message = RenewLeaseRequest {
            instance_id: self.instance_id.clone(),
            confirmed_version: self.ledger().confirmed(),
            wait_ms,
        };
        let ctx = own_ctx(self.own_name, RENEW_MAX);
        // Read before the question is sent: auth counts from when it arrives, which is later.
        let asked = (self.now)();
        let answer = tokio::time::timeout(RENEW_MAX, self.auth.renew_lease(&ctx, message)).await;
        match answer {
            Ok(Ok(answer)) => {
                let renewal = self.ledger().record(asked, &answer);
                self.note_answer(renewal);
                Some(renewal)
            }
            Ok(Err(error)) => {
                if self.unrenewed.begins("refused") {
                    tracing::warn!(cause = %error, "the lease of the rights is not renewed; calls will ask auth");
                }
                None
            }
            Err(_) => {
                if self.unrenewed.begins("late") {
                    tracing::warn!("the lease of the rights is not renewed in time; calls will ask auth");
                }
                None
            }
        }
    }

    fn note_answer(&self, renewal: Renewal) {
        if self.unrenewed.ends() {
            tracing::info!("auth answers renewals of the lease of the rights again");
        }
        if renewal == Renewal::SetBack {
            if self.set_back.begins("set_back") {
                tracing::error!("auth's version of the rights went back; every call asks auth until it has passed");
            }
        } else if self.set_back.ends() {
            tracing::info!("auth's version of the rights has passed the one that was known");
        }
    }

    fn may_use(&self, query: &RightsQuery, rights: &Rights) -> bool {
        self.ledger().may_use((self.now)(), query, rights.version)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that an entry takes.
fn weight(rights: &Rights) -> u32 {
    let people = rights.team.iter().len().saturating_mul(PERSON_BYTES);
    u32::try_from(ENTRY_BYTES.saturating_add(people)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
