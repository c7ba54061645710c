//! Calls to processes that are killed: what was cut off is called again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Result, bail};
use rowhouse_devkit::journey;
use tonic::{Code, Status};

/// A call that a killed process cut off; anything else is an answer. The suite's own have details: where it was another process
/// that was killed, they say that it is away or late.
pub(crate) fn was_cut(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded => true,
        Code::Unknown | Code::Cancelled | Code::Internal => status.details().is_empty(),
        _ => false,
    }
}

/// Repeats what a killed process cut off until it is answered, and counts how often it was. What was cut may have happened:
/// each try counts for itself.
pub(crate) async fn surely<T, F: Future<Output = Result<T>>>(
    what: &str,
    cuts: &AtomicUsize,
    call: impl Fn() -> F,
) -> Result<T> {
    let until = Instant::now() + journey::BACKGROUND_MAX;
    loop {
        match call().await {
            Ok(done) => return Ok(done),
            Err(fault) => match fault.downcast_ref::<Status>() {
                Some(status) if was_cut(status) && Instant::now() < until => {
                    cuts.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
                _ => bail!("{what}: {fault:?}"),
            },
        }
    }
}
