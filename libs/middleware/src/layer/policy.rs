//! Finds what the RPC needs of its caller. Deny by default: no policy, no call.

use axum::extract::Request;
use axum::response::Response;
use rowhouse_proto::policy::{Audience, Policy};
use rowhouse_status::{Failure, Reason};

use crate::answer;
use crate::layer::Next;
use crate::rpc::Rpc;
use crate::stack::{Listener, Shared};

/// The one RPC outside [`Audience::Internal`] that the internal listener serves: services need the keys before they can
/// verify anything, and have no way to the public listener.
const KEYS: &str = "/rowhouse.auth.v1.AuthService/GetJwks";

/// What the layers inside go by, in the request's extensions. A call without one is refused there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Health and reflection: they tell nothing about anybody.
    Open,
    /// The policy of an RPC of the suite.
    Policy(&'static Policy),
}

/// Finds the rule, or answers METHOD_UNKNOWN. An RPC that this listener does not serve is answered as if it did not
/// exist.
pub(crate) async fn layer<N: Next>(shared: &Shared, rpc: Rpc, mut request: Box<Request>, next: N) -> Response<N::Body> {
    let rule = match (rpc, shared.listener) {
        (Rpc::HealthCheck | Rpc::HealthOther, _) | (Rpc::Reflection, Listener::Public) => Some(Rule::Open),
        (Rpc::Suite(policy), Listener::Public) => {
            (policy.audience != Audience::Internal).then_some(Rule::Policy(policy))
        }
        (Rpc::Suite(policy), Listener::Internal) => {
            (policy.audience == Audience::Internal || policy.path == KEYS).then_some(Rule::Policy(policy))
        }
        (Rpc::Reflection, Listener::Internal) | (Rpc::Unknown, _) => None,
    };
    match rule {
        Some(rule) => {
            request.extensions_mut().insert(rule);
            next.run(request).await
        }
        None => answer::refuse(Failure::new(Reason::MethodUnknown, "no such RPC here")),
    }
}

/// The rule that the layer found.
///
/// # Errors
/// INTERNAL where there is none: a layer that needs it was put before this one.
pub(crate) fn rule(request: &Request) -> Result<Rule, Failure> {
    let rule = request.extensions().get::<Rule>().copied();
    rule.ok_or_else(|| Failure::internal("a call passed the look-up of its policy without one"))
}
