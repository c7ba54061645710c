//! Runs the handler on a task of its own. Servers drop the future of a call whose client goes away; work that has begun
//! must finish all the same, or a transaction would be torn apart at whatever await it stood.

use axum::extract::Request;
use axum::response::Response;
use rowhouse_status::Failure;
use tracing::Instrument as _;

use crate::answer;
use crate::layer::Next;
use crate::layer::load_shed::Place;
use crate::stack::Shared;

/// Runs what is inside on a task that the server waits for when it drains. A panic there is answered INTERNAL.
pub(crate) async fn layer(shared: &Shared, request: Request, next: impl Next + 'static) -> Response {
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
