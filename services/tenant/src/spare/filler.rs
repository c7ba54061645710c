//! Keeps each stock full, in every process of the service: the lines in the database say who builds what.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use metrics::{counter, gauge};
use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_status::{Failure, Reason};
use rowhouse_types::{Placement, ServerName};
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{Refill, Spare, Stock, store};
use crate::error::Result;
use crate::operation::pause;
use crate::operation::peers::Peers;

/// How often to look: for what another process has taken, left behind or put off. What this one takes wakes it at once.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Spares of one stock that one process builds at once. A participant bounds what it builds by itself; one such build is
/// enough to keep it from idling between two of ours.
const BUILT_AT_ONCE: usize = 2;

/// How long no sign-up may have come before a stock is filled of which half is ready: building takes the machine that they
/// need, and they have what they need meanwhile.
const QUIET: Duration = Duration::from_millis(200);

/// Longest wait for the participants; below the lease.
const BUILD_MAX: Duration = Duration::from_secs(20);

/// Keeps stocks full.
#[derive(Debug)]
pub(crate) struct Filler {
    pool: PgPool,
    peers: Peers,
    refill: Refill,
    stocks: Vec<Stock>,
}

// === impl Filler ===

impl Filler {
    /// `wanted`: spares on each of `servers`; none where it is 0. Only in placement `schema`: in `shared` a home is a line.
    pub(crate) fn new(pool: PgPool, peers: Peers, refill: Refill, servers: &[ServerName], wanted: u16) -> Self {
        let servers = servers.iter().filter(|_| wanted > 0);
        let stocks = servers.map(|server| Stock {
            server: server.clone(),
            placement: Placement::Schema,
            wanted: wanted.into(),
        });
        Self {
            pool,
            peers,
            refill,
            stocks: stocks.collect(),
        }
    }

    /// Works until `stop`. Each stock for itself: a server that is away keeps no other from being filled.
    pub(crate) async fn run(self, stop: CancellationToken) {
        join_all(self.stocks.iter().map(|stock| self.keep_full(stock, &stop))).await;
    }

    async fn keep_full(&self, stock: &Stock, stop: &CancellationToken) {
        let mut taken = self.refill.listen();
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                _ = taken.changed() => {}
            }
            let round = async {
                self.let_pass(stock, &mut taken).await?;
                self.round(stock, stop).await
            };
            let round = round.await;
            if let Err(error) = &round
                && !failing
            {
                // Once, not every two seconds for as long as the database is away.
                tracing::warn!(%error, server = %stock.server, "spares cannot be counted");
            }
            failing = round.is_err();
        }
    }

    /// Waits for a quiet moment, unless fewer than half of the stock is ready.
    async fn let_pass(&self, stock: &Stock, taken: &mut watch::Receiver<()>) -> Result<()> {
        loop {
            let count = store::count(&mut *self.pool.acquire().await?, stock).await?;
            let enough = count.ready * 2 >= stock.wanted;
            // Sign-ups on other servers wake this too; however many there are, half of the stock stays.
            if !enough || timeout(QUIET, taken.changed()).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Issues the ids that are missing, and builds until nothing is due or something fails.
    async fn round(&self, stock: &Stock, stop: &CancellationToken) -> Result<()> {
        try_join_all((0..BUILT_AT_ONCE).map(|_| self.build_due(stock, stop))).await?;
        let mut connection = self.pool.acquire().await?;
        let count = store::count(&mut connection, stock).await?;
        for (state, number) in [("ready", count.ready), ("building", count.building)] {
            let (server, placement) = (stock.server.to_string(), stock.placement.as_str());
            gauge!("tenant_spares", "server" => server, "placement" => placement, "state" => state).set(number as f64);
        }
        Ok(())
    }

    /// One round of every stock, for tests.
    #[cfg(test)]
    pub(crate) async fn round_once(&self) {
        let stop = CancellationToken::new();
        for stock in &self.stocks {
            self.round(stock, &stop).await.unwrap();
        }
    }

    async fn build_due(&self, stock: &Stock, stop: &CancellationToken) -> Result<()> {
        while !stop.is_cancelled() {
            store::top_up(&self.pool, stock).await?;
            let Some(spare) = store::take(&self.pool, stock).await? else {
                break;
            };
            if !self.build(&spare, stop).await? {
                // A participant that is away fails every build: the next round is soon enough for the others.
                break;
            }
        }
        Ok(())
    }

    /// Has every participant build the home; false where one could not, or the process stops.
    async fn build(&self, spare: &Spare, stop: &CancellationToken) -> Result<bool> {
        let principal = Principal::Service {
            name: ServiceName::Tenant,
        };
        let ctx = Ctx::new(RequestId::generate(), principal, None, Instant::now() + BUILD_MAX);
        let built = tokio::select! {
            built = timeout(BUILD_MAX, self.peers.prepare_spare(&ctx, spare)) => built,
            () = stop.cancelled() => {
                store::release(&self.pool, spare).await?;
                return Ok(false);
            }
        };
        let too_late = |_| Failure::new(Reason::DeadlineExceeded, "the spare took too long");
        let outcome = match built.map_err(too_late).flatten() {
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
