//! Who calls. Users by access token on the public listener, services on the internal one: by the certificate of their
//! connection, else by a token of their own. Who shows both must be the same by both.
//!
//! `x-service-authorization` on the public listener is refused: no client has one to send, so somebody forges it or a
//! service is set up to call the wrong address. Other metadata that looks internal has no meaning anywhere.

use axum::extract::Request;
use axum::response::Response;
use http::HeaderMap;
use rowhouse_auth_kit::{KeyId, TokenError};
use rowhouse_context::{Principal, ServiceName};
use rowhouse_proto::policy::{Audience, Policy};
use rowhouse_status::{Failure, Reason};
use rowhouse_tls::PeerService;

use crate::answer;
use crate::credentials;
use crate::layer::Next;
use crate::layer::policy::{self, Rule};
use crate::layer::refusal;
use crate::security::Security;
use crate::stack::{Listener, Shared};

/// The caller, in the request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    /// The key that has signed their token, where they have shown one.
    pub(crate) key: Option<KeyId>,
}

/// Puts the [`Caller`] into the request's extensions, or answers why they are not known or not meant.
pub(crate) async fn layer<N: Next>(shared: &Shared, mut request: Box<Request>, next: N) -> Response<N::Body> {
    if let Err(Refused { failure, known }) = find_out(shared, &mut request).await {
        if let Some(principal) = known {
            refusal::tell(shared, &request, &principal, &failure);
        }
        return answer::refuse(failure);
    }
    next.run(request).await
}

async fn find_out(shared: &Shared, request: &mut Request) -> Result<(), Refused> {
    let caller = match policy::rule(request)? {
        Rule::Open => Principal::Anonymous.into(),
        Rule::Policy(policy) => {
            let shown = request.extensions().get().copied();
            authenticate(shared, policy, request.headers(), shown).await?
        }
    };
    request.extensions_mut().insert(caller);
    Ok(())
}

/// Why a caller is refused, and who they are where that is known.
struct Refused {
    failure: Failure,
    known: Option<Principal>,
}

/// The caller that the layer found.
///
/// # Errors
/// INTERNAL where there is none: a layer that needs it was put before this one.
pub(crate) fn caller(request: &Request) -> Result<&Caller, Failure> {
    let caller = request.extensions().get::<Caller>();
    caller.ok_or_else(|| Failure::internal("a call passed authentication without a caller"))
}

async fn authenticate(
    shared: &Shared,
    policy: &Policy,
    headers: &HeaderMap,
    shown: Option<PeerService>,
) -> Result<Caller, Refused> {
    if shared.listener == Listener::Public && credentials::sends_service(headers) {
        let failure = Failure::new(
            Reason::MetadataInvalid,
            "x-service-authorization is not taken on the public listener",
        );
        return Err(failure.into());
    }
    match policy.audience {
        Audience::Public => Ok(Principal::Anonymous.into()),
        Audience::Internal => authenticate_service(shared, policy, headers, shown).await,
        Audience::Tenant | Audience::OneSelf => {
            let caller = user(shared, headers).await?;
            match caller.principal {
                Principal::Member { .. } | Principal::Operator { .. } | Principal::Impersonated { .. } => Ok(caller),
                other => Err(not_meant("a service's token for a job is not taken here").of(other)),
            }
        }
        Audience::Platform => {
            let caller = user(shared, headers).await?;
            match caller.principal {
                Principal::Operator { .. } => Ok(caller),
                other => Err(not_meant("the RPC is for platform operators").of(other)),
            }
        }
    }
}

/// A service that the policy names; with a permission, on behalf of the user whose delegated token it sends too.
async fn authenticate_service(
    shared: &Shared,
    policy: &Policy,
    headers: &HeaderMap,
    shown: Option<PeerService>,
) -> Result<Caller, Refused> {
    let name = service(&shared.security, headers, shown)?;
    if !policy.callers.contains(&name.as_str()) {
        return Err(not_meant("the RPC is for other services"));
    }
    if policy.permission.is_none() {
        return Ok(Principal::Service { name }.into());
    }
    let caller = user(shared, headers).await?;
    if acts_for_user(&caller.principal, name) {
        Ok(caller)
    } else {
        Err(not_meant("the RPC needs a token that was issued to the calling service").of(caller.principal))
    }
}

/// The service that calls, by whatever it shows.
fn service(security: &Security, headers: &HeaderMap, shown: Option<PeerService>) -> Result<ServiceName, Failure> {
    let verify = |token| {
        security
            .services
            .verify(token)
            .map_err(|_| credentials::service_invalid())
    };
    let told = match credentials::sends_service(headers) {
        true => Some(verify(credentials::service(headers)?)?),
        false => None,
    };
    match (shown, told) {
        (Some(PeerService(name)), None) | (None, Some(name)) => Ok(name),
        (Some(PeerService(name)), Some(told)) if name == told => Ok(name),
        _ => Err(credentials::service_invalid()),
    }
}

fn acts_for_user(principal: &Principal, caller: ServiceName) -> bool {
    matches!(principal, Principal::Delegate { service, .. } if *service == caller)
}

/// The user whose access token the caller sends. A token of an unknown key is tried once more with fresh keys.
async fn user(shared: &Shared, headers: &HeaderMap) -> Result<Caller, Failure> {
    let token = credentials::bearer(headers)?;
    let security = &shared.security;
    let mut verified = security.tokens.verify(token);
    if verified == Err(TokenError::UnknownKey) {
        security.keys.refresh().await;
        verified = security.tokens.verify(token);
    }
    match verified {
        Ok(verified) => Ok(Caller {
            principal: verified.principal,
            key: Some(verified.key),
        }),
        Err(TokenError::Malformed) => Err(credentials::malformed()),
        Err(TokenError::Expired) => Err(Failure::new(Reason::TokenExpired, "the access token has expired")),
        // Without any key nobody can tell whether the token holds: the client must not throw it away.
        Err(TokenError::UnknownKey) if security.tokens.key_count() == 0 => Err(Failure::unavailable(
            "auth service",
            "the keys of access tokens are not known",
        )),
        Err(TokenError::Invalid | TokenError::UnknownKey) => {
            Err(Failure::new(Reason::TokenInvalid, "the access token does not hold"))
        }
    }
}

// === impl Caller ===

impl From<Principal> for Caller {
    fn from(principal: Principal) -> Self {
        Self { principal, key: None }
    }
}

// === impl Refused ===

impl Refused {
    /// Of somebody who is known.
    fn of(self, principal: Principal) -> Self {
        Self {
            known: Some(principal),
            ..self
        }
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { failure, known: None }
    }
}

fn not_meant(message: &'static str) -> Refused {
    Failure::new(Reason::AudienceMismatch, message).into()
}
