//! Where a tenant's home is.

pub(crate) mod rpc;
pub(crate) mod store;

use rowhouse_context::ServiceName;
use rowhouse_types::{HomeState, Placement, ServerName, TenantId};

/// A tenant's place at one participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) tenant: TenantId,
    pub(crate) participant: ServiceName,
    pub(crate) server: ServerName,
    pub(crate) placement: Placement,
    /// Grows whenever the home moves.
    pub(crate) generation: i64,
    /// Version of the participant's tenant migrations.
    pub(crate) version: i32,
    pub(crate) state: HomeState,
    /// Transactions that its tenant may have at once, where the plan says so.
    pub(crate) transactions_max: Option<i32>,
}
