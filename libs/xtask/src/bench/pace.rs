//! Calls at a steady pace, whether those before were answered or not: strangers do not wait for each other.
//!
//! A call's time counts from the moment at which it was meant to begin. Counted from when it did begin, a stall of the service
//! would show in one call only, although everybody who came meanwhile waited (Tene's "coordinated omission").

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::runtime::Handle;
use tokio::task::{JoinSet, spawn_blocking};

use super::load::Measured;

/// Calls that are under way at once. More, and the pace is beyond what the service can do: there is nothing to measure.
const IN_FLIGHT_MAX: usize = 16_384;

/// When calls begin.
#[derive(Clone, Copy, Debug)]
struct Pace {
    per_second: f64,
}

// === impl Pace ===

impl Pace {
    /// When a call is meant to begin, after the first.
    fn due(self, number: usize) -> Duration {
        Duration::from_secs_f64(number as f64 / self.per_second)
    }

    /// Calls that are meant to begin within this time.
    fn calls(self, duration: Duration) -> usize {
        (duration.as_secs_f64() * self.per_second).ceil() as usize
    }
}

/// Calls at this pace.
///
/// `clients`: dealt out among the calls in turn. `work`: one call of a client; the number differs from call to call.
pub(super) async fn paced<C, F>(
    clients: &[C],
    per_second: f64,
    duration: Duration,
    work: impl Fn(C, usize) -> F + Send + 'static,
) -> Result<Measured>
where
    C: Clone + Send + 'static,
    F: Future<Output = Result<()>> + Send + 'static,
{
    ensure!(
        per_second > 0.0 && per_second.is_finite(),
        "no pace: {per_second} calls a second"
    );
    let (clients, runtime, pace) = (clients.to_vec(), Handle::current(), Pace { per_second });
    let begun = Instant::now();
    // A thread of its own: the runtime's timer has ticks of a millisecond, and at most paces several calls begin in one.
    let pacer = spawn_blocking(move || {
        let (mut running, mut calls) = (JoinSet::new(), Vec::new());
        for number in 0..pace.calls(duration) {
            let due = begun + pace.due(number);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            while let Some(done) = running.try_join_next() {
                calls.push(done??);
            }
            ensure!(
                running.len() < IN_FLIGHT_MAX,
                "{IN_FLIGHT_MAX} calls are unanswered: {per_second:.0} a second are too many"
            );
            let client = clients.get(number % clients.len().max(1)).context("a client")?;
            let call = work(client.clone(), number);
            let timed = async move {
                call.await?;
                anyhow::Ok(due.elapsed())
            };
            running.spawn_on(timed, &runtime);
        }
        Ok((running, calls))
    });
    let (mut running, mut calls) = pacer.await??;
    while let Some(done) = running.join_next().await {
        calls.push(done??);
    }
    Ok(Measured::new(calls, begun.elapsed()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn calls_are_spread_evenly_over_the_time() {
        let pace = Pace { per_second: 200.0 };
        assert_eq!(pace.calls(Duration::from_secs(3)), 600);
        assert_eq!(pace.due(0), Duration::ZERO);
        assert_eq!(pace.due(1), Duration::from_millis(5));
        assert_eq!(pace.due(599), Duration::from_millis(2_995));
    }

    /// The control of the whole idea: whoever waits for the one before is counted as waiting.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stall_shows_in_every_call_that_was_meant_to_begin_meanwhile() {
        let gate = Arc::new(tokio::sync::Mutex::new(()));
        let work = move |(): (), number| {
            let gate = Arc::clone(&gate);
            async move {
                let _held = gate.lock().await;
                if number == 0 {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Ok(())
            }
        };
        let measured = paced(&[()], 100.0, Duration::from_millis(200), work).await.unwrap();
        assert_eq!(measured.count(), 20);
        assert!(measured.percentile_ms(0.5).unwrap() > 50.0, "{measured:?}");
    }

    #[tokio::test]
    async fn a_pace_that_is_none_is_refused() {
        for per_second in [0.0, f64::NAN, f64::INFINITY] {
            let refused = paced(&[()], per_second, Duration::from_secs(1), |(), _| async { Ok(()) }).await;
            assert!(refused.is_err(), "{per_second}");
        }
    }
}
