//! THE order of the layers, the same on both listeners.

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tower::ServiceBuilder;

use crate::layer::{
    authentication, authorisation, catch_panic, completion, deadline, load_shed, metadata_size, metrics, own_task,
    policy, quota, refusal, request_id, span, tenant,
};
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

/// The stack before users' and operators' calls.
///
/// `tasks`: where handlers run; to be closed and waited for when the server drains.
pub fn public(routes: Routes, security: Security, limits: Limits, tasks: TaskTracker) -> Router {
    stack(routes, Shared::new(Listener::Public, security, limits, tasks))
}

/// The stack before calls of other services. Its bounds are its own: calls from outside must not take the places of
/// the calls that they cause.
pub fn internal(routes: Routes, security: Security, limits: Limits, tasks: TaskTracker) -> Router {
    stack(routes, Shared::new(Listener::Internal, security, limits, tasks))
}

fn stack(routes: Routes, shared: Shared) -> Router {
    let shared = Arc::new(shared);
    let order = ServiceBuilder::new()
        // First, so that everything counts, what is refused at once too.
        .layer(from_fn(metrics::layer))
        // Every log line and every status from here on names the request.
        .layer(from_fn(request_id::layer))
        // Needs the request id; everything inside logs in it.
        .layer(from_fn(span::layer))
        // Outside of whatever may answer, so that no status leaves incomplete; inside the span, since it logs.
        .layer(from_fn(completion::layer))
        // Its answer is completed like any other. The layers outside run no code of others.
        .layer(from_fn(catch_panic::layer))
        // Before whatever reads metadata or keeps it while it waits.
        .layer(from_fn(metadata_size::layer))
        // Before anything that may wait: the place, auth's answer, the handler.
        .layer(from_fn_with_state(Arc::clone(&shared), deadline::layer))
        // Before anything that costs: a signature is 30 microseconds, rights may be a call to auth.
        .layer(from_fn_with_state(Arc::clone(&shared), load_shed::layer))
        // The checks below go by the policy. What it tells, that an RPC exists, reflection tells too.
        .layer(from_fn_with_state(Arc::clone(&shared), policy::layer))
        // Before any other check, so that who is not known learns nothing but that.
        .layer(from_fn_with_state(Arc::clone(&shared), authentication::layer))
        // Before any look-up: metadata that contradicts the token never reaches a cache or a database.
        .layer(from_fn_with_state(Arc::clone(&shared), tenant::layer))
        // Needs caller and tenant; outside of whatever may refuse them.
        .layer(from_fn_with_state(Arc::clone(&shared), refusal::layer))
        // Rights depend on caller and tenant; the first look-up of the call.
        .layer(from_fn_with_state(Arc::clone(&shared), authorisation::layer))
        // After the rights, so that no stranger spends a tenant's permits; before the work that they are for.
        .layer(from_fn_with_state(Arc::clone(&shared), quota::layer))
        // Last: only a handler's work must finish when the client has gone; checks may stop anywhere.
        .layer(from_fn_with_state(shared, own_task::layer));
    routes.prepare().into_axum_router().layer(order)
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
