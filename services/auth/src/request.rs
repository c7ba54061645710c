//! Calls that clients may repeat: the same request id gets the same answer for 24 hours.

mod store;

use rowhouse_types::TenantId;
use uuid::Uuid;

#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::{claim, prune};

/// A call that may be repeated.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) tenant: TenantId,
    pub(crate) method: &'static str,
    pub(crate) request: Uuid,
    /// SHA-256 of who asked for what.
    pub(crate) fingerprint: Vec<u8>,
    /// What the call makes, if it is the first.
    pub(crate) resource: Uuid,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claimed {
    /// The call is the first.
    First,
    /// The same call made this before.
    Repeated(Uuid),
    /// The request id was used for something else.
    Reused,
}
