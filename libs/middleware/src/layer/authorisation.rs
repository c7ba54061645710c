//! Whether the caller may: their standing, and the permission that the RPC needs.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use rowhouse_client::{Rights, RightsError, RightsQuery, Standing, reach};
use rowhouse_context::{Ctx, Principal, Reach};
use rowhouse_proto::policy::{Audience, Policy};
use rowhouse_status::{Failure, Reason};
use rowhouse_types::UserId;

use crate::answer;
use crate::layer::Next;
use crate::layer::authentication;
use crate::layer::policy::{self, Rule};
use crate::stack::Shared;

/// Puts the caller's [`Rights`] into the request's extensions, and whose records they reach into its [`Ctx`]; or answers
/// what they lack. Public RPCs need none, nor do
/// services on their own behalf.
pub(crate) async fn layer<N: Next>(shared: &Shared, mut request: Box<Request>, next: N) -> Response<N::Body> {
    if let Err(failure) = judge(shared, &mut request).await {
        return answer::refuse(failure);
    }
    next.run(request).await
}

async fn judge(shared: &Shared, request: &mut Request) -> Result<(), Failure> {
    if let Some(need) = need(request)? {
        let (rights, reach) = need.rights(shared).await?;
        request.extensions_mut().insert(rights);
        request.extensions_mut().insert(need.ctx.with_reach(reach));
    }
    Ok(())
}

/// What must be known before the call may go on.
struct Need {
    policy: &'static Policy,
    ctx: Ctx,
    query: RightsQuery,
}

fn need(request: &Request) -> Result<Option<Need>, Failure> {
    let policy = match policy::rule(request)? {
        Rule::Open => return Ok(None),
        Rule::Policy(policy) => policy,
    };
    let ctx = request.extensions().get::<Ctx>().cloned();
    let ctx = ctx.ok_or_else(|| Failure::internal("a call came to its authorisation without a context"))?;
    let key = authentication::caller(request)?.key;
    let query = query(policy, &ctx)?.map(|query| RightsQuery { key, ..query });
    Ok(query.map(|query| Need { policy, ctx, query }))
}

// === impl Need ===

impl Need {
    async fn rights(&self, shared: &Shared) -> Result<(Arc<Rights>, Reach), Failure> {
        let rights = shared.security.rights.rights(&self.ctx, &self.query).await;
        let rights = rights.map_err(unknown)?;
        let reach = check(self.policy, self.query.user, &rights)?;
        Ok((rights, reach))
    }
}

/// What to ask auth about the caller, but for their token's key. The pairs that need nothing are listed; any other is refused.
fn query(policy: &Policy, ctx: &Ctx) -> Result<Option<RightsQuery>, Failure> {
    let tenant = ctx.tenant_opt();
    match (policy.audience, ctx.principal()) {
        (Audience::Public, Principal::Anonymous) => Ok(None),
        (Audience::Internal, Principal::Service { .. }) if policy.permission.is_none() => Ok(None),
        (Audience::Tenant | Audience::OneSelf, Principal::Member { user, session, .. }) => Ok(Some(RightsQuery {
            user: *user,
            session: Some(*session),
            tenant,
            platform: false,
            key: None,
            by: None,
        })),
        (Audience::OneSelf, Principal::Impersonated { .. }) => Err(not_as_another()),
        (Audience::Tenant, Principal::Impersonated { .. }) if policy.refuses_impersonation => Err(not_as_another()),
        (Audience::Tenant, Principal::Impersonated { user, session, by, .. }) => Ok(Some(RightsQuery {
            user: *user,
            session: Some(*session),
            tenant,
            platform: false,
            key: None,
            by: Some(*by),
        })),
        (Audience::Tenant | Audience::OneSelf | Audience::Platform, Principal::Operator { user, session }) => {
            Ok(Some(RightsQuery {
                user: *user,
                session: Some(*session),
                tenant,
                platform: true,
                key: None,
                by: None,
            }))
        }
        (Audience::Internal, Principal::Delegate { user, operator, .. }) => Ok(Some(RightsQuery {
            user: *user,
            session: None,
            tenant,
            platform: *operator,
            key: None,
            by: None,
        })),
        _ => Err(Failure::new(
            Reason::AudienceMismatch,
            "the RPC is for another kind of caller",
        )),
    }
}

fn not_as_another() -> Failure {
    Failure::new(
        Reason::ImpersonationForbids,
        "the RPC is not open to an operator who acts as somebody else",
    )
}

/// Whose records the caller reaches with what the RPC needs. One that needs no permission is about the caller alone.
fn check(policy: &Policy, user: UserId, rights: &Rights) -> Result<Reach, Failure> {
    match rights.standing {
        Standing::Good => {}
        Standing::Revoked => {
            return Err(Failure::new(
                Reason::SessionRevoked,
                "the session, the account or the membership has ended",
            ));
        }
        Standing::TenantSuspended => {
            return Err(Failure::new(Reason::TenantSuspended, "the tenant is suspended"));
        }
        Standing::TenantUnknown => {
            return Err(Failure::new(
                Reason::TenantNotReady,
                "there is no such tenant that is ready",
            ));
        }
        // As whoever has read the published keys since then would answer.
        Standing::KeyRevoked => {
            return Err(Failure::new(Reason::TokenInvalid, "the access token does not hold"));
        }
        // What is about the caller's own account is where they set one up.
        Standing::SecondFactorNotShown if policy.audience == Audience::OneSelf => {}
        Standing::SecondFactorNotShown => {
            return Err(Failure::new(
                Reason::SecondFactorNotShown,
                "the tenant asks for a second factor, which was not shown in this session",
            ));
        }
    }
    let Some(name) = policy.permission else {
        return Ok(Reach::owners([user]));
    };
    let known = rowhouse_proto::policy::permission(name);
    let reach = known.and_then(|permission| reach(&rights.grants, user, &rights.team, permission));
    reach.ok_or_else(|| {
        let failure = Failure::new(Reason::PermissionMissing, format!("the permission {name} is missing"));
        failure.with("permission", name)
    })
}

/// Rights that cannot be read are none: the call is refused, never let through.
fn unknown(error: RightsError) -> Failure {
    match error {
        RightsError::Unavailable(cause) => Failure::unavailable("auth service", cause),
        RightsError::DeadlineExceeded => Failure::new(
            Reason::DeadlineExceeded,
            "the deadline passed before the caller's rights were known",
        ),
    }
}
