//! A mail server that accepts everything and keeps it in a folder, one `.eml` file a mail. Only what goes to `refused.example`
//! it refuses, and quotes it in the answer, as servers do that say what they disliked.
//!
//! It speaks as much SMTP (RFC 5321) as a client needs to deliver: EHLO, HELO, MAIL, RCPT, DATA with dot-stuffing, RSET,
//! NOOP, VRFY, QUIT, pipelined or not. No TLS and no authentication: it listens on loopback only.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

mod mailbox;
mod session;

pub use mailbox::{Mail, list};

/// Sessions at once; the worker's pool has a handful.
const SESSIONS_MAX: usize = 64;

/// A sink inside this process; it ends when it is dropped.
#[derive(Debug)]
pub struct SmtpSink {
    address: SocketAddr,
    folder: PathBuf,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl SmtpSink {
    /// Listens on a free port of loopback and keeps mails in `folder`.
    ///
    /// # Errors
    /// When the folder cannot be made or no port is free.
    pub async fn start(folder: &Path) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        fs::create_dir_all(folder)?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, folder.to_owned(), stop.clone()));
        Ok(Self {
            address,
            folder: folder.to_owned(),
            stop,
            task: Some(task),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `smtp://host:port`.
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// The mails accepted so far, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn mails(&self) -> Result<Vec<Mail>> {
        list(&self.folder)
    }

    /// Ends all sessions and waits for that.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            // It ends with the token; that it panicked would have shown in a test's mails.
            let _ = task.await;
        }
    }
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Runs a sink in the foreground until `stop`, for `cargo xtask up`.
///
/// # Errors
/// When the folder cannot be made or the address is taken.
pub async fn run(address: SocketAddr, folder: &Path, stop: CancellationToken) -> Result<()> {
    fs::create_dir_all(folder)?;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    serve(listener, folder.to_owned(), stop).await;
    Ok(())
}

async fn serve(listener: TcpListener, folder: PathBuf, stop: CancellationToken) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = sessions.join_next(), if !sessions.is_empty() => {}
            accepted = listener.accept(), if sessions.len() < SESSIONS_MAX => {
                let Ok((stream, _)) = accepted else { continue };
                let folder = folder.clone();
                sessions.spawn(async move {
                    // A client that goes away in the middle has sent no mail.
                    let _ = session::run(stream, &folder).await;
                });
            }
        }
    }
    sessions.shutdown().await;
}

#[cfg(test)]
mod tests;
