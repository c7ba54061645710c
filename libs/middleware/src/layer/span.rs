//! The span of a call: everything logged meanwhile carries its request id, and its trace goes on from the client's.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::Response;
use http::HeaderMap;
use rowhouse_context::RequestId;
use rowhouse_telemetry::trace;
use tonic::Code;
use tracing::Span;

use crate::body::{Inner, Item, Watch, Watched, unwatched, watched};
use crate::layer::Next;
use crate::layer::metrics::{code_name, code_of};
use crate::rpc::Rpc;

/// Runs the call, and polls the body of its answer, in a span with the names `rpc` and `request_id`; the trace is told the
/// `code` too. A damaged `traceparent` is ignored, as the W3C recommendation asks.
pub(crate) async fn layer<N: Next>(rpc: Rpc, request: Box<Request>, next: N) -> Response<Watched<N::Body, InSpan>> {
    let span = tracing::info_span!(
        "rpc",
        otel.kind = "server",
        rpc = rpc.name(),
        request_id = request.extensions().get::<RequestId>().map(RequestId::as_str),
    );
    trace::set_parent_from(&span, request.headers());
    let mut work = pin!(next.run(request));
    // As `Instrument` does, which keeps the span and enters it once more to drop what has ended.
    let response = poll_fn(|cx| span.in_scope(|| work.as_mut().poll(cx))).await;
    match code_of(response.headers()) {
        Some(code) => {
            end(&span, code);
            unwatched(response)
        }
        None => watched(response, InSpan { span }),
    }
}

fn end(span: &Span, code: Code) {
    trace::set_attribute(span, "code", code_name(code));
    tracing::debug!(parent: span, code = code_name(code), "a call ended");
}

pub(crate) struct InSpan {
    span: Span,
}

impl Watch for InSpan {
    fn poll(&mut self, inner: Pin<&mut impl Inner>, cx: &mut Context<'_>) -> Poll<Item> {
        let _entered = self.span.enter();
        inner.poll_frame(cx)
    }

    fn trailers(&mut self, trailers: HeaderMap) -> HeaderMap {
        if let Some(code) = code_of(&trailers) {
            end(&self.span, code);
        }
        trailers
    }
}
