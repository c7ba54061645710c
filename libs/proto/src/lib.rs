//! The suite's contract as Rust: generated messages, clients and servers, their descriptors, and the policy of every
//! RPC.
//!
//! - [`common`], [`tenant`], [`auth`], [`crm`], [`worker`]: generated from `proto/rowhouse`.
//! - [`policy`]: what each RPC needs of its caller, generated from the method options.
//! - [`timestamp`]: times as messages.
//! - [`codec`]: decodes strictly; a damaged message is the caller's fault, not ours.

pub mod codec;
pub mod policy;
mod reason;
mod time;

pub use prost_types as well_known;
pub use time::timestamp;

/// Every message, service and option of the suite with their imports, for reflection and for tests that walk all
/// RPCs.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

macro_rules! generated {
    ($($(#[$doc:meta])* $room:ident: $package:literal;)*) => {$(
        $(#[$doc])*
        pub mod $room {
            /// Version 1.
            #[expect(clippy::allow_attributes, reason = "generated code allows what it needs")]
            pub mod v1 {
                tonic::include_proto!($package);
            }
        }
    )*};
}

generated! {
    /// What all services share.
    common: "rowhouse.common.v1";
    /// Tenants and the directory.
    tenant: "rowhouse.tenant.v1";
    /// Identities, sessions, rights.
    auth: "rowhouse.auth.v1";
    /// Contacts.
    crm: "rowhouse.crm.v1";
    /// Reports.
    worker: "rowhouse.worker.v1";
}
