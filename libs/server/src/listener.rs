//! HTTP/2 listeners.
//!
//! tonic's own server is not used: it puts a time-out of its own round everything, which answers CANCELLED at the
//! moment at which ours would answer DEADLINE_EXCEEDED; and its shutdown has no bound.
//!
//! Where there are certificates, who connects must show one (mutual TLS), unless the deployment is changing over.

mod linger;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rowhouse_tls::{Caller, Certificates, Replaced};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpConnectInfo;
use tower::Service as _;
use tracing::Instrument as _;

use linger::Linger;

/// Connections of one listener at once; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 4_096;

/// Calls at once on one connection. Clients with more open another.
const STREAMS_MAX: u32 = 256;

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

/// Longest time from the connection to its first byte.
const FIRST_BYTE_MAX: Duration = Duration::from_secs(10);

/// Longest time for the handshake of TLS.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// The first byte of a handshake of TLS (RFC 8446, 5.1). HTTP/2 without TLS begins with `P` (RFC 9113, 3.4).
const HANDSHAKE_BYTE: u8 = 22;

/// Pause after the system refused a connection (too many open files): trying on at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What every request of a connection carries.
#[derive(Clone)]
struct Seen {
    info: TcpConnectInfo,
    /// The service whose certificate was shown.
    caller: Option<Caller>,
}

/// Serves `router` until `closing` is cancelled; then takes no more calls, and returns when the last has been answered.
/// Dropping the future cuts the connections that are left.
pub(crate) async fn serve(
    name: &'static str,
    listener: TcpListener,
    router: Router,
    certificates: Option<Certificates>,
    closing: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        let may_accept = connections.len() < CONNECTIONS_MAX;
        tokio::select! {
            biased;
            () = closing.cancelled() => break,
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept(), if may_accept => match accepted {
                Ok((stream, peer)) => {
                    let work = connection(stream, peer, router.clone(), certificates.clone(), closing.clone());
                    connections.spawn(work.instrument(tracing::debug_span!("connection", listener = name, %peer)));
                }
                Err(error) => {
                    tracing::warn!(listener = name, %error, "a connection was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    certificates: Option<Certificates>,
    closing: CancellationToken,
) {
    // Answers are small and waited for.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut seen = Seen {
        info: TcpConnectInfo {
            local_addr: stream.local_addr().ok(),
            remote_addr: Some(peer),
        },
        caller: None,
    };
    let mut first = [0];
    let read = tokio::select! {
        () = closing.cancelled() => return,
        read = timeout(FIRST_BYTE_MAX, stream.peek(&mut first)) => read,
    };
    if !matches!(read, Ok(Ok(1))) {
        return;
    }
    match certificates {
        Some(certificates) if first == [HANDSHAKE_BYTE] => {
            let replaced = certificates.replaced();
            let handshake = timeout(HANDSHAKE_MAX, certificates.accept(stream));
            let accepted = tokio::select! {
                () = closing.cancelled() => return,
                accepted = handshake => accepted,
            };
            match accepted {
                Ok(Ok((stream, name))) => {
                    seen.caller = Some(Caller(name));
                    conversation(stream, seen, router, until(replaced), &closing).await;
                }
                Ok(Err(error)) => tracing::warn!(%error, "a caller showed no certificate of a service"),
                Err(_) => tracing::warn!("a caller did not finish the handshake in time"),
            }
        }
        Some(certificates) if !certificates.takes_plain() => tracing::warn!("a caller without TLS was not let in"),
        _ => conversation(stream, seen, router, std::future::pending(), &closing).await,
    }
}

async fn until(mut replaced: Replaced) {
    replaced.wait().await;
}

/// Answers the calls of a connection until it ends, or `outdated` or `closing` end it: then the running ones are finished.
async fn conversation(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    seen: Seen,
    router: Router,
    outdated: impl Future<Output = ()>,
    closing: &CancellationToken,
) {
    let service = service_fn(move |request| answer(router.clone(), seen.clone(), request));
    let mut served = pin!(protocol().serve_connection(TokioIo::new(Linger::new(stream)), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = async { tokio::select! { () = closing.cancelled() => {}, () = outdated => {} } } => {
            served.as_mut().graceful_shutdown();
            served.as_mut().await
        }
    };
    if let Err(error) = ended {
        // Clients go away in all ways; it is nobody's fault here.
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(mut router: Router, seen: Seen, mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let extensions = request.extensions_mut();
    extensions.insert(seen.info);
    if let Some(caller) = seen.caller {
        extensions.insert(caller);
    }
    router.call(request).await
}

fn protocol() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_MAX)
        .auto_date_header(false);
    builder
}
