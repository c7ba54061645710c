//! Waiting for a condition, with a bound, and saying so.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::spawn::tail;

/// How often a condition is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often a long wait says that it goes on.
const SAY: Duration = Duration::from_secs(3);

/// Waits until `check` says true.
///
/// # Errors
/// After `bound`, with what `check` said last.
pub async fn until<F>(what: &str, bound: Duration, mut check: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let begun = Instant::now();
    let mut said = begun;
    loop {
        let last = check().await;
        if matches!(last, Ok(true)) {
            return Ok(());
        }
        if begun.elapsed() > bound {
            let reason = last.err().map(|error| format!(": {error:#}")).unwrap_or_default();
            bail!("{what} did not come within {} s{reason}", bound.as_secs());
        }
        if said.elapsed() > SAY {
            said = Instant::now();
            eprintln!("  waiting for {what} ({} s)", begun.elapsed().as_secs());
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Waits until a process that was just started answers.
///
/// # Errors
/// After `bound`, or as soon as the process has ended; the end of its log is in the message.
pub async fn until_up<F>(
    what: &str,
    bound: Duration,
    child: &mut Child,
    log: &Path,
    mut check: impl FnMut() -> F,
) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let mut ended = None;
    let answer = until(what, bound, || {
        // A process that is gone will not answer any more; this ends the wait at once.
        ended = child.try_wait().ok().flatten();
        let gone = ended.is_some();
        let check = (!gone).then(&mut check);
        async move {
            match check {
                Some(check) => check.await,
                None => Ok(true),
            }
        }
    })
    .await;
    match (answer, ended) {
        (_, Some(status)) => {
            bail!(
                "{what} ended while it started ({status}); the end of {}:\n{}",
                log.display(),
                tail(log)
            )
        }
        (Err(error), None) => bail!("{error:#}; the end of {}:\n{}", log.display(), tail(log)),
        (Ok(()), None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn a_wait_is_bounded_and_says_why() {
        let error = until("the moon", Duration::ZERO, || async { bail!("too far") })
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "the moon did not come within 0 s: too far");
    }

    #[tokio::test]
    async fn a_process_that_ends_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "no space left").unwrap();
        let mut child = Command::new("false").spawn().unwrap();
        let wait = until_up("redis", Duration::from_secs(60), &mut child, &log, || async {
            Ok(false)
        })
        .await;
        let message = wait.unwrap_err().to_string();
        assert!(
            message.contains("ended while it started") && message.contains("no space left"),
            "{message}"
        );
    }
}
