//! A channel to one service of the suite, which shows who calls.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use rowhouse_auth_kit::ServiceSigner;
use rowhouse_context::{ServiceName, metadata};
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::{BoxError, Service};

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
    channel: IdentifiedChannel,
}

/// A channel that adds this service's token to every call; for the generated clients.
#[derive(Clone, Debug)]
pub struct IdentifiedChannel {
    channel: Channel,
    audience: ServiceName,
    identity: ServiceSigner,
}

/// The peer's address is not a URL. It is not told: it may hold credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address of {peer} must be http://host:port")]
pub struct PeerError {
    peer: ServiceName,
}

// === impl Peer ===

impl Peer {
    /// A peer. Nothing is connected until the first call, so that services may start in any order. To be called inside
    /// the runtime.
    ///
    /// `name`: who listens there; the token is for that service alone. `addr`: `http://host:port` of its internal
    /// listener. `identity`: who we are.
    ///
    /// # Errors
    /// [`PeerError`] for an address that is not a URL.
    pub fn connect(name: ServiceName, addr: &str, identity: ServiceSigner) -> Result<Self, PeerError> {
        let fault = PeerError { peer: name };
        let endpoint = Endpoint::from_shared(addr.to_owned())
            .and_then(|endpoint| endpoint.user_agent(format!("rowhouse-{}", identity.name())))
            .map_err(|_| fault)?;
        if endpoint.uri().host().is_none() {
            return Err(fault);
        }
        let channel = endpoint
            .connect_timeout(CONNECT_MAX)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
            .keep_alive_timeout(KEEP_ALIVE_MAX)
            .keep_alive_while_idle(true)
            .connect_lazy();
        Ok(Self {
            name,
            channel: IdentifiedChannel {
                channel,
                audience: name,
                identity,
            },
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
        self.channel.identity.name()
    }

    /// The channel, for a generated client: `ContactServiceClient::new(peer.channel())`.
    #[must_use]
    pub fn channel(&self) -> IdentifiedChannel {
        self.channel.clone()
    }
}

// === impl IdentifiedChannel ===

impl Service<http::Request<Body>> for IdentifiedChannel {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let identified = self.identity.token(self.audience).map_err(BoxError::from);
        let value = identified.and_then(|token| HeaderValue::try_from(token).map_err(BoxError::from));
        match value {
            Ok(mut value) => {
                value.set_sensitive(true);
                request.headers_mut().insert(SERVICE_AUTHORIZATION, value);
                let answer = self.channel.call(request);
                Box::pin(async move { answer.await.map_err(BoxError::from) })
            }
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}
