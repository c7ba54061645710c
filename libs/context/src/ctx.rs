//! The context of one call or job.

use std::sync::Arc;
use std::time::Duration;

use rowhouse_types::TenantId;
use tokio::time::Instant;

use crate::{Principal, Reach, RequestId};

/// The context of one call or job: cheap to clone, never changed once made.
#[derive(Clone, Debug)]
pub struct Ctx {
    inner: Arc<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    request_id: RequestId,
    principal: Principal,
    tenant: Option<TenantId>,
    deadline: Instant,
    reason: Option<String>,
    address: Option<String>,
    reach: Reach,
}

/// An action for a tenant was called without one. The stack in front of the services makes this impossible; it is an
/// error and not a panic because a mistake there must refuse and not crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the call names no tenant")]
pub struct NoTenant;

// === impl Ctx ===

impl Ctx {
    /// A context.
    ///
    /// `tenant`: the tenant to act in, already compared with the principal. `deadline`: when the caller stops waiting.
    #[must_use]
    pub fn new(request_id: RequestId, principal: Principal, tenant: Option<TenantId>, deadline: Instant) -> Self {
        Self {
            inner: Arc::new(Inner {
                request_id,
                principal,
                tenant,
                deadline,
                reason: None,
                address: None,
                reach: Reach::nobody(),
            }),
        }
    }

    /// The same context with why a platform operator calls, and from which address the call came; both for
    /// the audit log.
    #[must_use]
    pub fn with_origin(self, reason: Option<String>, address: Option<String>) -> Self {
        self.changed(|inner| {
            inner.reason = reason;
            inner.address = address;
        })
    }

    /// The same context with whose records the call may reach. Without this it is nobody's: a call that nobody has
    /// judged reaches nothing.
    #[must_use]
    pub fn with_reach(self, reach: Reach) -> Self {
        self.changed(|inner| inner.reach = reach)
    }

    fn changed(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.inner));
        self
    }

    /// The id under which the call is logged, traced and audited everywhere.
    #[must_use]
    pub fn request_id(&self) -> &RequestId {
        &self.inner.request_id
    }

    /// The caller.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.inner.principal
    }

    /// The tenant to act in.
    ///
    /// # Errors
    /// [`NoTenant`] for calls that are not for a tenant.
    pub fn tenant(&self) -> Result<TenantId, NoTenant> {
        self.inner.tenant.ok_or(NoTenant)
    }

    /// The tenant to act in, where there is one.
    #[must_use]
    pub fn tenant_opt(&self) -> Option<TenantId> {
        self.inner.tenant
    }

    /// When the caller stops waiting.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.inner.deadline
    }

    /// How long the caller still waits; zero when the deadline has passed.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.inner.deadline.saturating_duration_since(Instant::now())
    }

    /// Why a platform operator calls: always said where they act in a tenant.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.inner.reason.as_deref()
    }

    /// Whose records the call may reach.
    #[must_use]
    pub fn reach(&self) -> &Reach {
        &self.inner.reach
    }

    /// The network address the call came from.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.inner.address.as_deref()
    }
}
