//! A server on a loopback port, and a client that can send what no proper client would.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::body::Body;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::Service;

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: Code,
    pub(super) message: String,
    /// Reason of the `ErrorInfo`; empty where there is none.
    pub(super) reason: String,
    /// Id of the `RequestInfo`.
    pub(super) request_info: Option<String>,
    /// Headers, then trailers where they came apart.
    pub(super) headers: HeaderMap,
    pub(super) status: Status,
    pub(super) body: Bytes,
}

/// The stack, or what a test has in its place.
pub(super) trait Stacked:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> Stacked for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

/// A connection to a server of its own.
pub(super) struct Client {
    sender: SendRequest<Body>,
}

/// A call: path, metadata, body.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) path: String,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Bytes,
}

// === impl Call ===

impl Call {
    pub(super) fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            headers: Vec::new(),
            body: frame(&[]),
        }
    }

    pub(super) fn message(mut self, message: &impl Message) -> Self {
        self.body = frame(&message.encode_to_vec());
        self
    }

    pub(super) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    pub(super) fn bearer(self, token: &str) -> Self {
        self.with("authorization", format!("Bearer {token}"))
    }

    pub(super) fn request(&self, body: Body) -> Request<Body> {
        let mut request = Request::post(format!("http://suite{}", self.path)).body(body).unwrap();
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        request
    }
}

/// A message in gRPC's frame.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.put_slice(message);
    framed.freeze()
}

// === impl Client ===

impl Client {
    /// Serves `stack` and connects to it.
    pub(super) async fn of(stack: impl Stacked) -> Self {
        let address = serve(stack).await;
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    pub(super) async fn call(&self, call: &Call) -> Answer {
        self.try_call(call).await.expect("an answer")
    }

    /// The answer, or `None` where the stream broke.
    pub(super) async fn try_call(&self, call: &Call) -> Option<Answer> {
        self.send(call.request(Body::from(call.body.clone()))).await
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Option<Answer> {
        let response = self.sender.clone().send_request(request).await.ok()?;
        let (parts, body) = response.into_parts();
        let collected = body.collect().await.ok()?;
        let mut headers = parts.headers;
        headers.extend(collected.trailers().cloned().unwrap_or_default());
        let status = Status::from_header_map(&headers).expect("every answer has a status");
        let details = status.get_error_details();
        Some(Answer {
            code: status.code(),
            message: status.message().to_owned(),
            reason: details.error_info().map(|info| info.reason.clone()).unwrap_or_default(),
            request_info: details.request_info().map(|info| info.request_id.clone()),
            headers,
            status,
            body: collected.to_bytes(),
        })
    }
}

// === impl Answer ===

impl Answer {
    /// A header as text; empty where it is not there.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(super) fn assert(&self, case: &str, code: Code, reason: &str) {
        assert_eq!((self.code, self.reason.as_str()), (code, reason), "{case}: {self:?}");
        if code != Code::Ok {
            let id = self.header("x-request-id");
            assert_eq!(self.request_info.as_deref(), Some(id), "{case}: {self:?}");
        }
    }
}

async fn serve(stack: impl Stacked) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stack = stack.clone();
            let service = service_fn(move |request: Request<Incoming>| stack.clone().call(request.map(Body::new)));
            tokio::spawn(Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}
