//! The record of every change, written in the change's own transaction.
//!
//! Entries hold ids, kinds and states; never a secret, an address or a cell of a report.

mod store;

use serde_json::Value;

pub(crate) use store::record;

/// What was done.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Such as `report.run`.
    pub(crate) action: &'static str,
    /// Id of what it was done to.
    pub(crate) target: String,
    pub(crate) after: Value,
    /// `done` or `failed`.
    pub(crate) outcome: &'static str,
}
