//! A running server, and ways to talk to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use rowhouse_auth_kit::{ServiceVerifier, SigningKey};
use rowhouse_config::section::Listen;
use rowhouse_context::ServiceName;
use rowhouse_middleware::Security;
use rowhouse_proto::auth::v1::auth_service_client::AuthServiceClient;
use rowhouse_proto::auth::v1::{LoginRequest, TokenPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response as Answer, Status};

use crate::{Error, Server, Services};

/// Name of the service that the tests serve.
pub(super) const SERVICE: &str = "rowhouse.auth.v1.AuthService";

/// A server that runs.
pub(super) struct Running {
    pub(super) public: SocketAddr,
    pub(super) internal: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) stop: CancellationToken,
    pub(super) handler: Arc<Handler>,
    pub(super) ended: JoinHandle<Result<(), Error>>,
}

/// A handler that waits until the test says so.
#[derive(Default)]
pub(super) struct Handler {
    pub(super) begun: Notify,
    pub(super) go_on: Notify,
}

pub(super) fn listen(drain: Duration) -> Listen {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    Listen {
        public: anywhere,
        internal: anywhere,
        admin: anywhere,
        drain,
        concurrency_max: 100,
        deadline_max: Duration::from_secs(60),
        trusted_hops: 0,
    }
}

pub(super) fn server(drain: Duration, handler: &Arc<Handler>) -> Server {
    server_at(&listen(drain), handler)
}

pub(super) fn server_at(listen: &Listen, handler: &Arc<Handler>) -> Server {
    Server::new(ServiceName::Auth, listen, security())
        .public(services(handler))
        .internal(services(handler))
}

pub(super) fn security() -> Security {
    let keys: BTreeMap<String, String> = ServiceName::ALL
        .into_iter()
        .zip(1..)
        .map(|(name, seed)| {
            let key = SigningKey::from_seed(&[seed; 32]).unwrap();
            (name.to_string(), key.public().to_base64url())
        })
        .collect();
    let verifier = ServiceVerifier::new(ServiceName::Auth, &keys).unwrap();
    Security::services_only(ServiceName::Auth, Arc::new(verifier), None)
}

/// Every RPC waits for the test, then answers OK with an empty message.
pub(super) fn services(handler: &Arc<Handler>) -> Services {
    let handler = Arc::clone(handler);
    let router = axum::Router::new().fallback(move |request: Request| async move {
        drop(request);
        handler.begun.notify_one();
        handler.go_on.notified().await;
        let mut response = Response::new(Body::from(vec![0_u8; 5]));
        let headers = response.headers_mut();
        headers.insert("content-type", "application/grpc".parse().unwrap());
        headers.insert("grpc-status", "0".parse().unwrap());
        response
    });
    Services {
        routes: router.into(),
        names: vec![SERVICE],
    }
}

// === impl Running ===

impl Running {
    pub(super) async fn start(drain: Duration) -> Self {
        let handler = Arc::default();
        Self::of(server(drain, &handler), handler).await
    }

    pub(super) async fn of(server: Server, handler: Arc<Handler>) -> Self {
        let sockets = server.bind().await.unwrap();
        let address = |socket: &tokio::net::TcpListener| socket.local_addr().unwrap();
        let stop = CancellationToken::new();
        Self {
            public: address(sockets.public.as_ref().unwrap()),
            internal: address(sockets.internal.as_ref().unwrap()),
            admin: address(&sockets.admin),
            stop: stop.clone(),
            handler,
            ended: tokio::spawn(server.run_on(sockets, stop)),
        }
    }

    pub(super) async fn channel(&self) -> Channel {
        connect(self.public).await.unwrap()
    }

    /// GET on the admin port: status and body.
    pub(super) async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        (code, body)
    }
}

pub(super) async fn connect(address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
}

/// A public RPC.
pub(super) async fn login(channel: Channel) -> Result<Answer<TokenPair>, Status> {
    AuthServiceClient::new(channel).login(LoginRequest::default()).await
}
