//! The stack without one of its layers. A test that passes with it as well guards nothing.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures_util::future::BoxFuture;
use rowhouse_context::{Ctx, RequestId};
use tower::{Service as _, service_fn};

use crate::layer::{
    Next, access, authentication, authorisation, catch_panic, completion, deadline, load_shed, own_task, policy, quota,
    refusal, request_id, tenant,
};
use crate::rpc;
use crate::stack::{Listener, Shared};
use crate::tests::wire::Stacked;
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
    Refusal,
    Authorisation,
    Access,
    Quota,
    OwnTask,
}

/// Whatever lies inside, as one type: with a layer and without.
type Inside<'a> = Box<dyn FnOnce(Box<Request>) -> BoxFuture<'a, Response> + Send + 'a>;

/// The stack of [`crate::stack`] without one layer.
pub(super) fn stack(world: &World, listener: Listener, without: Without) -> impl Stacked {
    let shared = Arc::new(world.shared(listener));
    let routes = world.routes().into_axum_router();
    service_fn(move |request| answer(shared.clone(), routes.clone(), without, request))
}

async fn answer(
    shared: Arc<Shared>,
    mut routes: Router,
    without: Without,
    request: Request,
) -> Result<Response, Infallible> {
    let shared = &*shared;
    let rpc = rpc::identify(request.uri().path());
    let services = |request: Box<Request>| async move { routes.call(*request).await.unwrap() };
    macro_rules! unless {
        ($layer:ident, $next:ident, $make:expr) => {
            if without == Without::$layer {
                inside($next)
            } else {
                inside($make)
            }
        };
    }
    let next = unless!(OwnTask, services, move |request| own_task::layer(
        shared, request, services
    ));
    let next = unless!(Quota, next, move |request| quota::layer(shared, request, next));
    let next = unless!(Access, next, move |request| access::layer(shared, request, next));
    let next = unless!(Authorisation, next, move |request| authorisation::layer(
        shared, request, next
    ));
    let next = unless!(Refusal, next, move |request| refusal::layer(shared, request, next));
    let next = if without == Without::Tenant {
        inside(move |request| believe(request, next))
    } else {
        inside(move |request| tenant::layer(shared, request, next))
    };
    let next = unless!(Authentication, next, move |request| authentication::layer(
        shared, request, next
    ));
    let next = unless!(Policy, next, move |request| policy::layer(shared, rpc, request, next));
    let next = unless!(LoadShed, next, move |request| load_shed::layer(
        shared, rpc, request, next
    ));
    let next = move |request| deadline::layer(shared, request, next);
    let next = unless!(CatchPanic, next, move |request| catch_panic::layer(request, next));
    let next = unless!(Completion, next, move |request| completion::layer(request, next));
    let next = unless!(RequestId, next, move |request| request_id::layer(request, next));
    Ok(next.run(Box::new(request)).await.map(Body::new))
}

fn inside<'a>(next: impl Next + 'a) -> Inside<'a> {
    Box::new(|request| Box::pin(async move { next.run(request).await.map(Body::new) }))
}

/// In the place of the tenant's layer: believes whatever the metadata says.
async fn believe<N: Next>(mut request: Box<Request>, next: N) -> Response<N::Body> {
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
