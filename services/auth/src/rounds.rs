//! Work that is done again and again while the process serves.

use std::future::Future;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// Does a round at once and another `every` so often, until `stop`. One that fails is told of and leaves it to the next; one that
/// takes long puts the next off.
///
/// `failed`: what did not happen then, for the log.
pub(crate) async fn run<R>(every: Duration, stop: CancellationToken, failed: &str, mut round: impl FnMut() -> R)
where
    R: Future<Output = Result<(), Error>>,
{
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = round().await {
            tracing::warn!(%error, "{failed}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_round_that_fails_is_followed_by_another_until_the_end() {
        let (stop, mut rounds) = (CancellationToken::new(), 0);
        let end = stop.clone();
        let round = || {
            rounds += 1;
            if rounds == 3 {
                end.cancel();
            }
            async { Err(Error::Overloaded) }
        };
        run(Duration::from_millis(1), stop, "nothing was done", round).await;
        // Where the end and a tick come together, either may be seen first.
        assert!(rounds >= 3, "{rounds}");
    }
}
