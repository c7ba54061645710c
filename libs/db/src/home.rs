//! Where a tenant lives, and who knows.

use async_trait::async_trait;
use rowhouse_context::Ctx;
use rowhouse_types::{HomeState, Placement, ServerName, TenantId};

/// A tenant's place at one participant.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Home {
    /// The tenant.
    pub tenant: TenantId,
    /// The data server.
    pub server: ServerName,
    /// How the tenant's rows are kept apart.
    pub placement: Placement,
    /// Grows whenever the home moves; a transaction that names another one is refused.
    pub generation: i64,
    /// Version of the participant's tenant migrations that the home has.
    pub version: i32,
    /// What the home allows.
    pub state: HomeState,
    /// Transactions that the tenant may have at once over all processes, where its plan says so; only the directory knows. Where
    /// it shares lanes it has as many as they leave at most ([`Lanes::slots_max`](crate::Lanes::slots_max)).
    #[serde(default)]
    pub transactions_max: Option<u16>,
}

/// Why the directory does not say where a tenant lives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// There is no such tenant.
    #[error("the tenant is unknown")]
    TenantUnknown,
    /// The tenant has no home yet, or no longer.
    #[error("the tenant has no home")]
    NotReady,
    /// The directory does not answer.
    #[error("the directory does not answer: {0}")]
    Unavailable(String),
}

/// Where tenants live, as the tenant service says.
#[async_trait]
pub trait Directory: Send + Sync {
    /// The tenant's home.
    ///
    /// `fresh`: ask the tenant service and skip every cache; what was cached has turned out to be stale.
    ///
    /// # Errors
    /// [`DirectoryError`].
    async fn home(&self, ctx: &Ctx, tenant: TenantId, fresh: bool) -> Result<Home, DirectoryError>;
}
