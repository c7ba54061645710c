//! Whether the process can do its work: named checks, run again and again in the background, so that a probe costs
//! nothing and a dependency that hangs holds up no probe.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Pause between two rounds.
const ROUND_PAUSE: Duration = Duration::from_secs(1);

/// Longest time for one check. Together with the pause, what breaks is noticed within 3 s.
const CHECK_MAX: Duration = Duration::from_secs(2);

/// How long a round counts. Older means that rounds have stopped.
const ROUND_COUNTS: Duration = Duration::from_secs(5);

type CheckFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
type CheckFn = Box<dyn Fn() -> CheckFuture + Send + Sync>;

/// The checks.
#[derive(Default)]
pub(crate) struct Checks {
    checks: Vec<(&'static str, CheckFn)>,
}

/// What the last round found.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    ended: Instant,
    /// By name of the check; the text of a failure is for operators.
    results: BTreeMap<&'static str, Result<(), String>>,
}

/// Reads the readiness of the process. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Readiness {
    /// `None` before the first round.
    round: watch::Receiver<Option<Arc<Round>>>,
    /// A process that stops is not ready, whatever the checks say.
    stop: CancellationToken,
}

// === impl Checks ===

impl Checks {
    pub(crate) fn add<F, Fut>(&mut self, name: &'static str, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.checks.push((name, Box::new(move || Box::pin(check()))));
    }

    /// Runs rounds until it is dropped. `publish`: where to tell what they found.
    pub(crate) async fn run(&self, publish: &watch::Sender<Option<Arc<Round>>>) {
        loop {
            let round = self.round().await;
            let before = publish.borrow().as_ref().map(|last| last.is_good());
            if before != Some(round.is_good()) {
                tracing::info!(ready = round.is_good(), failed = ?round.failed(), "readiness changed");
            }
            publish.send_replace(Some(Arc::new(round)));
            sleep(ROUND_PAUSE).await;
        }
    }

    async fn round(&self) -> Round {
        let checks = self.checks.iter().map(|(name, check)| async move {
            let result = timeout(CHECK_MAX, check()).await;
            (
                *name,
                result.unwrap_or_else(|_| Err("did not answer in time".to_owned())),
            )
        });
        Round {
            results: join_all(checks).await.into_iter().collect(),
            ended: Instant::now(),
        }
    }
}

// === impl Round ===

impl Round {
    fn is_good(&self) -> bool {
        self.results.values().all(Result::is_ok)
    }

    fn failed<'a>(&'a self) -> Vec<(&'static str, &'a str)> {
        let failed =
            |(name, result): (&&'static str, &'a Result<(), String>)| Some((*name, result.as_ref().err()?.as_str()));
        self.results.iter().filter_map(failed).collect()
    }
}

// === impl Readiness ===

impl Readiness {
    /// Readiness that nobody has looked at yet, and the other end. `stop`: cancelled when the process stops.
    pub(crate) fn channel(stop: CancellationToken) -> (watch::Sender<Option<Arc<Round>>>, Self) {
        let (publish, round) = watch::channel(None);
        (publish, Self { round, stop })
    }

    /// Whether every check passed in the last round, that was a moment ago, and the process goes on.
    pub(crate) fn is_ready(&self) -> bool {
        if self.stop.is_cancelled() {
            return false;
        }
        let round = self.round.borrow();
        round
            .as_ref()
            .is_some_and(|round| round.is_good() && round.ended.elapsed() < ROUND_COUNTS)
    }

    /// Names of the checks that failed, for the answer of the probe; why they failed is in the logs.
    pub(crate) fn failed(&self) -> Vec<&'static str> {
        let round = self.round.borrow();
        round
            .as_ref()
            .map(|round| round.failed().into_iter().map(|(name, _)| name).collect())
            .unwrap_or_default()
    }

    /// Waits for the next round, or forever where there will be none.
    pub(crate) async fn changed(&mut self) {
        if self.round.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs one round by a clock that jumps.
    async fn round_of(checks: &Checks) -> Round {
        tokio::time::pause();
        checks.round().await
    }

    #[tokio::test]
    async fn a_check_that_hangs_fails_and_holds_up_no_other() {
        let mut checks = Checks::default();
        checks.add("hung", std::future::pending);
        checks.add("good", || async { Ok(()) });
        let round = round_of(&checks).await;
        assert_eq!(round.failed(), [("hung", "did not answer in time")]);
    }

    #[tokio::test]
    async fn nothing_is_ready_before_the_first_round_after_the_stop_or_when_rounds_stop() {
        let stop = CancellationToken::new();
        let (publish, readiness) = Readiness::channel(stop.clone());
        assert!(!readiness.is_ready());
        let round = Arc::new(round_of(&Checks::default()).await);
        publish.send_replace(Some(Arc::clone(&round)));
        assert!(readiness.is_ready());
        tokio::time::advance(ROUND_COUNTS).await;
        assert!(!readiness.is_ready());
        publish.send_replace(Some(Arc::new(round_again().await)));
        assert!(readiness.is_ready());
        stop.cancel();
        assert!(!readiness.is_ready());
    }

    async fn round_again() -> Round {
        Checks::default().round().await
    }
}
