//! The mail server that `up` starts as a process of its own.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use rowhouse_devkit::smtp;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Serves until SIGTERM.
pub(crate) async fn run(listen: SocketAddr, folder: PathBuf) -> Result<()> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let sink = smtp::run(listen, &folder, stop.clone());
    tokio::pin!(sink);
    tokio::select! {
        ended = &mut sink => return ended,
        _ = terminate.recv() => stop.cancel(),
    }
    sink.await
}
