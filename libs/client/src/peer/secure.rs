//! Connections over mutual TLS, with the certificates of the moment.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rowhouse_context::ServiceName;
use rowhouse_tls::{Certificates, ClientStream};
use tokio::time::Instant;
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

#[cfg(test)]
mod tests {
    use rowhouse_config::section::Tls;
    use rowhouse_devkit::authority::Authority;

    use super::*;

    /// When the channel that calls go over now was begun.
    fn begun(route: &SecureRoute) -> Instant {
        let _channel = route.channel();
        route.now.lock().unwrap().as_ref().unwrap().begun
    }

    #[tokio::test]
    async fn calls_go_over_a_new_connection_after_ten_minutes() {
        let (folder, ours) = (tempfile::tempdir().unwrap(), Authority::new("ours").unwrap());
        let issued = ours.issue(&["crm.rowhouse.internal"]).unwrap();
        let (folder, _root) = (folder.path().join("tls"), folder);
        issued.write(&folder, &[&ours]).unwrap();
        let section = Tls { folder, plain: false };
        let certificates = Certificates::load(ServiceName::Crm, &section).await.unwrap();
        let endpoint = Endpoint::from_static("http://127.0.0.1:1");
        let route = SecureRoute::new(endpoint, ServiceName::Auth, certificates);
        tokio::time::pause();
        let first = begun(&route);
        tokio::time::advance(CHANNEL_MAX - Duration::from_secs(1)).await;
        assert_eq!(begun(&route), first);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_ne!(begun(&route), first);
    }
}
