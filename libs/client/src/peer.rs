//! A channel to one service of the suite, which shows who calls.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use rowhouse_auth_kit::ServiceSigner;
use rowhouse_context::{ServiceName, metadata};
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::{BoxError, Service};

use crate::identity::Identity;

mod again;
mod secure;

use secure::SecureRoute;

/// Largest message that is taken from a peer or sent to one, in bytes. It is tonic's default for what is received; set
/// it with `max_encoding_message_size` where what is sent has no bound of its own.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Longest time to open a connection. Inside one network it takes milliseconds.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// How often an idle connection is probed, and how long an answer may take: a peer that vanished without a word is
/// noticed after 15 s, and not by the next caller's deadline.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(5);

const SERVICE_AUTHORIZATION: HeaderName = HeaderName::from_static(metadata::SERVICE_AUTHORIZATION);

/// Another service of the suite, at its internal listener. Cheap to clone; clones share the connection.
#[derive(Clone, Debug)]
pub struct Peer {
    name: ServiceName,
    own_name: ServiceName,
    channel: IdentifiedChannel,
}

/// A channel that shows who calls; for the generated clients.
#[derive(Debug)]
pub struct IdentifiedChannel {
    route: Route,
    /// What the next call goes over, once it was asked for.
    next: Option<Channel>,
}

/// How calls get there.
#[derive(Clone, Debug)]
enum Route {
    /// A token on every call says who calls.
    Plain {
        channel: Channel,
        audience: ServiceName,
        signer: ServiceSigner,
    },
    /// The connection does.
    Secure(Arc<SecureRoute>),
}

/// The peer cannot be called. Its address is not told: it may hold credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The address is not a URL.
    #[error("the address of {0} must be http://host:port or https://host:port")]
    Address(ServiceName),
    /// The address asks for TLS.
    #[error("the address of {0} begins with https, and ROWHOUSE_TLS_DIR is not set")]
    NoCertificates(ServiceName),
    /// The address does not, and tokens are not made.
    #[error("the address of {0} begins with http, and ROWHOUSE_TLS_MODE is strict")]
    NoToken(ServiceName),
}

/// What the schemes of an address mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// `http`: who calls is said by a token.
    Plain,
    /// `https`: by certificates, on both sides.
    Secure,
}

// === impl Peer ===

impl Peer {
    /// A peer. Nothing is connected until the first call, so that services may start in any order. To be called inside
    /// the runtime.
    ///
    /// `name`: who listens there; a token is for that service alone, and nobody else's certificate is taken. `addr`:
    /// `http://host:port` or `https://host:port` of its internal listener. `identity`: who we are.
    ///
    /// # Errors
    /// [`PeerError`] for an address that is not a URL, or needs what we do not have.
    pub fn connect(name: ServiceName, addr: &str, identity: &Identity) -> Result<Self, PeerError> {
        let (scheme, endpoint) = endpoint(addr, identity.name()).ok_or(PeerError::Address(name))?;
        let route = match scheme {
            Scheme::Secure => {
                let certificates = identity.certificates().ok_or(PeerError::NoCertificates(name))?;
                Route::Secure(Arc::new(SecureRoute::new(endpoint, name, certificates.clone())))
            }
            Scheme::Plain => Route::Plain {
                channel: endpoint.connect_lazy(),
                audience: name,
                signer: identity.signer().ok_or(PeerError::NoToken(name))?.clone(),
            },
        };
        Ok(Self {
            name,
            own_name: identity.name(),
            channel: IdentifiedChannel { route, next: None },
        })
    }

    /// Which service this is.
    #[must_use]
    pub fn name(&self) -> ServiceName {
        self.name
    }

    /// Which service we are.
    #[must_use]
    pub fn own_name(&self) -> ServiceName {
        self.own_name
    }

    /// The channel, for a generated client: `ContactServiceClient::new(peer.channel())`.
    #[must_use]
    pub fn channel(&self) -> IdentifiedChannel {
        self.channel.clone()
    }
}

// === impl Route ===

impl Route {
    fn channel(&self) -> Channel {
        match self {
            Self::Plain { channel, .. } => channel.clone(),
            Self::Secure(route) => route.channel(),
        }
    }
}

// === impl IdentifiedChannel ===

impl Clone for IdentifiedChannel {
    /// A copy is not ready because the original was. It holds on to no connection either, so that one whose certificates were
    /// replaced ends when its calls have.
    fn clone(&self) -> Self {
        Self {
            route: self.route.clone(),
            next: None,
        }
    }
}

impl Service<http::Request<Body>> for IdentifiedChannel {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let next = self.next.get_or_insert_with(|| self.route.channel());
        next.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Route::Plain { audience, signer, .. } = &self.route {
            match token(signer, *audience) {
                Ok(value) => drop(request.headers_mut().insert(SERVICE_AUTHORIZATION, value)),
                Err(error) => return Box::pin(std::future::ready(Err(error))),
            }
        }
        let channel = self.next.take().unwrap_or_else(|| self.route.channel());
        Box::pin(again::call(channel, request))
    }
}

fn token(signer: &ServiceSigner, audience: ServiceName) -> Result<HeaderValue, BoxError> {
    let mut value = HeaderValue::try_from(signer.token(audience)?)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Where to connect to, and how.
fn endpoint(addr: &str, own_name: ServiceName) -> Option<(Scheme, Endpoint)> {
    // The channel would do TLS of its own for `https`, with certificates that never change: ours is done beneath it.
    let (scheme, addr) = match addr.strip_prefix("https://") {
        Some(rest) => (Scheme::Secure, format!("http://{rest}")),
        None => (Scheme::Plain, addr.to_owned()),
    };
    let endpoint = Endpoint::from_shared(addr).ok()?;
    endpoint.uri().host()?;
    let endpoint = endpoint
        .user_agent(format!("rowhouse-{own_name}"))
        .ok()?
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_MAX)
        .keep_alive_while_idle(true);
    Some((scheme, endpoint))
}
