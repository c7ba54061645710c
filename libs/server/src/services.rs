//! The gRPC services of one listener, with their names: health and reflection speak of each by name.

use std::convert::Infallible;

use axum::response::IntoResponse;
use http::Request;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower::Service;

/// Largest message in either direction, in bytes. It is tonic's default for what is received; services whose answers
/// have no smaller bound of their own set it with `max_encoding_message_size`.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The gRPC services of one listener.
#[derive(Clone, Debug, Default)]
pub struct Services {
    pub(crate) routes: Routes,
    pub(crate) names: Vec<&'static str>,
}

// === impl Services ===

impl Services {
    /// No services.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same services and this one: a generated server such as `ContactServiceServer::new(contacts)`.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.routes = self.routes.add_service(service);
        self.names.push(S::NAME);
        self
    }
}
