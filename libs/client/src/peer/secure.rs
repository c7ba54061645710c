//! Connections over mutual TLS, with the certificates of the moment.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rowhouse_context::ServiceName;
use rowhouse_tls::{Certificates, ClientStream};
use tonic::transport::{Channel, Endpoint};
use tower::{BoxError, Service, ServiceExt as _, service_fn};

use super::CONNECT_MAX;

/// Longest time that new calls go over one connection: so much longer is a certificate honoured that has ended meanwhile.
const CHANNEL_MAX: Duration = Duration::from_secs(600);

/// The way to a service that shows a certificate.
#[derive(Debug)]
pub(super) struct SecureRoute {
    endpoint: Endpoint,
    to: ServiceName,
    certificates: Certificates,
    now: Mutex<Option<Now>>,
}

/// What calls go over at present.
#[derive(Debug)]
struct Now {
    channel: Channel,
    generation: u64,
    begun: Instant,
}

// === impl SecureRoute ===

impl SecureRoute {
    pub(super) fn new(endpoint: Endpoint, to: ServiceName, certificates: Certificates) -> Self {
        Self {
            endpoint,
            to,
            certificates,
            now: Mutex::default(),
        }
    }

    /// A channel whose other end was judged by the certificates of now. The one before it ends with its last call.
    pub(super) fn channel(&self) -> Channel {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        // Before anything is connected: what is replaced meanwhile makes the next call connect again.
        let generation = self.certificates.generation();
        if let Some(now) = &*now
            && now.generation == generation
            && now.begun.elapsed() < CHANNEL_MAX
        {
            return now.channel.clone();
        }
        let connector = connector(self.to, self.certificates.clone());
        let channel = self.endpoint.connect_with_connector_lazy(connector);
        *now = Some(Now {
            channel: channel.clone(),
            generation,
            begun: Instant::now(),
        });
        channel
    }
}

/// Opens connections to service `to`.
fn connector(
    to: ServiceName,
    certificates: Certificates,
) -> impl Service<
    Uri,
    Response = TokioIo<ClientStream>,
    Error = BoxError,
    Future = impl Future<Output = Result<TokioIo<ClientStream>, BoxError>> + Send,
> + Send
+ 'static {
    // As the channel's own: of several addresses each gets its part of the time.
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_MAX));
    service_fn(move |uri: Uri| {
        let (tcp, certificates) = (tcp.clone(), certificates.clone());
        async move {
            let stream = tcp.oneshot(uri).await?.into_inner();
            Ok(TokioIo::new(certificates.connect(to, stream).await?))
        }
    })
}
