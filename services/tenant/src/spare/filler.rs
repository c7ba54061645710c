//! Keeps each stock full, and what is ready in it current, in every process of the service: the lines in the database say who
//! builds what, and when what is ready is looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use metrics::{counter, gauge};
use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_status::{Failure, Reason};
use rowhouse_types::{ServerName, TenantId};
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Refill, Spare, Stock, Wanted, store};
use crate::error::Result;
use crate::operation::pause;
use crate::operation::peers::Peers;
use crate::server;

/// How often to look: for what another process has taken, left behind or put off. What this one takes wakes it at once.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often to look which servers take new tenants: one that is registered gets its spares that much later.
const SERVERS_EVERY: Duration = Duration::from_secs(5);

/// Spares of one stock that one process builds at once. A participant bounds what it builds by itself; one such build is
/// enough to keep it from idling between two of ours.
const BUILT_AT_ONCE: usize = 2;

/// How long no sign-up may have come before a stock is filled of which half is ready: building takes the machine that they
/// need, and they have what they need meanwhile.
const QUIET: Duration = Duration::from_millis(200);

/// Longest wait for the participants; below the lease.
const BUILD_MAX: Duration = Duration::from_secs(20);

/// Keeps stocks full.
#[derive(Clone, Debug)]
pub(crate) struct Filler {
    pool: PgPool,
    peers: Peers,
    refill: Refill,
    wanted: Wanted,
}

// === impl Filler ===

impl Filler {
    pub(crate) fn new(pool: PgPool, peers: Peers, refill: Refill, wanted: Wanted) -> Self {
        Self {
            pool,
            peers,
            refill,
            wanted,
        }
    }

    /// Works until `stop`. Each stock for itself: a server that is away keeps no other from being filled.
    pub(crate) async fn run(self, stop: CancellationToken) {
        if self.wanted.each().next().is_none() {
            return;
        }
        let mut kept: BTreeMap<(ServerName, &str), CancellationToken> = BTreeMap::new();
        let tasks = TaskTracker::new();
        let mut ticks = interval(SERVERS_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let Ok(stocks) = self.stocks().await else {
                // `keep_full` says that the database is away; what is known goes on.
                continue;
            };
            kept.retain(|kept, end| {
                let stays = stocks.iter().any(|stock| key(stock) == *kept);
                if !stays {
                    end.cancel();
                }
                stays
            });
            for stock in stocks {
                kept.entry(key(&stock)).or_insert_with(|| {
                    let (filler, end) = (self.clone(), stop.child_token());
                    let until = end.clone();
                    tasks.spawn(async move {
                        tokio::join!(filler.keep_full(&stock, &until), filler.keep_current(&stock, &until));
                    });
                    end
                });
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    /// One for each server that takes new tenants now, and each placement of which it takes them.
    async fn stocks(&self) -> Result<Vec<Stock>> {
        let mut stocks = Vec::new();
        for (placement, wanted) in self.wanted.each() {
            let servers = server::store::taking(&self.pool, placement).await?;
            stocks.extend(servers.into_iter().map(|server| Stock {
                server,
                placement,
                wanted: wanted.into(),
            }));
        }
        Ok(stocks)
    }

    pub(super) async fn keep_full(&self, stock: &Stock, stop: &CancellationToken) {
        let mut taken = self.refill.listen();
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                // No sign-up takes those that are left, and nobody counts them any more.
                () = stop.cancelled() => return show(stock, 0, 0),
                _ = ticks.tick() => {}
                _ = taken.changed() => {}
            }
            let round = async {
                self.let_pass(stock, &mut taken, stop).await?;
                self.round(stock, stop).await
            };
            let round = round.await;
            if let Err(error) = &round
                && !failing
            {
                // Once, not every two seconds for as long as the database is away.
                let placement = stock.placement.as_str();
                tracing::warn!(%error, server = %stock.server, placement, "spares cannot be counted");
            }
            failing = round.is_err();
        }
    }

    /// Has spares that are ready brought to the participants' newest versions, until `stop`: migrations have changed since some
    /// were built, and who signs up shall not wait for them. One at a time, so that what is built for want of spares goes on.
    pub(super) async fn keep_current(&self, stock: &Stock, stop: &CancellationToken) {
        let mut taken = self.refill.listen();
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let looked = async {
                // Hardly ever is one: then nobody need wait for a quiet moment.
                if !store::is_one_due(&self.pool, stock).await? {
                    return Ok(());
                }
                self.let_pass(stock, &mut taken, stop).await?;
                self.bring_on_due(stock, stop).await
            };
            // Where the database is away, `keep_full` says so.
            drop(looked.await);
        }
    }

    /// Waits for a quiet moment, unless fewer than half of the stock is ready; at most until `stop`.
    pub(super) async fn let_pass(
        &self,
        stock: &Stock,
        taken: &mut watch::Receiver<()>,
        stop: &CancellationToken,
    ) -> Result<()> {
        loop {
            let count = store::count(&mut *self.pool.acquire().await?, stock).await?;
            let enough = count.ready * 2 >= stock.wanted;
            // Sign-ups on other servers wake this too; however many there are, half of the stock stays.
            if !enough {
                return Ok(());
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                woken = timeout(QUIET, taken.changed()) => if woken.is_err() {
                    return Ok(());
                }
            }
        }
    }

    /// Issues the ids that are missing, and builds until nothing is due or something fails.
    async fn round(&self, stock: &Stock, stop: &CancellationToken) -> Result<()> {
        try_join_all((0..BUILT_AT_ONCE).map(|_| self.build_due(stock, stop))).await?;
        let mut connection = self.pool.acquire().await?;
        let count = store::count(&mut connection, stock).await?;
        show(stock, count.ready, count.building);
        Ok(())
    }

    /// One round of every stock, for tests.
    #[cfg(test)]
    pub(crate) async fn round_once(&self) {
        let stop = CancellationToken::new();
        for stock in &self.stocks().await.unwrap() {
            self.round(stock, &stop).await.unwrap();
        }
    }

    async fn build_due(&self, stock: &Stock, stop: &CancellationToken) -> Result<()> {
        while !stop.is_cancelled() {
            store::top_up(&self.pool, stock).await?;
            let Some(spare) = store::take(&self.pool, stock).await? else {
                break;
            };
            if !self.build(stock, &spare, stop).await? {
                // A participant that is away fails every build: the next round is soon enough for the others.
                break;
            }
        }
        Ok(())
    }

    /// The same for [`Self::keep_current`]: asks for spares that are due until none is, or one is not answered.
    #[cfg(test)]
    pub(crate) async fn look_once(&self) {
        let stop = CancellationToken::new();
        for stock in &self.stocks().await.unwrap() {
            self.bring_on_due(stock, &stop).await.unwrap();
        }
    }

    async fn bring_on_due(&self, stock: &Stock, stop: &CancellationToken) -> Result<()> {
        while !stop.is_cancelled() {
            let Some(tenant) = store::take_ready(&self.pool, stock).await? else {
                break;
            };
            let asked = tokio::select! {
                asked = self.ask(tenant, stock) => asked,
                () = stop.cancelled() => break,
            };
            match asked {
                Ok(()) => {}
                // Somebody has signed up and taken it meanwhile.
                Err(failure) if failure.reason() == Reason::StateForbids => {}
                Err(failure) => {
                    let (reason, cause) = (failure.reason().as_info(), failure.cause().unwrap_or_default());
                    tracing::warn!(%tenant, server = %stock.server, reason, cause, "a spare was not looked at; it will be again");
                    // Who is away fails every call: the next round is soon enough for the others.
                    break;
                }
            }
        }
        Ok(())
    }

    /// Has every participant build the home, or bring on the one that is there.
    async fn ask(&self, tenant: TenantId, stock: &Stock) -> std::result::Result<(), Failure> {
        let principal = Principal::Service {
            name: ServiceName::Tenant,
        };
        let ctx = Ctx::new(RequestId::generate(), principal, None, Instant::now() + BUILD_MAX);
        let asked = timeout(BUILD_MAX, self.peers.prepare_spare(&ctx, tenant, stock)).await;
        let too_late = |_| Failure::new(Reason::DeadlineExceeded, "the spare took too long");
        asked.map_err(too_late).flatten()
    }

    /// Has every participant build the home; false where one could not, or the process stops.
    async fn build(&self, stock: &Stock, spare: &Spare, stop: &CancellationToken) -> Result<bool> {
        let built = tokio::select! {
            built = self.ask(spare.tenant, stock) => built,
            () = stop.cancelled() => {
                store::release(&self.pool, spare).await?;
                return Ok(false);
            }
        };
        let outcome = match built {
            Ok(()) if store::mark_ready(&self.pool, spare).await? => "done",
            Ok(()) => "lost",
            Err(failure) => {
                self.postpone(spare, &failure).await?;
                "failed"
            }
        };
        let (server, placement) = (spare.server.to_string(), spare.placement.as_str());
        counter!("tenant_spare_builds_total", "server" => server, "placement" => placement, "outcome" => outcome)
            .increment(1);
        Ok(outcome != "failed")
    }

    async fn postpone(&self, spare: &Spare, failure: &Failure) -> Result<()> {
        let failures = spare.attempts.saturating_add(1);
        let cause = failure.cause().unwrap_or_default();
        tracing::warn!(
            tenant = %spare.tenant,
            server = %spare.server,
            failures,
            reason = failure.reason().as_info(),
            cause,
            "a spare was not built; it will be repeated"
        );
        store::postpone(&self.pool, spare, &format!("{failure}; {cause}"), pause(failures)).await
    }
}

/// Says how many spares of a stock a sign-up may take, and how many are to come.
fn show(stock: &Stock, ready: i64, building: i64) {
    for (state, number) in [("ready", ready), ("building", building)] {
        let (server, placement) = (stock.server.to_string(), stock.placement.as_str());
        gauge!("tenant_spares", "server" => server, "placement" => placement, "state" => state).set(number as f64);
    }
}

/// What sets a stock apart.
fn key(stock: &Stock) -> (ServerName, &'static str) {
    (stock.server.clone(), stock.placement.as_str())
}
