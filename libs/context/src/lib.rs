//! Who calls, for which tenant, under which request id and until when. Every action takes `&Ctx` first.
//!
//! - [`ctx`]: [`Ctx`].
//! - [`principal`]: [`Principal`], the caller as verified.
//! - [`metadata`]: names of the metadata keys.
//! - [`request_id`]: [`RequestId`].

pub mod ctx;
pub mod metadata;
pub mod principal;
pub mod request_id;

pub use ctx::{Ctx, NoTenant};
pub use principal::{Principal, ServiceName};
pub use request_id::RequestId;
