//! Bodies of answers on their way out: several layers have something to do until the last byte has left, and a status
//! may still come in the trailers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

/// What a body yields.
pub(crate) type Item = Option<Result<Frame<Bytes>, axum::Error>>;

/// What a layer does with a body. Dropped when the body has ended or nobody wants it any more.
pub(crate) trait Watch: Send + Unpin + 'static {
    /// Polls `inner` in this layer's way.
    fn poll(&mut self, inner: Pin<&mut Body>, cx: &mut Context<'_>) -> Poll<Item> {
        inner.poll_frame(cx)
    }

    /// Sees the trailers, and may change them.
    fn trailers(&mut self, trailers: HeaderMap) -> HeaderMap {
        trailers
    }
}

/// A body with a layer round it.
struct Watched<W> {
    inner: Body,
    watch: W,
    ended: bool,
}

/// Puts `watch` round a body.
pub(crate) fn watched(inner: Body, watch: impl Watch) -> Body {
    Body::new(Watched {
        inner,
        watch,
        ended: false,
    })
}

// === impl Watched ===

impl<W: Watch> HttpBody for Watched<W> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Item> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        let item = match ready!(this.watch.poll(Pin::new(&mut this.inner), cx)) {
            Some(Ok(frame)) => match frame.into_trailers() {
                Ok(trailers) => {
                    this.ended = true;
                    Some(Ok(Frame::trailers(this.watch.trailers(trailers))))
                }
                Err(frame) => Some(Ok(frame)),
            },
            last => {
                this.ended = true;
                last
            }
        };
        Poll::Ready(item)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
