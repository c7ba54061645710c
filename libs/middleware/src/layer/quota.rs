//! Whether the tenant's plan allows another call now. Members' calls only: an operator who looks into a tenant, and the
//! suite's own work for it, are not what its plan is about.

use axum::extract::Request;
use axum::response::Response;
use rowhouse_client::RateExceeded;
use rowhouse_context::{Ctx, Principal};
use rowhouse_status::Failure;
use rowhouse_types::TenantId;

use crate::answer;
use crate::layer::Next;
use crate::stack::{Listener, Shared};

/// Takes a permit for the call, or answers QUOTA_EXCEEDED. It waits for nothing.
pub(crate) async fn layer<N: Next>(shared: &Shared, request: Box<Request>, next: N) -> Response<N::Body> {
    let quotas = shared.security.quotas.as_ref();
    let quotas = quotas.filter(|_| shared.listener == Listener::Public);
    if let (Some(quotas), Some(tenant)) = (quotas, members_tenant(&request))
        && let Err(exceeded) = quotas.admit(tenant).await
    {
        metrics::counter!("rowhouse_calls_over_quota_total").increment(1);
        return answer::refuse(failure(tenant, exceeded));
    }
    next.run(request).await
}

fn members_tenant(request: &Request) -> Option<TenantId> {
    let ctx = request.extensions().get::<Ctx>()?;
    match ctx.principal() {
        Principal::Member { .. } => ctx.tenant_opt(),
        _ => None,
    }
}

fn failure(tenant: TenantId, exceeded: RateExceeded) -> Failure {
    Failure::quota(tenant, "requests_per_second", exceeded.requests_per_second).retry_after(exceeded.retry_after)
}
