//! THE order of the layers, the same on both listeners.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tower::Service;

use crate::layer::{
    access, authentication, authorisation, catch_panic, completion, deadline, load_shed, metadata_size, metrics,
    own_task, policy, quota, refusal, request_id, span, tenant,
};
use crate::rpc;
use crate::security::{Limits, Security};

/// Which listener a stack stands before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    /// For users and operators: every audience but internal.
    Public,
    /// For services: internal RPCs, and the keys.
    Internal,
}

/// What the layers of one listener share.
pub(crate) struct Shared {
    pub(crate) listener: Listener,
    pub(crate) security: Security,
    pub(crate) limits: Limits,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
}

/// The stack before one listener's services. Cheap to clone.
#[derive(Clone)]
pub struct Stack {
    shared: Arc<Shared>,
    routes: Router,
}

/// The stack before users' and operators' calls.
///
/// `tasks`: the handlers' work, wherever it runs; to be closed and waited for when the server drains.
pub fn public(routes: Routes, security: Security, limits: Limits, tasks: TaskTracker) -> Stack {
    Stack::new(routes, Shared::new(Listener::Public, security, limits, tasks))
}

/// The stack before calls of other services. Its bounds are its own: calls from outside must not take the places of
/// the calls that they cause.
pub fn internal(routes: Routes, security: Security, limits: Limits, tasks: TaskTracker) -> Stack {
    Stack::new(routes, Shared::new(Listener::Internal, security, limits, tasks))
}

/// Answers a call: THE order, from the inside, where the services are, outwards.
async fn answer(shared: &Shared, routes: Router, request: Box<Request>) -> Response {
    // Once for all layers that go by it.
    let rpc = rpc::identify(request.uri().path());
    let services = |request| serve(routes, request);
    // Innermost: only a handler's work must finish when the client has gone; checks may stop anywhere.
    let next = move |request| own_task::layer(shared, request, services);
    // After the rights, so that no stranger spends a tenant's permits; before the work that they are for.
    let next = move |request| quota::layer(shared, request, next);
    // After the rights: who is refused was not let in.
    let next = move |request| access::layer(shared, request, next);
    // Rights depend on caller and tenant; the first look-up of the call.
    let next = move |request| authorisation::layer(shared, request, next);
    // Needs caller and tenant; outside of whatever may refuse them.
    let next = move |request| refusal::layer(shared, request, next);
    // Before any look-up: metadata that contradicts the token never reaches a cache or a database.
    let next = move |request| tenant::layer(shared, request, next);
    // Before any other check, so that who is not known learns nothing but that.
    let next = move |request| authentication::layer(shared, request, next);
    // The checks inside go by the policy. What it tells, that an RPC exists, reflection tells too.
    // Boxed, so that what lies inside is not moved from layer to layer on the way in; and as any future at all, because the
    // compiler takes four times as long over the one type that all layers would be.
    let next = move |request| -> BoxFuture<'_, Response<_>> { Box::pin(policy::layer(shared, rpc, request, next)) };
    // Before anything that costs: a signature is 30 microseconds, rights may be a call to auth.
    let next = move |request| load_shed::layer(shared, rpc, request, next);
    // Before anything that may wait: the place, auth's answer, the handler.
    let next = move |request| deadline::layer(shared, request, next);
    // Before whatever reads metadata or keeps it while it waits.
    let next = move |request| metadata_size::layer(request, next);
    // Its answer is completed like any other. The layers outside run no code of others.
    let next = move |request| catch_panic::layer(request, next);
    // Outside of whatever may answer, so that no status leaves incomplete; inside the span, since it logs.
    let next = move |request| completion::layer(request, next);
    // Needs the request id; everything inside logs in it.
    let next = move |request| span::layer(rpc, request, next);
    // Every log line and every status inside names the request.
    let next = move |request| request_id::layer(request, next);
    // Outermost, so that everything counts, what is refused at once too.
    metrics::layer(rpc, request, next).await.map(Body::new)
}

/// The service that the path names.
async fn serve(mut routes: Router, request: Box<Request>) -> Response {
    match routes.call(*request).await {
        Ok(response) => response,
    }
}

// === impl Stack ===

impl Stack {
    fn new(routes: Routes, shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
            routes: routes.prepare().into_axum_router(),
        }
    }
}

impl Service<Request> for Stack {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Self { shared, routes } = self.clone();
        let request = Box::new(request);
        Box::pin(async move { Ok(answer(&shared, routes, request).await) })
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("listener", &self.shared.listener)
            .finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(listener: Listener, security: Security, limits: Limits, tasks: TaskTracker) -> Self {
        Self {
            listener,
            security,
            limits,
            places: Arc::new(Semaphore::new(limits.concurrency_max.min(Semaphore::MAX_PERMITS))),
            tasks,
        }
    }
}
