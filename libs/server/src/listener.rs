//! HTTP/2 listeners.
//!
//! tonic's own server is not used: it puts a time-out of its own round everything, which answers CANCELLED at the
//! moment at which ours would answer DEADLINE_EXCEEDED; and its shutdown has no bound.

mod door;
mod stream;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rowhouse_middleware::stack::Stack;
use rowhouse_tls::{Certificates, PeerService, Replaced};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpConnectInfo;
use tower::Service as _;

use door::{Door, Entered};

/// Connections of one listener at once; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 4_096;

/// Calls at once on one connection. Clients with more open another.
///
/// As many may have been given up before they were read: when we are held up for a moment, the deadlines of a gateway's callers
/// end meanwhile, and ending the connection would take the calls of all others with them. It is no more work than calls are.
pub(crate) const STREAMS_MAX: u32 = 256;

/// Longest metadata of a call that is read, in bytes. The stack refuses far less, with a status that says why; beyond
/// this, HTTP/2 answers 431 or ends the connection.
const HEADER_LIST_BYTES_MAX: u32 = 128 * 1024;

/// How much a client may send ahead, in bytes: on one call, and on the connection. A message of 4 MiB then takes a few
/// round trips, and a connection's memory stays bounded.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// How often a silent connection is probed, and how long the answer may take.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(10);

/// Pause after the system refused a connection (too many open files): trying on at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Longest life of a connection on which a certificate was shown: so much longer is one honoured that has ended meanwhile.
const KNOWN_MAX: Duration = Duration::from_secs(600);

/// How much longer than a call may take its connection is kept once it is told to end: for the answer that says so.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

/// A listener.
pub(crate) struct Listener {
    stack: Stack,
    door: Door,
    /// Longest time that a call may take.
    call_max: Duration,
}

/// What every request of a connection carries.
#[derive(Clone)]
struct Seen {
    info: TcpConnectInfo,
    /// The service whose certificate was shown.
    peer: Option<PeerService>,
}

// === impl Listener ===

impl Listener {
    /// `name`: for logs and metrics. `certificates`: what who connects is met with, who then must show one; nobody speaks TLS
    /// where absent.
    pub(crate) fn new(
        name: &'static str,
        stack: Stack,
        certificates: Option<Certificates>,
        call_max: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            stack,
            door: Door::new(name, certificates),
            call_max,
        })
    }

    /// Serves until `closing` is cancelled; then takes no more calls, and returns when the last has been answered.
    /// Dropping the future cuts the connections that are left.
    pub(crate) async fn serve(self: Arc<Self>, socket: TcpListener, closing: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let may_accept = connections.len() < CONNECTIONS_MAX;
            tokio::select! {
                biased;
                () = closing.cancelled() => break,
                Some(_ended) = connections.join_next() => {}
                accepted = socket.accept(), if may_accept => match accepted {
                    Ok((stream, peer)) => drop(connections.spawn(self.clone().connection(stream, peer, closing.clone()))),
                    Err(error) => {
                        tracing::warn!(listener = self.door.listener(), %error, "a connection was not accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(socket);
        while connections.join_next().await.is_some() {}
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, closing: CancellationToken) {
        let info = TcpConnectInfo {
            local_addr: stream.local_addr().ok(),
            remote_addr: Some(peer),
        };
        let entered = tokio::select! {
            () = closing.cancelled() => return,
            entered = self.door.enter(stream, peer) => entered,
        };
        let Some(Entered { stream, known }) = entered else {
            return;
        };
        let seen = Seen {
            info,
            peer: known.as_ref().map(|(peer, _)| *peer),
        };
        let stack = self.stack.clone();
        let service = service_fn(move |request| answer(stack.clone(), seen.clone(), request));
        let mut served = pin!(protocol().serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = served.as_mut() => ended,
            () = over(known, &closing) => {
                served.as_mut().graceful_shutdown();
                // Who does not go away when told to is cut: by then no call is left that was begun before.
                let last = self.call_max + LAST_WORDS_MAX;
                timeout(last, served.as_mut()).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            // Clients go away in all ways; it is nobody's fault here.
            tracing::debug!(%peer, %error, "a connection ended early");
        }
    }
}

/// Waits until no more calls are taken on a connection: of anybody, or of somebody whose certificate has to be shown again.
async fn over(known: Option<(PeerService, Replaced)>, closing: &CancellationToken) {
    let outdated = async {
        match known {
            Some((_, replaced)) => drop(timeout(KNOWN_MAX, replaced.wait()).await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = closing.cancelled() => {}
        () = outdated => {}
    }
}

async fn answer(mut stack: Stack, seen: Seen, mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let extensions = request.extensions_mut();
    extensions.insert(seen.info);
    if let Some(peer) = seen.peer {
        extensions.insert(peer);
    }
    stack.call(request.map(Body::new)).await
}

fn protocol() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(STREAMS_MAX as usize)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_MAX)
        .auto_date_header(false);
    builder
}

#[cfg(test)]
mod tests {
    use rowhouse_config::section::Tls;
    use rowhouse_context::ServiceName;
    use rowhouse_devkit::authority::Authority;
    use tokio::time::Instant;

    use super::*;

    /// How long a connection on which a certificate was shown is served.
    #[tokio::test]
    async fn a_connection_is_over_when_certificates_are_replaced_and_after_ten_minutes() {
        let (root, ours) = (tempfile::tempdir().unwrap(), Authority::new("ours").unwrap());
        let folder = root.path().join("tls");
        let write = |authority: &Authority| {
            let issued = authority.issue(&["crm.rowhouse.internal"]).unwrap();
            issued.write(&folder, &[authority]).unwrap();
        };
        write(&ours);
        let section = Tls {
            folder: folder.clone(),
            plain: false,
        };
        let certificates = Certificates::load(ServiceName::Crm, &section).await.unwrap();
        let closing = CancellationToken::new();
        let peer = PeerService(ServiceName::Auth);

        let replaced = certificates.replaced();
        write(&ours);
        assert!(certificates.look().await.unwrap());
        over(Some((peer, replaced)), &closing).await;

        tokio::time::pause();
        let begun = Instant::now();
        over(Some((peer, certificates.replaced())), &closing).await;
        assert_eq!(begun.elapsed().as_secs(), KNOWN_MAX.as_secs());
        // The control: who has shown none is served until the process ends.
        let nobody = timeout(10 * KNOWN_MAX, over(None, &closing)).await;
        assert!(nobody.is_err());
        closing.cancel();
        over(None, &closing).await;
    }
}
