//! The serving process: three listeners, and an end in good order.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use rowhouse_config::section::Listen;
use rowhouse_context::ServiceName;
use rowhouse_middleware::{Limits, Security, stack};
use rowhouse_telemetry::metrics::Metrics;
use rowhouse_tls::Certificates;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::health::Health;
use crate::listener::Listener;
use crate::readiness::{Checks, Readiness};
use crate::services::Services;
use crate::{admin, reflection};

/// Which part of the drain is spent waiting, so that load balancers see NOT_SERVING before connections close.
const NOTICE_PART: u32 = 10;

/// A serving process, as wired by a service's `app.rs`.
#[must_use = "it serves only when run"]
pub struct Server {
    service: ServiceName,
    listen: Listen,
    security: Security,
    public: Option<Services>,
    internal: Option<Services>,
    metrics: Option<Metrics>,
    checks: Checks,
}

/// What a server listens on.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) public: Option<TcpListener>,
    pub(crate) internal: Option<TcpListener>,
    pub(crate) admin: TcpListener,
}

/// The process cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {fault}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        fault: std::io::Error,
    },
    /// The descriptors of reflection cannot be read.
    #[error("reflection cannot be set up: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

// === impl Server ===

impl Server {
    /// A server of `service` that serves nothing yet.
    pub fn new(service: ServiceName, listen: &Listen, security: Security) -> Self {
        Self {
            service,
            listen: listen.clone(),
            security,
            public: None,
            internal: None,
            metrics: None,
            checks: Checks::default(),
        }
    }

    /// The services for users and operators. Without them there is no public listener.
    pub fn public(mut self, services: Services) -> Self {
        self.public = Some(services);
        self
    }

    /// The services for other services. Without them there is no internal listener.
    pub fn internal(mut self, services: Services) -> Self {
        self.internal = Some(services);
        self
    }

    /// The recorder whose metrics `/metrics` shows.
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// A check without which the process is not ready. It is run every second and has 2 s; the text of a failure goes
    /// to the logs.
    pub fn ready<F, Fut>(mut self, name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.checks.add(name, check);
        self
    }

    /// Serves until `stop` is cancelled, then ends in good order: NOT_SERVING, a moment for load balancers to see it,
    /// no new calls, the running ones finished; all within the configured drain, after which what is left is cut.
    ///
    /// # Errors
    /// [`Error`] where it cannot begin; nothing is left running then.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let sockets = self.bind().await?;
        self.run_on(sockets, stop).await
    }

    pub(crate) async fn bind(&self) -> Result<Sockets, Error> {
        Ok(Sockets {
            public: bind_if(self.public.is_some(), self.listen.public).await?,
            internal: bind_if(self.internal.is_some(), self.listen.internal).await?,
            admin: bind(self.listen.admin).await?,
        })
    }

    pub(crate) async fn run_on(self, sockets: Sockets, stop: CancellationToken) -> Result<(), Error> {
        let closing = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (publish, readiness) = Readiness::channel(stop.clone());
        let limits = Limits {
            concurrency_max: self.listen.concurrency_max,
            deadline_max: self.listen.deadline_max,
            trusted_hops: self.listen.trusted_hops,
        };

        let mut healths = Vec::new();
        let mut listeners = JoinSet::new();
        if let (Some(services), Some(socket)) = (self.public, sockets.public) {
            let (health, services) = Health::add(reflection::add(services)?).await;
            let stack = stack::public(services.routes, self.security.clone(), limits, tasks.clone());
            // Users come through whatever ends their TLS, and have no certificate to show.
            let listener = Listener::new("public", stack, None, limits.deadline_max);
            listeners.spawn(listener.serve(socket, closing.clone()));
            healths.push(health);
        }
        if let (Some(services), Some(socket)) = (self.internal, sockets.internal) {
            let (health, services) = Health::add(services).await;
            let stack = stack::internal(services.routes, self.security.clone(), limits, tasks.clone());
            let certificates = self.security.certificates.clone();
            let listener = Listener::new("internal", stack, certificates, limits.deadline_max);
            listeners.spawn(listener.serve(socket, closing.clone()));
            healths.push(health);
        }
        tracing::info!(
            service = %self.service, public = %self.listen.public, internal = %self.listen.internal,
            admin = %self.listen.admin, "serving"
        );

        let admin = admin::router(readiness.clone(), self.metrics.clone());
        let beside = async {
            tokio::join!(
                serve_admin(sockets.admin, admin),
                self.checks.run(&publish),
                follow(&healths, readiness),
                upkeep(self.metrics.as_ref()),
                renew(self.security.certificates.as_ref())
            );
        };
        let serving = async {
            stop.cancelled().await;
            drain(&healths, &mut listeners, &closing, &tasks, self.listen.drain).await;
        };
        tokio::select! {
            () = serving => {}
            // None of them ends by itself.
            () = beside => {}
        }
        Ok(())
    }
}

async fn bind_if(wanted: bool, address: SocketAddr) -> Result<Option<TcpListener>, Error> {
    if wanted {
        bind(address).await.map(Some)
    } else {
        Ok(None)
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|fault| Error::Listen { address, fault })
}

async fn serve_admin(listener: TcpListener, router: Router) {
    if let Err(fault) = axum::serve(listener, router).await {
        tracing::error!(cause = %fault, "the admin port failed");
    }
    std::future::pending().await
}

async fn upkeep(metrics: Option<&Metrics>) {
    match metrics {
        Some(metrics) => metrics.run(std::future::pending()).await,
        None => std::future::pending().await,
    }
}

async fn renew(certificates: Option<&Certificates>) {
    match certificates {
        Some(certificates) => certificates.run().await,
        None => std::future::pending().await,
    }
}

/// Tells health what readiness says, whenever that changes.
async fn follow(healths: &[Health], mut readiness: Readiness) {
    let mut told = false;
    loop {
        let ready = readiness.is_ready();
        if ready != told {
            for health in healths {
                health.set_ready(ready).await;
            }
            told = ready;
        }
        readiness.changed().await;
    }
}

async fn drain(
    healths: &[Health],
    listeners: &mut JoinSet<()>,
    closing: &CancellationToken,
    tasks: &TaskTracker,
    bound: Duration,
) {
    let until = Instant::now() + bound;
    for health in healths {
        health.stop().await;
    }
    sleep(bound / NOTICE_PART).await;
    closing.cancel();
    tasks.close();
    let finished = async {
        while listeners.join_next().await.is_some() {}
        tasks.wait().await;
    };
    match timeout_at(until, finished).await {
        Ok(()) => tracing::info!("every call was finished"),
        Err(_) => tracing::warn!(handlers = tasks.len(), "calls that did not finish in time were cut"),
    }
}
