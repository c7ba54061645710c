//! The audit log of the platform: who changed what, and why. Written in the transaction of the change.

mod store;

use serde_json::Value;
pub(crate) use store::record;

/// One entry.
pub(crate) struct Entry<'a> {
    /// What was done: `tenant.suspend`.
    pub(crate) action: &'static str,
    /// To what: a tenant's id, a server's name.
    pub(crate) target: &'a str,
    pub(crate) before: Value,
    pub(crate) after: Value,
    pub(crate) reason: Option<&'a str>,
    /// `done`, or `accepted` where an operation follows.
    pub(crate) outcome: &'static str,
}
