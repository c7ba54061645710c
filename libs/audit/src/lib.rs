//! Audit logs: who did what, and what shows that nobody has changed it since.
//!
//! - [`entry`]: [`Entry`], and the text of it that is hashed.
//! - [`seal`]: [`Seal`], a batch of entries and its place in the chain.
//! - [`check`]: [`Check`], what shows that a chain holds.
//! - [`log`]: [`AuditLog`], what every service's log does; [`Query`].
//! - [`store`]: [`ControlLog`], the logs in the control database. Those in tenants' homes are their service's.
//! - [`sealer`]: what seals entries within seconds.
//! - [`refusals`]: [`Refusals`], which writes what was refused and where operators were let in, and not more than a bound.
//! - [`rpc`]: [`AuditLogRpc`], a log for the service that merges them; [`wire`]: its messages.

pub mod check;
pub mod entry;
pub mod log;
pub mod refusals;
pub mod rpc;
pub mod seal;
pub mod sealer;
pub mod store;
pub mod wire;

pub use check::{Check, Fault, FaultKind, Place};
pub use entry::Entry;
pub use log::{AuditLog, Query};
pub use refusals::Refusals;
pub use rpc::AuditLogRpc;
pub use seal::{Batch, Chain, Hash, Head, Seal};
pub use store::{ControlLog, Table};
