//! Abuse of HTTP/2: one client's doing stays its own.

use std::time::Duration;

use axum::body::Body;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::listener::STREAMS_MAX;
use crate::tests::suite::{Running, connect, login};

const DRAIN: Duration = Duration::from_secs(1);

/// Frames of HTTP/2 (RFC 9113, section 6).
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;

/// The server answers somebody else.
async fn serves(running: &Running) {
    running.handler.go_on.notify_one();
    login(connect(running.public).await.unwrap()).await.unwrap();
}

/// The answer to a call with `fields` of metadata of `bytes` each, or `None` where the connection broke.
async fn answer(sender: &mut SendRequest<Body>, fields: usize, bytes: usize) -> Option<Response<Incoming>> {
    let mut request = Request::post("http://suite/rowhouse.auth.v1.AuthService/GetJwks");
    for number in 0..fields {
        request = request.header(format!("field-{number}"), "a".repeat(bytes));
    }
    sender.ready().await.ok()?;
    sender.send_request(request.body(Body::empty()).unwrap()).await.ok()
}

/// The reason of the status in the headers of an answer.
fn reason(answer: &Response<Incoming>) -> (Code, String) {
    let status = Status::from_header_map(answer.headers()).unwrap();
    let details = status.get_error_details();
    assert!(details.request_info().is_some(), "{status:?}");
    (status.code(), details.error_info().unwrap().reason.clone())
}

async fn sender(running: &Running) -> SendRequest<Body> {
    let stream = TcpStream::connect(running.public).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    // It ends with the sender.
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn metadata_beyond_the_bound_is_refused_with_its_reason_and_the_connection_goes_on() {
    let running = Running::start(DRAIN).await;
    let mut sender = sender(&running).await;
    let too_large = (Code::ResourceExhausted, "METADATA_TOO_LARGE".to_owned());
    for (fields, bytes) in [(1, 16 * 1024), (1, 64 * 1024), (1_000, 16)] {
        let answer = answer(&mut sender, fields, bytes).await.unwrap();
        assert_eq!((answer.status(), reason(&answer)), (StatusCode::OK, too_large.clone()));
    }
    // Just below, the handler answers.
    for (fields, bytes) in [(1, 15 * 1024), (200, 16)] {
        running.handler.go_on.notify_one();
        let answer = answer(&mut sender, fields, bytes).await.unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), Code::Ok, "{status:?}");
    }
}

#[tokio::test]
async fn far_too_much_metadata_ends_the_connection_and_no_other() {
    let running = Running::start(DRAIN).await;
    let answer = answer(&mut sender(&running).await, 1, 256 * 1024).await;
    let status = answer.map(|answer| answer.status().as_u16());
    assert!(matches!(status, None | Some(431)), "{status:?}");
    serves(&running).await;
}

/// CVE-2023-44487: streams opened and reset at once.
#[tokio::test]
async fn rapid_resets_end_the_connection_and_no_other() {
    let running = Running::start(DRAIN).await;
    let mut stream = TcpStream::connect(running.public).await.unwrap();
    let mut flood = preface();
    for id in (1..20_000_u32).step_by(2) {
        flood.extend(given_up(id));
    }
    let (mut read, mut write) = stream.split();
    let write = async {
        // It fails when the server has had enough.
        let _cut = write.write_all(&flood).await;
    };
    let mut answer = Vec::new();
    let (_, ended) = tokio::join!(write, read.read_to_end(&mut answer));
    assert!(ended.is_err() || holds(&answer, GOAWAY, 0), "the connection was ended");
    serves(&running).await;
}

/// A gateway's callers all lose patience while the server is held up: it finds all their calls and all their resets at once.
#[tokio::test]
async fn as_many_calls_as_may_be_open_are_given_up_at_once_and_the_connection_goes_on() {
    let running = Running::start(DRAIN).await;
    let mut stream = TcpStream::connect(running.public).await.unwrap();
    let mut calls = preface();
    let last = 2 * STREAMS_MAX - 1;
    for id in (1..last).step_by(2) {
        calls.extend(given_up(id));
    }
    // This one waits for its answer.
    calls.extend(frame(HEADERS, 4 | 1, last, &CALL));
    stream.write_all(&calls).await.unwrap();
    let mut answer = Vec::new();
    while !holds(&answer, HEADERS, last) {
        assert!(!holds(&answer, GOAWAY, 0), "the connection is ended");
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the connection is cut");
    }
}

/// Headers that never end.
#[tokio::test]
async fn a_flood_of_continuations_ends_the_connection_and_no_other() {
    let running = Running::start(DRAIN).await;
    let mut stream = TcpStream::connect(running.public).await.unwrap();
    let mut flood = preface();
    flood.extend(frame(HEADERS, 0, 1, &CALL));
    // A literal field that is not indexed: x: 1,000 characters.
    let mut field = vec![0x00, 1, b'x', 0x7f, 0xe9, 0x06];
    field.extend([b'a'; 1_000]);
    for _ in 0..5_000 {
        flood.extend(frame(9, 0, 1, &field));
    }
    let (mut read, mut write) = stream.split();
    let write = async {
        let _cut = write.write_all(&flood).await;
    };
    let mut answer = Vec::new();
    let (_, ended) = tokio::join!(write, read.read_to_end(&mut answer));
    assert!(ended.is_err() || holds(&answer, GOAWAY, 0), "the connection was ended");
    serves(&running).await;
}

/// The headers `:method POST`, `:scheme http`, `:path /`, all from the static table (RFC 7541, appendix A).
const CALL: [u8; 3] = [0x83, 0x86, 0x84];

/// How a connection begins (RFC 9113, section 3.4): the preface and our settings.
fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes
}

/// A call and its RST_STREAM with CANCEL.
fn given_up(stream: u32) -> Vec<u8> {
    let mut frames = frame(HEADERS, 4, stream, &CALL);
    frames.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    frames
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Whether a frame of this kind and stream has arrived, its first bytes at least.
fn holds(mut bytes: &[u8], kind: u8, stream: u32) -> bool {
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let [a, b, c, of, _, ids @ ..] = *head;
        if of == kind && u32::from_be_bytes(ids) == stream {
            return true;
        }
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        bytes = rest.get(length..).unwrap_or_default();
    }
    false
}
