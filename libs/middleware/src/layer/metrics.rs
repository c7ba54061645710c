//! Counts calls and measures how long they take, by RPC and code. Never by tenant: that would be a series for each.

use std::time::Instant;

use axum::extract::Request;
use axum::response::Response;
use http::HeaderMap;
use tonic::Code;

use crate::body::{Watch, Watched, unwatched, watched};
use crate::layer::Next;
use crate::rpc::Rpc;

/// Calls ended, by `rpc` and `code`.
pub(crate) const CALLS_TOTAL: &str = "rowhouse_rpc_calls_total";
/// Seconds from the headers of the request to the end of the answer, by `rpc` and `code`.
pub(crate) const CALL_SECONDS: &str = "rowhouse_rpc_duration_seconds";

/// Records every call once, when its answer has ended or nobody waits for it any more.
pub(crate) async fn layer<N: Next>(rpc: Rpc, request: Box<Request>, next: N) -> Response<Watched<N::Body, Record>> {
    let mut record = Record {
        rpc: rpc.name(),
        begun: Instant::now(),
        code: None,
    };
    let response = next.run(request).await;
    match code_of(response.headers()) {
        Some(code) => {
            record.code = Some(code);
            unwatched(response)
        }
        None => watched(response, record),
    }
}

pub(crate) fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers
        .get("grpc-status")
        .map(|value| Code::from_bytes(value.as_bytes()))
}

/// Written when dropped. Without a code the client went away.
pub(crate) struct Record {
    rpc: &'static str,
    begun: Instant,
    code: Option<Code>,
}

impl Watch for Record {
    fn trailers(&mut self, trailers: HeaderMap) -> HeaderMap {
        self.code = code_of(&trailers);
        trailers
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let code = code_name(self.code.unwrap_or(Code::Cancelled));
        metrics::counter!(CALLS_TOTAL, "rpc" => self.rpc, "code" => code).increment(1);
        metrics::histogram!(CALL_SECONDS, "rpc" => self.rpc, "code" => code).record(self.begun.elapsed());
    }
}

/// The code's name as in the gRPC specification.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
