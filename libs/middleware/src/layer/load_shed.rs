//! Refuses calls beyond what the process can do at once, quickly and with advice when to come back: a queue would only
//! make every answer late.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use rowhouse_status::{Failure, Reason};
use tokio::sync::OwnedSemaphorePermit;

use crate::answer;
use crate::body::{Watch, Watched, unwatched, watched};
use crate::layer::Next;
use crate::rpc::Rpc;
use crate::stack::Shared;

/// When to try again. A typical call takes a few milliseconds, so that places come free much sooner.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// One place among the calls at once, in the request's extensions. It is free again when the handler's work, the
/// answer's body and the call itself have all ended: a client that goes away does not make room for work that goes on.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Takes a place for the call, or answers OVERLOADED. A health check needs none: a busy process is not a sick one.
pub(crate) async fn layer<N: Next>(
    shared: &Shared,
    rpc: Rpc,
    mut request: Box<Request>,
    next: N,
) -> Response<Watched<N::Body, Kept>> {
    if rpc == Rpc::HealthCheck {
        return unwatched(next.run(request).await);
    }
    match Arc::clone(&shared.places).try_acquire_owned() {
        Ok(permit) => {
            let place = Place {
                _permit: Arc::new(permit),
            };
            request.extensions_mut().insert(place.clone());
            let response = next.run(request).await;
            watched(response, Kept { _place: place })
        }
        Err(_) => {
            metrics::counter!("rowhouse_calls_shed_total").increment(1);
            let failure = Failure::new(Reason::Overloaded, "the service is at its limit");
            answer::refuse(failure.retry_after(RETRY_AFTER))
        }
    }
}

pub(crate) struct Kept {
    _place: Place,
}

impl Watch for Kept {}
