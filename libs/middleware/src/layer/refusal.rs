//! Tells the audit log whom a call was refused: known callers who lacked a right, whoever said no, a layer or a handler. What is
//! damaged, unknown or beyond a bound is no refusal in this sense.

use axum::extract::Request;
use axum::response::Response;
use rowhouse_context::{Ctx, Principal, RequestId};
use rowhouse_status::{Failure, Reason, wire};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::layer::Next;
use crate::layer::policy::{self, Rule};
use crate::layer::tenant;
use crate::security::Refusal;
use crate::stack::Shared;

/// Tells of answers with PERMISSION_DENIED. A stream that has begun is not looked into: rights are judged before.
pub(crate) async fn layer<N: Next>(shared: &Shared, request: Box<Request>, next: N) -> Response<N::Body> {
    let (ctx, rule) = (request.extensions().get::<Ctx>().cloned(), policy::rule(&request).ok());
    let response = next.run(request).await;
    if let (Some(log), Some(ctx), Some(Rule::Policy(policy))) = (&shared.security.refusals, ctx, rule)
        && let Some(status) = Status::from_header_map(response.headers())
        && status.code() == Code::PermissionDenied
        && !matches!(ctx.principal(), Principal::Anonymous)
    {
        log.refused(Refusal {
            ctx,
            rpc: policy.path.trim_start_matches('/'),
            reason: wire::reason(&status).unwrap_or(Reason::PermissionMissing).as_info(),
            permission: policy.permission.map(str::to_owned),
            target: String::new(),
        });
    }
    response
}

/// Tells of a caller whom a layer outside of this one refuses, before there is a context: for a tenant that is not theirs, or an
/// RPC that is not for them.
pub(crate) fn tell(shared: &Shared, request: &Request, principal: &Principal, failure: &Failure) {
    let rule = policy::rule(request);
    let (Some(log), Ok(Rule::Policy(policy))) = (&shared.security.refusals, rule) else {
        return;
    };
    if wire::code(failure.reason()) != Code::PermissionDenied || matches!(principal, Principal::Anonymous) {
        return;
    }
    let id = request.extensions().get::<RequestId>().cloned();
    let id = id.unwrap_or_else(RequestId::generate);
    let address = tenant::address(request, shared.limits.trusted_hops);
    log.refused(Refusal {
        ctx: Ctx::new(id, principal.clone(), None, Instant::now()).with_origin(None, address),
        rpc: policy.path.trim_start_matches('/'),
        reason: failure.reason().as_info(),
        permission: policy.permission.map(str::to_owned),
        target: String::new(),
    });
}
