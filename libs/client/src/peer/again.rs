//! Calls that never left are made once more, on the next connection.
//!
//! A service that stops, or changes its certificates, ends its connections in good order: it answers what has reached it and
//! takes nothing else. A call that was on its way to such a connection at that moment has not been seen by anybody, so
//! making it again cannot do anything twice, whatever it does (gRPC proposal A6, "transparent retries").

use std::error::Error;

use http::Request;
use http_body_util::{BodyExt as _, Full};
use tokio::task::yield_now;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{BoxError, Service as _, ServiceExt as _};

/// How often a call is made at most. The second time goes to a new connection, unless the old one has not yet noticed that
/// it is closing.
const ATTEMPTS_MAX: usize = 4;

/// Calls over `channel`, which is ready.
///
/// # Errors
/// Of the transport: when the call may have been seen, or did not leave the last time either.
pub(super) async fn call(mut channel: Channel, request: Request<Body>) -> Result<http::Response<Body>, BoxError> {
    let (parts, body) = request.into_parts();
    // Requests of the suite are single messages, bounded by what a peer takes; they are encoded by now.
    let body = body.collect().await?.to_bytes();
    let request = || Request::from_parts(parts.clone(), Body::new(Full::new(body.clone())));
    for _ in 1..ATTEMPTS_MAX {
        match channel.call(request()).await {
            Err(error) if never_left(&error) => yield_now().await,
            answered => return Ok(answered?),
        }
        channel.ready().await?;
    }
    Ok(channel.call(request()).await?)
}

/// Whether nobody has seen the call: the connection was closed before it was put on it, or the other end has said GOAWAY and
/// does not answer what came after (RFC 9113, 6.8). Streams that it has seen and that are cut end in other errors.
fn never_left(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(|cause| {
        let closed = cause.downcast_ref().is_some_and(hyper::Error::is_canceled);
        let gone = cause.downcast_ref().is_some_and(is_orderly_end);
        closed || gone
    })
}

fn is_orderly_end(error: &h2::Error) -> bool {
    error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
}
