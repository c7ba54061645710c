//! Which tenant the call is for. Nothing is looked up here: the token and the metadata agree, or the call is refused.
//!
//! | RPC is for | caller | `x-tenant-id` |
//! |---|---|---|
//! | a tenant | member, operator as a member | absent, or the token's tenant |
//! | a tenant | platform operator | required, and `x-reason` |
//! | a tenant, internally | service for a user | absent, or the token's tenant |
//! | oneself | member | absent, or the token's tenant |
//! | oneself | platform operator | refused |
//! | the platform | platform operator | refused; `x-reason` may say why |
//! | the public, services | anyone | refused |

use axum::extract::Request;
use axum::response::Response;
use http::HeaderMap;
use rowhouse_context::{Ctx, Principal, RequestId, metadata};
use rowhouse_proto::policy::Audience;
use rowhouse_status::{Failure, Reason};
use rowhouse_types::{TenantId, Text};
use std::net::IpAddr;
use tonic::transport::server::TcpConnectInfo;

use crate::answer;
use crate::credentials::{Key, Once, once};
use crate::layer::Next;
use crate::layer::authentication;
use crate::layer::deadline::Deadline;
use crate::layer::policy::{self, Rule};
use crate::layer::refusal;
use crate::stack::Shared;

/// `x-tenant-id`.
static TENANT_ID: Key = Key::new(metadata::TENANT_ID, "x-tenant-id-bin");

/// Where proxies add the address that they were called from.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// What `x-reason` holds: the same as the field `reason` of requests, since both become part of the audit log.
type Why = Text<500>;

/// Puts the [`Ctx`] of the call into the request's extensions, or answers what is wrong with the tenant.
pub(crate) async fn layer<N: Next>(shared: &Shared, mut request: Box<Request>, next: N) -> Response<N::Body> {
    let ctx = match context(&request, shared.limits.trusted_hops) {
        Ok(ctx) => ctx,
        Err(failure) => {
            if let Ok(caller) = authentication::caller(&request) {
                refusal::tell(shared, &request, &caller.principal, &failure);
            }
            return answer::refuse(failure);
        }
    };
    request.extensions_mut().insert(ctx);
    next.run(request).await
}

fn context(request: &Request, trusted_hops: usize) -> Result<Ctx, Failure> {
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
    let ctx = Ctx::new(id.clone(), principal.clone(), tenant, deadline.at);
    Ok(ctx.with_origin(reason, address(request, trusted_hops)))
}

/// Where the call came from.
pub(crate) fn address(request: &Request, trusted_hops: usize) -> Option<String> {
    let peer = request.extensions().get::<TcpConnectInfo>();
    let peer = peer.and_then(TcpConnectInfo::remote_addr).map(|peer| peer.ip());
    let address = forwarded(request.headers(), trusted_hops).or(peer)?;
    Some(address.to_string())
}

/// The client's address, where so many proxies of ours have each added the one they were called from. What stands to the
/// left of that was sent by the client, who may write there what they like.
fn forwarded(headers: &HeaderMap, trusted_hops: usize) -> Option<IpAddr> {
    if trusted_hops == 0 {
        return None;
    }
    let values = headers.get_all(FORWARDED_FOR).iter();
    let texts: Vec<&str> = values.map(|value| value.to_str().unwrap_or_default()).collect();
    let added: Vec<&str> = texts.iter().flat_map(|text| text.split(',')).map(str::trim).collect();
    let at = added.len().checked_sub(trusted_hops)?;
    added.get(at)?.parse().ok()
}

/// The tenant to act in, and why an operator does.
pub(crate) fn scope(
    audience: Audience,
    principal: &Principal,
    headers: &HeaderMap,
) -> Result<(Option<TenantId>, Option<String>), Failure> {
    match (audience, principal) {
        (
            Audience::Tenant | Audience::OneSelf,
            Principal::Member { tenant, .. } | Principal::Impersonated { tenant, .. },
        )
        | (Audience::Internal, Principal::Delegate { tenant, .. }) => {
            match named_tenant(headers)? {
                Some(named) if named != *tenant => Err(Failure::new(
                    Reason::TenantMismatch,
                    "x-tenant-id names another tenant than the token",
                )),
                // The token decides; metadata that agrees adds nothing. Why an operator acts as a member, the entry of the
                // session's start says, so what they do names the session.
                _ => Ok((Some(*tenant), impersonation(principal))),
            }
        }
        (Audience::Tenant, Principal::Operator { .. }) => {
            let named = named_tenant(headers)?.ok_or_else(|| {
                Failure::new(
                    Reason::TenantRequired,
                    "a platform operator must name the tenant in x-tenant-id",
                )
            })?;
            let reason = reason(headers)?.ok_or_else(reason_required)?;
            Ok((Some(named), Some(reason)))
        }
        // What they change is audited with who and why, and most of these requests have no field for why.
        (Audience::Platform, Principal::Operator { .. }) => {
            no_tenant(headers)?;
            Ok((None, reason(headers)?))
        }
        _ => {
            no_tenant(headers)?;
            Ok((None, None))
        }
    }
}

fn no_tenant(headers: &HeaderMap) -> Result<(), Failure> {
    match once(headers, &TENANT_ID) {
        Once::Absent => Ok(()),
        _ => Err(Failure::new(
            Reason::TenantUnexpected,
            "the RPC is not for a tenant: x-tenant-id must not be sent",
        )),
    }
}

fn impersonation(principal: &Principal) -> Option<String> {
    match principal {
        Principal::Impersonated { session, .. } => Some(session.to_string()),
        _ => None,
    }
}

fn named_tenant(headers: &HeaderMap) -> Result<Option<TenantId>, Failure> {
    let parsed = match once(headers, &TENANT_ID) {
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

/// `x-reason`, which becomes part of the audit log; one that shows nothing says nothing. UTF-8 is taken, since operators write in
/// their own language.
fn reason(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let mut values = headers.get_all(metadata::REASON).iter();
    let text = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => std::str::from_utf8(value.as_bytes()).ok(),
        (Some(_), Some(_)) => None,
    };
    let Some(text) = text else {
        return Err(Failure::new(
            Reason::MetadataInvalid,
            "x-reason must be sent once, in UTF-8",
        ));
    };
    match Why::parse_optional(text) {
        Ok(why) => Ok((!why.as_str().is_empty()).then(|| why.to_string())),
        Err(fault) => Err(Failure::new(Reason::MetadataInvalid, format!("x-reason {fault}"))),
    }
}

fn reason_required() -> Failure {
    Failure::new(
        Reason::ReasonRequired,
        "a platform operator acting in a tenant must say why in x-reason",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_its_name_are_looked_for() {
        assert!(TENANT_ID.is_pair());
    }

    fn seen(values: &[&str], trusted_hops: usize) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        forwarded(&headers, trusted_hops).map(|address| address.to_string())
    }

    #[test]
    fn only_what_our_own_proxies_have_added_is_believed() {
        let told = ["198.51.100.1, 192.0.2.7", "10.0.0.3"];
        assert_eq!(seen(&told, 0), None, "without proxies nothing of it is");
        assert_eq!(seen(&told, 1).as_deref(), Some("10.0.0.3"));
        assert_eq!(
            seen(&told, 2).as_deref(),
            Some("192.0.2.7"),
            "the client wrote what stands to the left"
        );
        assert_eq!(
            seen(&told, 4),
            None,
            "fewer than there should be: the peer's address is all that is known"
        );
        assert_eq!(seen(&["2001:db8::1"], 1).as_deref(), Some("2001:db8::1"));
        for garbage in ["", "unknown", "192.0.2.7:443", "192.0.2.999"] {
            assert_eq!(seen(&[garbage], 1), None, "{garbage:?}");
        }
        assert_eq!(seen(&[], 1), None);
    }
}
