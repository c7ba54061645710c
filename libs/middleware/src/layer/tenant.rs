//! Which tenant the call is for. Nothing is looked up here: the token and the metadata agree, or the call is refused.
//!
//! | RPC is for | caller | `x-tenant-id` |
//! |---|---|---|
//! | a tenant | member | absent, or the token's tenant |
//! | a tenant | platform operator | required, and `x-reason` |
//! | a tenant, internally | service for a user | absent, or the token's tenant |
//! | oneself | member | absent, or the token's tenant |
//! | oneself | platform operator | refused |
//! | the public, the platform, services | anyone | refused |

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use rowhouse_context::{Ctx, Principal, RequestId, metadata};
use rowhouse_proto::policy::Audience;
use rowhouse_status::{Failure, Reason};
use rowhouse_types::TenantId;
use tonic::transport::server::TcpConnectInfo;

use crate::answer;
use crate::credentials::{Once, once};
use crate::layer::authentication;
use crate::layer::deadline::Deadline;
use crate::layer::policy::{self, Rule};

/// Longest `x-reason`, in characters.
const REASON_CHARACTERS_MAX: usize = 500;

/// Puts the [`Ctx`] of the call into the request's extensions, or answers what is wrong with the tenant.
pub(crate) async fn layer(mut request: Request, next: Next) -> Response {
    match context(&request) {
        Ok(ctx) => {
            request.extensions_mut().insert(ctx);
            next.run(request).await
        }
        Err(failure) => answer::refuse(failure),
    }
}

fn context(request: &Request) -> Result<Ctx, Failure> {
    let extensions = request.extensions();
    let (Some(id), Some(deadline)) = (extensions.get::<RequestId>(), extensions.get::<Deadline>()) else {
        return Err(Failure::internal(
            "a call came to its tenant without request id or deadline",
        ));
    };
    let principal = &authentication::caller(request)?.principal;
    let (tenant, reason) = match policy::rule(request)? {
        Rule::Open => (None, None),
        Rule::Policy(policy) => scope(policy.audience, principal, request.headers())?,
    };
    let address = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    let ctx = Ctx::new(id.clone(), principal.clone(), tenant, deadline.at);
    Ok(ctx.with_origin(reason, address.map(|address| address.ip().to_string())))
}

/// The tenant to act in, and why an operator does.
pub(crate) fn scope(
    audience: Audience,
    principal: &Principal,
    headers: &HeaderMap,
) -> Result<(Option<TenantId>, Option<String>), Failure> {
    match (audience, principal) {
        (Audience::Tenant | Audience::OneSelf, Principal::Member { tenant, .. })
        | (Audience::Internal, Principal::Delegate { tenant, .. }) => {
            match named_tenant(headers)? {
                Some(named) if named != *tenant => Err(Failure::new(
                    Reason::TenantMismatch,
                    "x-tenant-id names another tenant than the token",
                )),
                // The token decides; metadata that agrees adds nothing.
                _ => Ok((Some(*tenant), None)),
            }
        }
        (Audience::Tenant, Principal::Operator { .. }) => {
            let named = named_tenant(headers)?.ok_or_else(|| {
                Failure::new(
                    Reason::TenantRequired,
                    "a platform operator must name the tenant in x-tenant-id",
                )
            })?;
            Ok((Some(named), Some(reason(headers)?)))
        }
        _ => match once(headers, metadata::TENANT_ID) {
            Once::Absent => Ok((None, None)),
            _ => Err(Failure::new(
                Reason::TenantUnexpected,
                "the RPC is not for a tenant: x-tenant-id must not be sent",
            )),
        },
    }
}

fn named_tenant(headers: &HeaderMap) -> Result<Option<TenantId>, Failure> {
    let parsed = match once(headers, metadata::TENANT_ID) {
        Once::Absent => return Ok(None),
        Once::Text(text) => text.parse().ok(),
        Once::Damaged => None,
    };
    parsed.map(Some).ok_or_else(|| {
        Failure::new(
            Reason::TenantMetadataInvalid,
            "x-tenant-id must be sent once: the id of a tenant",
        )
    })
}

/// `x-reason`, which becomes part of the audit log. UTF-8 is taken, since operators write in their own language.
fn reason(headers: &HeaderMap) -> Result<String, Failure> {
    let mut values = headers.get_all(metadata::REASON).iter();
    let text = match (values.next(), values.next()) {
        (None, _) => return Err(reason_required()),
        (Some(value), None) => std::str::from_utf8(value.as_bytes()).ok(),
        (Some(_), Some(_)) => None,
    };
    match text.map(str::trim) {
        Some("") => Err(reason_required()),
        Some(text) if text.chars().count() <= REASON_CHARACTERS_MAX && !text.chars().any(char::is_control) => {
            Ok(text.to_owned())
        }
        _ => Err(Failure::new(
            Reason::MetadataInvalid,
            "x-reason must be sent once: 1 to 500 characters, none of them a control character",
        )),
    }
}

fn reason_required() -> Failure {
    Failure::new(
        Reason::ReasonRequired,
        "a platform operator acting in a tenant must say why in x-reason",
    )
}
