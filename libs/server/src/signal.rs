//! Signals that ask the process to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled when SIGTERM or SIGINT comes; a second signal ends the process at once. To be called
/// inside the runtime.
///
/// # Errors
/// Where the system refuses a signal handler.
pub fn shutdown_signal() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    // It ends with the runtime, which ends with the process: there is nothing to wait for.
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        tracing::info!("asked to stop");
        cancelled.cancel();
        either(&mut terminate, &mut interrupt).await;
        tracing::warn!("asked to stop twice, leaving at once");
        std::process::exit(1);
    });
    Ok(stop)
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
