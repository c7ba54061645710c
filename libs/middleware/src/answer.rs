//! Refusals as HTTP responses.

use axum::response::Response;
use http::HeaderMap;
use rowhouse_status::Failure;
use tonic::Status;

/// The answer to a refused call: a status in the headers and no body. A cause is logged here, once.
pub(crate) fn refuse<B: Default>(failure: Failure) -> Response<B> {
    Status::from(failure).into_http()
}

/// A failure as the trailers of an answer whose body has begun.
pub(crate) fn trailers(failure: Failure) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // It fails only for a text that no header can hold, and messages are percent-encoded: then a bare code is left.
    if let Err(fault) = Status::from(failure).add_header(&mut trailers) {
        tracing::error!(cause = %fault, "a status does not fit into trailers");
    }
    trailers
}
