//! Bodies of answers on their way out: several layers have something to do until the last byte has left, and a status
//! may still come in the trailers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

/// A body as the layers see it. Its type is known to the compiler, so that those which are put round one another are one: as
/// `axum::body::Body` each would be boxed and asked through a table.
pub(crate) trait Inner: Body<Data = Bytes, Error = axum::Error> + Default + Send + Unpin + 'static {}

impl<B: Body<Data = Bytes, Error = axum::Error> + Default + Send + Unpin + 'static> Inner for B {}

/// What a body yields.
pub(crate) type Item = Option<Result<Frame<Bytes>, axum::Error>>;

/// What a layer does with a body. Dropped when the body has ended or nobody wants it any more.
pub(crate) trait Watch: Send + Unpin + 'static {
    /// Polls `inner` in this layer's way.
    fn poll(&mut self, inner: Pin<&mut impl Inner>, cx: &mut Context<'_>) -> Poll<Item> {
        inner.poll_frame(cx)
    }

    /// Sees the trailers, and may change them.
    fn trailers(&mut self, trailers: HeaderMap) -> HeaderMap {
        trailers
    }
}

/// A body with a layer round it.
pub(crate) struct Watched<B, W> {
    inner: B,
    /// Absent where the layer has nothing to do any more.
    watch: Option<W>,
    ended: bool,
}

/// Puts `watch` round the answer's body.
pub(crate) fn watched<B: Inner, W: Watch>(response: Response<B>, watch: W) -> Response<Watched<B, W>> {
    response.map(|inner| Watched::new(inner, Some(watch)))
}

/// Leaves the answer's body alone: it had no need of the layer.
pub(crate) fn unwatched<B: Inner, W: Watch>(response: Response<B>) -> Response<Watched<B, W>> {
    response.map(|inner| Watched::new(inner, None))
}

// === impl Watched ===

impl<B, W> Watched<B, W> {
    pub(crate) fn new(inner: B, watch: Option<W>) -> Self {
        Self {
            inner,
            watch,
            ended: false,
        }
    }
}

/// Of an answer that is all in its headers.
impl<B: Default, W> Default for Watched<B, W> {
    fn default() -> Self {
        Self::new(B::default(), None)
    }
}

impl<B: Inner, W: Watch> Body for Watched<B, W> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Item> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        let Some(watch) = &mut this.watch else {
            return Pin::new(&mut this.inner).poll_frame(cx);
        };
        let item = match ready!(watch.poll(Pin::new(&mut this.inner), cx)) {
            Some(Ok(frame)) => match frame.into_trailers() {
                Ok(trailers) => {
                    this.ended = true;
                    Some(Ok(Frame::trailers(watch.trailers(trailers))))
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
