//! Mutual TLS between the services.
//!
//! - [`certificates`]: what one service shows and whom it trusts, as the files say now.
//! - [`name`]: the name of a service in its certificate.
//! - [`PeerService`]: who is at the other end of a connection.

pub mod certificates;
mod files;
mod material;
pub mod name;

pub use certificates::{Certificates, ClientStream, Refused, Replaced, ServerStream};
pub use material::CertificateError;

/// The service that has shown its certificate on a connection. In the extensions of each of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerService(pub rowhouse_context::ServiceName);
