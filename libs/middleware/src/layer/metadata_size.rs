//! The bound on metadata. HTTP/2 has one too, higher, which can only answer 431 without details.

use axum::extract::Request;
use axum::response::Response;
use http::HeaderMap;
use rowhouse_status::{Failure, Reason};
use tonic::Status;

use crate::layer::Next;

/// Longest metadata of a call, in bytes, counted as HTTP/2 does (RFC 9113, section 6.5.2). A token has less than 1 KiB;
/// gRPC's own default is 8 KiB.
const METADATA_BYTES_MAX: usize = 16 * 1024;

/// What RFC 9113 adds to each field for keeping it.
const FIELD_OVERHEAD_BYTES: usize = 32;

/// Refuses calls with more metadata than anybody needs, before anything reads it.
pub(crate) async fn layer<N: Next>(request: Box<Request>, next: N) -> Response<N::Body> {
    if size_bytes(request.headers()) > METADATA_BYTES_MAX {
        let text = format!("metadata must have at most {METADATA_BYTES_MAX} bytes");
        return Status::from(Failure::new(Reason::MetadataTooLarge, text)).into_http();
    }
    next.run(request).await
}

fn size_bytes(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD_BYTES)
        .sum()
}
