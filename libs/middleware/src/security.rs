//! What the stack needs to know callers and their rights, and its bounds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rowhouse_auth_kit::{AccessTokenVerifier, ServiceVerifier};
use rowhouse_client::{KeysSource, Quotas, Rights, RightsError, RightsQuery, RightsSource};
use rowhouse_context::{Ctx, ServiceName};
use rowhouse_tls::Certificates;

/// What the stack needs to know callers and their rights. Cheap to clone.
#[derive(Clone)]
pub struct Security {
    /// The service that serves.
    pub service: ServiceName,
    /// Verifies users' tokens.
    pub tokens: Arc<AccessTokenVerifier>,
    /// Where the keys of `tokens` come from.
    pub keys: Arc<dyn KeysSource>,
    /// What users may do.
    pub rights: Arc<dyn RightsSource>,
    /// Verifies services' tokens.
    pub services: Arc<ServiceVerifier>,
    /// What services are met with on the internal listener; nobody speaks TLS there where absent.
    pub certificates: Option<Certificates>,
    /// Permits for calls of tenants' members; nobody is bounded where absent, as in a process that serves no members.
    pub quotas: Option<Quotas>,
    /// Where refusals are recorded, and that operators were let into tenants; nowhere where absent.
    pub refusals: Option<Arc<dyn RefusalLog>>,
}

/// A call that was refused: a known caller's, for want of a right or because what they show has ended, or an attempt to become one.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The call.
    pub ctx: Ctx,
    /// What was called: `rowhouse.crm.v1.ContactService/GetContact`.
    pub rpc: &'static str,
    /// Why, as in `google.rpc.ErrorInfo`.
    pub reason: &'static str,
    /// What the RPC needs.
    pub permission: Option<String>,
    /// Whom or what it was about, as the API writes its id; empty where nothing is named.
    pub target: String,
}

/// A platform operator's call in a tenant that was let in.
#[derive(Clone, Debug)]
pub struct Access {
    /// The call: who, in which tenant, and why.
    pub ctx: Ctx,
    /// What was called: `rowhouse.crm.v1.ContactService/ListContacts`.
    pub rpc: &'static str,
}

/// Where refusals go, and what else leaves no trace of its own. It takes them at once: the answer waits for nothing.
pub trait RefusalLog: Send + Sync {
    /// A call was refused.
    fn refused(&self, refusal: Refusal);

    /// An operator was let into a tenant.
    fn let_in(&self, access: Access);
}

/// Bounds of the stack.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls at once on one listener.
    pub concurrency_max: usize,
    /// Longest deadline that a client gets, and the one of a client that asks for none.
    pub deadline_max: Duration,
    /// Proxies of ours before the listener, each of which adds the address it was called from to `x-forwarded-for`.
    pub trusted_hops: usize,
}

/// Knows no users.
struct NoUsers;

// === impl Security ===

impl Security {
    /// For a process that serves services on their own behalf and no users, such as crm's `provision`: every token of a
    /// user is refused.
    #[must_use]
    pub fn services_only(
        service: ServiceName,
        services: Arc<ServiceVerifier>,
        certificates: Option<Certificates>,
    ) -> Self {
        Self {
            service,
            tokens: Arc::new(AccessTokenVerifier::new("")),
            keys: Arc::new(NoUsers),
            rights: Arc::new(NoUsers),
            services,
            certificates,
            quotas: None,
            refusals: None,
        }
    }
}

// === impl NoUsers ===

#[async_trait]
impl KeysSource for NoUsers {
    async fn refresh(&self) {}
}

#[async_trait]
impl RightsSource for NoUsers {
    async fn rights(&self, _: &Ctx, _: &RightsQuery) -> Result<Arc<Rights>, RightsError> {
        Err(RightsError::Unavailable("this process serves no users".to_owned()))
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}
