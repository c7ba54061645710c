//! The stack without one of its layers. A test that passes with it as well guards nothing.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use rowhouse_context::{Ctx, RequestId};
use tower::ServiceBuilder;

use crate::layer::{
    authentication, authorisation, catch_panic, completion, deadline, load_shed, own_task, policy, quota, request_id,
    tenant,
};
use crate::stack::Listener;
use crate::tests::world::World;

/// A layer to leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    RequestId,
    Completion,
    CatchPanic,
    LoadShed,
    Policy,
    Authentication,
    Tenant,
    Authorisation,
    Quota,
    OwnTask,
}

/// The stack of [`crate::stack`] without one layer.
pub(super) fn stack(world: &World, listener: Listener, without: Without) -> Router {
    let shared = Arc::new(world.shared(listener));
    macro_rules! unless {
        ($layer:ident, $make:expr) => {
            (without != Without::$layer).then(|| $make)
        };
    }
    let order = ServiceBuilder::new()
        .option_layer(unless!(RequestId, from_fn(request_id::layer)))
        .option_layer(unless!(Completion, from_fn(completion::layer)))
        .option_layer(unless!(CatchPanic, from_fn(catch_panic::layer)))
        .layer(from_fn_with_state(shared.clone(), deadline::layer))
        .option_layer(unless!(LoadShed, from_fn_with_state(shared.clone(), load_shed::layer)))
        .option_layer(unless!(Policy, from_fn_with_state(shared.clone(), policy::layer)))
        .option_layer(unless!(
            Authentication,
            from_fn_with_state(shared.clone(), authentication::layer)
        ))
        .option_layer(unless!(Tenant, from_fn_with_state(shared.clone(), tenant::layer)))
        .option_layer((without == Without::Tenant).then(|| from_fn(believe)))
        .option_layer(unless!(
            Authorisation,
            from_fn_with_state(shared.clone(), authorisation::layer)
        ))
        .option_layer(unless!(Quota, from_fn_with_state(shared.clone(), quota::layer)))
        .option_layer(unless!(OwnTask, from_fn_with_state(shared, own_task::layer)));
    world.routes().into_axum_router().layer(order)
}

/// In the place of the tenant's layer: believes whatever the metadata says.
async fn believe(mut request: Request, next: Next) -> Response {
    let named = request
        .headers()
        .get("x-tenant-id")
        .and_then(|value| value.to_str().ok());
    let tenant = named.and_then(|text| text.parse().ok());
    let principal = authentication::caller(&request).unwrap().principal.clone();
    let deadline = request.extensions().get::<deadline::Deadline>().unwrap().at;
    let ctx = Ctx::new(RequestId::generate(), principal, tenant, deadline);
    request.extensions_mut().insert(ctx);
    next.run(request).await
}
