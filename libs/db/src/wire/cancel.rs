//! Cancelling what a connection waits for, without harm to `PgBouncer`.
//!
//! The driver closes the socket as soon as the request is written. PgBouncer 1.18 ends itself when that happens before it
//! has passed the request on (pgbouncer issue 801, "bad client state: 0"), so here the socket stays open until the server
//! closes it, as libpq does.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::config::Host;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// PgBouncer gives up a request that it could not pass on after 10 s (`cancel_wait_timeout`).
const PATIENCE: Duration = Duration::from_secs(15);

/// How to cancel what a connection waits for.
pub(crate) struct Canceller {
    token: CancelToken,
    address: Option<(String, u16)>,
    tls: Option<MakeRustlsConnect>,
}

/// A stream that is shut down by the other side.
struct Patient {
    stream: TcpStream,
}

// === impl Canceller ===

impl Canceller {
    /// `config`: what the client was connected with.
    pub(super) fn new(client: &Client, config: &Config, tls: Option<MakeRustlsConnect>) -> Self {
        let address = match (config.get_hosts(), config.get_ports()) {
            ([Host::Tcp(host)], [port]) => Some((host.clone(), *port)),
            ([Host::Tcp(host)], []) => Some((host.clone(), 5432)),
            _ => None,
        };
        Self {
            token: client.cancel_token(),
            address,
            tls,
        }
    }

    /// Cancels. Returns when the server has taken note; whether it had any effect shows in the statement's own answer.
    pub(crate) async fn cancel(self) {
        match tokio::time::timeout(PATIENCE, self.request()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a statement could not be cancelled"),
            Err(_) => tracing::debug!("the server did not take note of a cancellation in time"),
        }
    }

    async fn request(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let Some((host, port)) = &self.address else {
            // Several hosts, or a socket of the file system: only the driver knows where it is connected.
            match &self.tls {
                Some(tls) => self.token.cancel_query(tls.clone()).await?,
                None => self.token.cancel_query(NoTls).await?,
            }
            return Ok(());
        };
        let stream = Patient {
            stream: TcpStream::connect((host.as_str(), *port)).await?,
        };
        match &self.tls {
            Some(tls) => {
                let tls = MakeTlsConnect::<Patient>::make_tls_connect(&mut tls.clone(), host)?;
                self.token.cancel_query_raw(stream, tls).await?;
            }
            None => self.token.cancel_query_raw(stream, NoTls).await?,
        }
        Ok(())
    }
}

// === impl Patient ===

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Waits until the other side closes; whatever it says before is of no use.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let mut scratch = [0; 64];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}
