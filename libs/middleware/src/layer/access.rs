//! Tells the tenant's audit log that an operator was let in, and why. What they change there stands in entries of its own; of what
//! they read, this is all that does.

use axum::extract::Request;
use axum::response::Response;
use rowhouse_context::{Ctx, Principal};

use crate::layer::Next;
use crate::layer::policy::{self, Rule};
use crate::rpc::Rpc;
use crate::security::Access;
use crate::stack::Shared;

/// Tells of a call before it is answered, whatever becomes of it: whoever stops waiting may have seen something.
pub(crate) async fn layer<N: Next>(shared: &Shared, request: Box<Request>, next: N) -> Response<N::Body> {
    if let Some(log) = &shared.security.refusals
        && let Some(access) = access(&request)
    {
        log.let_in(access);
    }
    next.run(request).await
}

/// Who acts as a member is none: the start of their session says why, and they are the actor of what they do. Nor is a service that
/// works for an operator: the call that asked for the work was one.
fn access(request: &Request) -> Option<Access> {
    let (ctx, Rule::Policy(policy)) = (request.extensions().get::<Ctx>()?, policy::rule(request).ok()?) else {
        return None;
    };
    let is_inside = matches!(ctx.principal(), Principal::Operator { .. }) && ctx.tenant_opt().is_some();
    is_inside.then(|| Access {
        ctx: ctx.clone(),
        rpc: Rpc::Suite(policy).name(),
    })
}
