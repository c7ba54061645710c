//! Tells the audit log whom the call was refused: known callers who lacked a right, whoever said no, the stack or a
//! handler. What is damaged, unknown or beyond a bound is no refusal in this sense.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use rowhouse_context::{Ctx, Principal};
use rowhouse_status::{Reason, wire};
use tonic::{Code, Status};

use crate::layer::policy::{self, Rule};
use crate::security::Refusal;
use crate::stack::Shared;

/// Tells of answers with PERMISSION_DENIED. A stream that has begun is not looked into: rights are judged before.
pub(crate) async fn layer(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let Some(log) = shared.security.refusals.clone() else {
        return next.run(request).await;
    };
    let (ctx, rule) = (request.extensions().get::<Ctx>().cloned(), policy::rule(&request));
    let response = next.run(request).await;
    if let (Some(ctx), Ok(Rule::Policy(policy))) = (ctx, rule)
        && !matches!(ctx.principal(), Principal::Anonymous)
        && let Some(status) = Status::from_header_map(response.headers())
        && status.code() == Code::PermissionDenied
    {
        log.refused(Refusal {
            ctx,
            rpc: policy.path.trim_start_matches('/'),
            reason: wire::reason(&status).unwrap_or(Reason::PermissionMissing).as_info(),
            permission: policy.permission.map(str::to_owned),
        });
    }
    response
}
