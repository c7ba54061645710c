//! What the stack needs to know callers and their rights, and its bounds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rowhouse_auth_kit::{AccessTokenVerifier, ServiceVerifier};
use rowhouse_client::{KeysSource, RightsSource};
use rowhouse_context::ServiceName;

/// What the stack needs to know callers and their rights. Cheap to clone.
#[derive(Clone)]
pub struct Security {
    /// The service that serves.
    pub service: ServiceName,
    /// Verifies users' tokens.
    pub tokens: Arc<AccessTokenVerifier>,
    /// Where the keys of `tokens` come from.
    pub keys: Arc<dyn KeysSource>,
    /// What users may do.
    pub rights: Arc<dyn RightsSource>,
    /// Verifies services' tokens.
    pub services: Arc<ServiceVerifier>,
}

/// Bounds of the stack.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls at once on one listener.
    pub concurrency_max: usize,
    /// Longest deadline that a client gets, and the one of a client that asks for none.
    pub deadline_max: Duration,
}

// === impl Security ===

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}
