//! What the stack hands to the services, for their `rpc.rs`.

use std::sync::Arc;

use rowhouse_client::Rights;
use rowhouse_context::Ctx;
use rowhouse_status::Failure;
use tonic::Request;

/// The context of a call: verified caller, tenant, request id and deadline.
///
/// # Errors
/// INTERNAL where the call did not pass the stack. It cannot happen behind `rowhouse_server::Server`.
pub fn ctx<T>(request: &Request<T>) -> Result<Ctx, Failure> {
    let ctx = request.extensions().get::<Ctx>().cloned();
    ctx.ok_or_else(|| Failure::internal("a call did not pass the stack"))
}

/// What the caller may do, as checked for this call. `None` for public RPCs and for services on their own behalf.
#[must_use]
pub fn rights<T>(request: &Request<T>) -> Option<&Rights> {
    request.extensions().get::<Arc<Rights>>().map(Arc::as_ref)
}
