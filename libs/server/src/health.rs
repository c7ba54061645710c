//! `grpc.health.v1`: the process as a whole (the empty name) serves while it runs; each service by its name serves
//! while it is ready. So a probe of liveness never restarts a process for its database.

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::services::Services;

/// Tells the health of one listener's services.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    reporter: HealthReporter,
    names: Vec<&'static str>,
}

// === impl Health ===

impl Health {
    /// Adds the health service to `services`. Nothing is ready yet.
    pub(crate) async fn add(services: Services) -> (Self, Services) {
        let reporter = HealthReporter::new();
        let names = services.names.clone();
        let health = Self {
            reporter: reporter.clone(),
            names: names.clone(),
        };
        health.set_ready(false).await;
        let server = HealthServer::new(HealthService::from_health_reporter(reporter));
        let services = Services {
            names,
            ..services.with(server)
        };
        (health, services)
    }

    /// Sets the health of every service by its name.
    pub(crate) async fn set_ready(&self, ready: bool) {
        for name in &self.names {
            self.reporter.set_service_status(name, status(ready)).await;
        }
    }

    /// Nothing serves any more: the process stops.
    pub(crate) async fn stop(&self) {
        self.set_ready(false).await;
        self.reporter.set_service_status("", status(false)).await;
    }
}

fn status(ready: bool) -> ServingStatus {
    if ready {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}
