//! How Redis is while rights are taken. It only saves work, so nothing may depend on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use rowhouse_devkit::fixture;
use rowhouse_devkit::gate::{Flow, Gate};
use rowhouse_devkit::suite::{Options, Process};
use rowhouse_devkit::torture::{Dice, Torture};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::support::own_redis::OwnRedis;
use crate::support::redis::Keys;
use crate::support::world::World;

/// Longest pause between two flushes: shorter than any revocation takes.
const FLUSHED_EVERY: Duration = Duration::from_millis(5);

/// How late a slow Redis is in each direction: a new connection's first answer still comes within what the cache waits for
/// (200 ms).
const LATE: Duration = Duration::from_millis(20);

/// How Redis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redis {
    Up,
    /// Nothing listens there.
    Away,
    /// All keys are removed, again and again.
    Flushed,
    /// Crm alone gets slow answers, and at every other revocation none until it has been acknowledged; then what was asked and
    /// written before it comes after all. The others share what they know by the same Redis.
    Hung,
    /// All services get such answers, auth too.
    HungForAll,
    /// From each revocation until it has been acknowledged nothing can be written: what is there of the old rights stays.
    Full,
}

/// What keeps Redis so.
pub(super) struct Trouble {
    redis: Redis,
    gate: Option<Gate>,
    flusher: Option<Flusher>,
    own: Option<OwnRedis>,
    /// Revocations so far, from a random parity on.
    turn: AtomicUsize,
}

struct Flusher {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<usize>>,
}

// === impl Redis ===

impl Redis {
    /// The test, among those of T13.
    pub(super) fn test(self) -> &'static str {
        match self {
            Self::Up => "revocations",
            Self::Away => "revocations without Redis",
            Self::Flushed => "revocations with Redis flushed",
            Self::Hung => "revocations with Redis hung",
            Self::HungForAll => "revocations with Redis hung for all",
            Self::Full => "revocations with Redis full",
        }
    }

    fn suite(self) -> &'static str {
        match self {
            Self::Up => "t13",
            Self::Away => "t13-no-redis",
            Self::Flushed => "t13-flushed",
            Self::Hung => "t13-hung",
            Self::HungForAll => "t13-hung-for-all",
            Self::Full => "t13-full",
        }
    }

    /// A suite whose Redis is so.
    pub(super) async fn start(self, mut dice: Dice) -> Result<(World, Trouble)> {
        const URL: &str = "ROWHOUSE_REDIS_URL";
        let mut trouble = Trouble {
            redis: self,
            gate: None,
            flusher: None,
            own: None,
            turn: AtomicUsize::new(dice.below(2)),
        };
        let mut environment = Vec::new();
        match self {
            // Port 1 refuses.
            Self::Away => environment.push((None, URL.to_owned(), "redis://127.0.0.1:1/".to_owned())),
            Self::Hung | Self::HungForAll => {
                let gate = Gate::before(&fixture::servers()?.redis_url()).await?;
                gate.set(Flow::Slow(LATE));
                let whose = (self == Self::Hung).then_some(Process::Crm);
                environment.push((whose, URL.to_owned(), gate.url().to_owned()));
                trouble.gate = Some(gate);
            }
            Self::Full => {
                let own = OwnRedis::start().await?;
                environment.push((None, URL.to_owned(), own.url().to_owned()));
                trouble.own = Some(own);
            }
            Self::Up | Self::Flushed => {}
        }
        let options = Options {
            environment,
            ..Options::default()
        };
        let world = World::start_with(self.suite(), options).await?;
        if self == Self::Flushed {
            trouble.flusher = Some(Flusher::start(Keys::of(&world.suite).await?));
        }
        Ok((world, trouble))
    }
}

// === impl Trouble ===

impl Trouble {
    /// Rights are about to be taken.
    pub(super) async fn begin(&self) -> Result<()> {
        if let Some(own) = &self.own {
            own.set_full(true).await?;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if let Some(gate) = &self.gate
            && turn.is_multiple_of(2)
        {
            gate.set(Flow::Held);
        }
        Ok(())
    }

    /// That they were was acknowledged.
    pub(super) async fn end(&self) -> Result<()> {
        if let Some(gate) = &self.gate {
            gate.set(Flow::Slow(LATE));
        }
        if let Some(own) = &self.own {
            own.set_full(false).await?;
        }
        Ok(())
    }

    /// Ends it, and makes sure that there was some: trouble that did not happen proves nothing.
    pub(super) async fn finish(self, torture: &mut Torture) -> Result<()> {
        if let Some(flusher) = self.flusher {
            let flushed = flusher.finish().await?;
            torture.count("keys flushed", flushed);
            ensure!(flushed > 0, "{:?}: there was nothing to flush", self.redis);
        }
        if let Some(own) = self.own {
            let refused = own.refused().await?;
            torture.count("writes refused", refused);
            ensure!(refused > 0, "{:?}: nothing was written while it was full", self.redis);
        }
        if let Some(gate) = self.gate {
            torture.count("pieces late", gate.passed());
            torture.count("pieces held", gate.held());
            ensure!(
                gate.held() > 0 && gate.passed() > gate.held(),
                "{:?}: {} held of {}",
                self.redis,
                gate.held(),
                gate.passed()
            );
        }
        Ok(())
    }
}

// === impl Flusher ===

impl Flusher {
    fn start(mut keys: Keys) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(FLUSHED_EVERY);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut flushed = 0;
            while !told.load(Ordering::Relaxed) {
                pace.tick().await;
                flushed += keys.flush().await?;
            }
            Ok(flushed)
        });
        Self { stop, task }
    }

    /// How many keys it has removed.
    async fn finish(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}
