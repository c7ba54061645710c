//! Failures with reasons, turned into gRPC statuses in one place.
//!
//! - [`failure`]: [`Failure`], what an action answers when it does not succeed; knows no gRPC.
//! - [`violations`]: [`Violations`], collects what is wrong with the fields of a request.
//! - [`wire`]: the way from a [`Failure`] to a `tonic::Status`, and the completion of statuses that others made.

pub mod failure;
pub mod violations;
pub mod wire;

pub use failure::{Failure, Violation};
pub use rowhouse_proto::common::v1::ErrorReason as Reason;
pub use violations::Violations;
