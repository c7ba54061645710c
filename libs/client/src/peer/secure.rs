//! Connections that a channel opens over mutual TLS, each with the certificates of that moment.

use std::io;

use http::Uri;
use hyper_util::rt::TokioIo;
use rowhouse_context::ServiceName;
use rowhouse_tls::{Certificates, ClientStream};
use tokio::net::TcpStream;
use tower::service_fn;

/// Opens connections to service `to`.
pub(super) fn connector(
    to: ServiceName,
    certificates: Certificates,
) -> impl tower::Service<
    Uri,
    Response = TokioIo<ClientStream>,
    Error = io::Error,
    Future = impl Future<Output = io::Result<TokioIo<ClientStream>>> + Send,
> + Send
+ 'static {
    service_fn(move |uri: Uri| {
        let certificates = certificates.clone();
        async move {
            let host = uri
                .host()
                .ok_or_else(|| io::Error::other("the address names no host"))?;
            // Brackets are of the URL (RFC 3986, 3.2.2) and not of the address.
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(certificates.connect(to, stream).await?))
        }
    })
}
