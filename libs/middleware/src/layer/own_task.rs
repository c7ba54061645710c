//! Lets handlers finish. Servers drop the future of a call whose client goes away; work that has begun must be done all the
//! same, or a transaction would be torn apart at whatever await it stood. So what is left of it then goes on on a task of its own.
//! Nearly every call needs none, and starting one for each costs two changes between threads.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::extract::Request;
use axum::response::Response;
use futures_util::FutureExt as _;
use rowhouse_status::Failure;
use tokio::runtime::Handle;
use tracing::{Instrument as _, Span};

use crate::answer;
use crate::layer::Next;
use crate::layer::load_shed::Place;
use crate::stack::Shared;

/// Runs what is inside to its end, for which the server waits when it drains. A panic there is answered INTERNAL.
pub(crate) async fn layer<N: Next + 'static>(shared: &Shared, request: Box<Request>, next: N) -> Response<N::Body> {
    let place = request.extensions().get::<Place>().cloned();
    let work = async move {
        // Safe to assert: what the panic left behind is dropped with the call.
        let done = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        drop(place);
        done.unwrap_or_else(|_| answer::refuse(Failure::internal("the handler panicked")))
    };
    Finishing {
        work: Some(Box::pin(shared.tasks.track_future(work))),
        span: Span::current(),
    }
    .await
}

/// Work that goes on where nobody waits for it any more.
struct Finishing<F: Future<Output: Send> + Send + 'static> {
    work: Option<Pin<Box<F>>>,
    /// The call's, in which the work goes on.
    span: Span,
}

// === impl Finishing ===

impl<F: Future<Output: Send> + Send + 'static> Future for Finishing<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(work) = &mut self.work else {
            return Poll::Pending;
        };
        let done = ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(done)
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Finishing<F> {
    fn drop(&mut self) {
        // Without a runtime the process is at its end.
        if let Some(work) = self.work.take()
            && let Ok(runtime) = Handle::try_current()
        {
            drop(runtime.spawn(work.instrument(self.span.clone())));
        }
    }
}
