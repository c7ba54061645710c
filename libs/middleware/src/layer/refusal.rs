//! Tells the audit log whom a call was refused, whoever said no, a layer or a handler: known callers who lacked a right, and
//! whoever uses what has ended. What is damaged, unknown or beyond a bound is no refusal in this sense.
//!
//! Only who has shown a token that verified is told of: this layer stands inside of authentication, and [`tell`] is handed a
//! principal. Where rights say that a token's key was revoked it is answered as one that does not hold, and is not told: it may be
//! anybody's who has the key. But until the published keys are read again, half a minute at most, such a token verifies, and what
//! it alone decides (TENANT_MISMATCH, AUDIENCE_MISMATCH, IMPERSONATION_FORBIDS) is answered before rights are asked. So until then
//! whoever has the key can have these told in another's name.

use axum::extract::Request;
use axum::response::Response;
use rowhouse_context::{Ctx, Principal, RequestId};
use rowhouse_proto::policy::Policy;
use rowhouse_status::{Failure, Reason, wire};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::layer::Next;
use crate::layer::policy::{self, Rule};
use crate::layer::tenant;
use crate::rpc::Rpc;
use crate::security::Refusal;
use crate::stack::Shared;

/// What is told beside PERMISSION_DENIED: a session, an account or an API key that has ended and is used, perhaps by a thief; and a
/// session in which a second factor was not shown, which may be one of who has the password alone.
const NO_LONGER_GOOD: [Reason; 2] = [Reason::SessionRevoked, Reason::SecondFactorNotShown];

/// Tells of answers that are refusals. A stream that has begun is not looked into: rights are judged before.
pub(crate) async fn layer<N: Next>(shared: &Shared, request: Box<Request>, next: N) -> Response<N::Body> {
    let (ctx, rule) = (request.extensions().get::<Ctx>().cloned(), policy::rule(&request).ok());
    let response = next.run(request).await;
    if let (Some(log), Some(ctx), Some(Rule::Policy(policy))) = (&shared.security.refusals, ctx, rule)
        && let Some(status) = Status::from_header_map(response.headers())
        && let Some(reason) = reason(&status)
        && !matches!(ctx.principal(), Principal::Anonymous)
    {
        log.refused(refusal(told_to(ctx, reason), policy, reason));
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
    if !is_told(failure.reason()) || matches!(principal, Principal::Anonymous) {
        return;
    }
    let id = request.extensions().get::<RequestId>().cloned();
    let id = id.unwrap_or_else(RequestId::generate);
    let address = tenant::address(request, shared.limits.trusted_hops);
    let ctx = Ctx::new(id, principal.clone(), None, Instant::now()).with_origin(None, address);
    log.refused(refusal(ctx, policy, failure.reason()));
}

/// Why an answer is a refusal, where it is one. A status that nobody gave a reason goes by its code.
fn reason(status: &Status) -> Option<Reason> {
    let bare = || (status.code() == Code::PermissionDenied).then_some(Reason::PermissionMissing);
    let reason = wire::reason(status).or_else(bare);
    reason.filter(|reason| is_told(*reason))
}

fn is_told(reason: Reason) -> bool {
    wire::code(reason) == Code::PermissionDenied || NO_LONGER_GOOD.contains(&reason)
}

/// The call, in the log that is to tell of it: a tenant's where the token names that tenant. An operator only says which, and
/// whoever holds what was one's must not write into every tenant's log: that stands in the platform's.
fn told_to(ctx: Ctx, reason: Reason) -> Ctx {
    match ctx.principal() {
        Principal::Operator { .. } if NO_LONGER_GOOD.contains(&reason) => {
            let (why, address) = (ctx.reason().map(str::to_owned), ctx.address().map(str::to_owned));
            Ctx::new(ctx.request_id().clone(), ctx.principal().clone(), None, ctx.deadline()).with_origin(why, address)
        }
        _ => ctx,
    }
}

fn refusal(ctx: Ctx, policy: &'static Policy, reason: Reason) -> Refusal {
    Refusal {
        ctx,
        rpc: Rpc::Suite(policy).name(),
        reason: reason.as_info(),
        permission: policy.permission.map(str::to_owned),
        target: String::new(),
    }
}
