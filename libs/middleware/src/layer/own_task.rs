//! Runs the handler on a task of its own. Servers drop the future of a call whose client goes away; work that has begun
//! must finish all the same, or a transaction would be torn apart at whatever await it stood.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use rowhouse_status::Failure;
use tracing::Instrument as _;

use crate::answer;
use crate::layer::load_shed::Place;
use crate::stack::Shared;

/// Runs what is inside on a task that the server waits for when it drains. A panic there is answered INTERNAL.
pub(crate) async fn layer(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let place = request.extensions().get::<Place>().cloned();
    let work = async move {
        let response = next.run(request).await;
        drop(place);
        response
    };
    match shared.tasks.spawn(work.in_current_span()).await {
        Ok(response) => response,
        Err(fault) if fault.is_panic() => answer::refuse(Failure::internal("the handler panicked")),
        Err(_) => answer::refuse(Failure::internal("the handler was stopped before it finished")),
    }
}
