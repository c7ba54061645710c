//! Calls that nobody has seen are made once more, on the next connection.
//!
//! A service that stops, or changes its certificates, ends its connections in good order: it answers what has reached it and
//! takes nothing else. A call that was on its way to such a connection at that moment was seen by no handler, so making it
//! again cannot do anything twice, whatever it does (gRPC proposal A6, "transparent retries").

use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use tokio::task::yield_now;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{BoxError, Service as _, ServiceExt as _};

/// How often a call is made at most. The second time goes to a new connection, unless the old one has not yet noticed that
/// it is closing.
const ATTEMPTS_MAX: usize = 3;

/// How long after its first attempt a call may be made again. It begins with all of its time once more, and nobody waits that
/// long for it.
const AGAIN_MAX: Duration = Duration::from_secs(1);

/// Calls over `channel`.
///
/// # Errors
/// Of the transport: when the call may have been seen, or was not the last time either.
pub(super) async fn call(mut channel: Channel, request: Request<Body>) -> Result<http::Response<Body>, BoxError> {
    let (parts, body) = request.into_parts();
    // Requests of the suite are single messages, bounded by what a peer takes; they are encoded by now.
    let body: Bytes = body.collect().await?.to_bytes();
    let request = || Request::from_parts(parts.clone(), Body::new(Full::new(body.clone())));
    let begun = Instant::now();
    for _ in 1..ATTEMPTS_MAX {
        match channel.ready().await?.call(request()).await {
            // An empty body would go with the headers, in one piece that may have been seen. gRPC has none.
            Err(error) if !body.is_empty() && was_not_seen(&error) && begun.elapsed() < AGAIN_MAX => yield_now().await,
            answered => return Ok(answered?),
        }
    }
    Ok(channel.ready().await?.call(request()).await?)
}

/// Whether no handler has seen the call: the connection was closed before it was put on it, or the other end has said GOAWAY
/// and answers nothing that came after (RFC 9113, 6.8). In between lies a call whose headers were sent as that arrived: its
/// message stays behind, and no handler is called without one. Calls that were seen and cut end in other errors.
fn was_not_seen(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(|cause| {
        let closed = cause.downcast_ref().is_some_and(hyper::Error::is_canceled);
        let gone = cause.downcast_ref().is_some_and(is_orderly_end);
        closed || gone
    })
}

fn is_orderly_end(error: &h2::Error) -> bool {
    error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
}

#[cfg(test)]
mod tests;
