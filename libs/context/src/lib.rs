//! Who calls, for which tenant, under which request id and until when. Every action takes `&Ctx` first.
//!
//! - [`ctx`]: what [`Ctx`] holds.
//! - [`principal`]: the caller as verified.
//! - [`reach`]: whose records a call may reach.
//! - [`metadata`]: names of the metadata keys.
//! - [`request_id`]: the id of a call.

pub mod ctx;
pub mod metadata;
pub mod principal;
pub mod reach;
pub mod request_id;

pub use ctx::{Ctx, NoTenant};
pub use principal::{Impersonator, Principal, ServiceName};
pub use reach::{Owners, Reach};
pub use request_id::RequestId;
