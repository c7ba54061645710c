//! The request id: taken from the client, or made here; told in every answer.

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderValue};
use rowhouse_context::{RequestId, metadata};
use rowhouse_status::{Failure, Reason, wire};
use tonic::Status;

use crate::layer::Next;

/// Puts a [`RequestId`] into the request's extensions and `x-request-id` into the answer.
///
/// A damaged or repeated id is refused, under an id made here: what could break a log line is never logged.
pub(crate) async fn layer<N: Next>(mut request: Box<Request>, next: N) -> Response<N::Body> {
    let (id, mut response) = match read(request.headers()) {
        Ok(id) => {
            request.extensions_mut().insert(id.clone());
            (id, next.run(request).await)
        }
        Err(failure) => {
            let id = RequestId::generate();
            // Completed here: the layer that completes statuses lies inside and needs an id.
            let response = wire::complete(Status::from(failure), id.as_str()).into_http();
            (id, response)
        }
    };
    // An id's characters are all allowed in a header.
    if let Ok(mut value) = HeaderValue::from_str(id.as_str()) {
        // Never sent again: in HPACK's table it would only push out what is (RFC 7541, 6.2.3).
        value.set_sensitive(true);
        response.headers_mut().insert(metadata::REQUEST_ID, value);
    }
    response
}

fn read(headers: &HeaderMap) -> Result<RequestId, Failure> {
    let mut values = headers.get_all(metadata::REQUEST_ID).iter();
    let parsed = match (values.next(), values.next()) {
        (None, _) => return Ok(RequestId::generate()),
        (Some(value), None) => value.to_str().ok().and_then(|text| text.parse().ok()),
        (Some(_), Some(_)) => None,
    };
    parsed.ok_or_else(|| {
        Failure::new(
            Reason::MetadataInvalid,
            "x-request-id must be sent once: 1 to 64 of A-Z a-z 0-9 . _ : -",
        )
    })
}
