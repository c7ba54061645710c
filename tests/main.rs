//! Everything that is tested on the suite as a whole. One binary: it links once.
//!
//! - [`house`]: rules about the code itself.
//! - [`journey`]: whole jobs, also with processes killed in the middle, also with the real grpcurl.
//! - [`isolation`]: nobody sees another tenant's byte; nobody acts with rights that were taken.
//! - [`authz`]: who may call what, as a reviewed snapshot.
//! - [`scopes`]: whose records each role reaches, as a reviewed snapshot.
//!
//! They run under `cargo xtask test`, which starts the servers.

mod authz;
mod house;
mod isolation;
mod journey;
mod scopes;
mod support;
