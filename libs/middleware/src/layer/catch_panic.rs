//! Turns a panic into INTERNAL. Handlers panic on a task of their own; this is for everything else: the layers inside,
//! and the body of a stream.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::Response;
use futures_util::FutureExt as _;
use http_body::Frame;
use rowhouse_status::Failure;

use crate::answer;
use crate::body::{Inner, Item, Watch, Watched, watched};
use crate::layer::Next;

/// Answers INTERNAL where anything inside panics.
pub(crate) async fn layer<N: Next>(request: Box<Request>, next: N) -> Response<Watched<N::Body, Caught>> {
    // Safe to assert: what the panic left behind is dropped with the call.
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => watched(response, Caught),
        Err(_) => answer::refuse(Failure::internal("a layer panicked")),
    }
}

pub(crate) struct Caught;

impl Watch for Caught {
    fn poll(&mut self, inner: Pin<&mut impl Inner>, cx: &mut Context<'_>) -> Poll<Item> {
        catch_unwind(AssertUnwindSafe(|| inner.poll_frame(cx))).unwrap_or_else(|_| {
            let trailers = answer::trailers(Failure::internal("the body of an answer panicked"));
            Poll::Ready(Some(Ok(Frame::trailers(trailers))))
        })
    }
}
