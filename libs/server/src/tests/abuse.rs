//! Abuse of HTTP/2: one client's doing stays its own.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::tests::suite::{Running, connect, login};

const DRAIN: Duration = Duration::from_secs(1);

/// The server answers somebody else.
async fn serves(running: &Running) {
    running.handler.go_on.notify_one();
    login(connect(running.public).await.unwrap()).await.unwrap();
}

/// The status of a call with this much metadata, or `None` where the connection broke.
async fn status_with_metadata(sender: &mut SendRequest<Body>, bytes: usize) -> Option<u16> {
    let request = Request::post("http://suite/rowhouse.auth.v1.AuthService/GetJwks")
        .header("authorization", "a".repeat(bytes))
        .body(Body::empty())
        .unwrap();
    sender.ready().await.ok()?;
    Some(sender.send_request(request).await.ok()?.status().as_u16())
}

async fn sender(running: &Running) -> SendRequest<Body> {
    let stream = TcpStream::connect(running.public).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    // It ends with the sender.
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn metadata_beyond_the_bound_is_refused_and_the_connection_goes_on() {
    let running = Running::start(DRAIN).await;
    let mut sender = sender(&running).await;
    assert_eq!(status_with_metadata(&mut sender, 17 * 1024).await, Some(431));
    running.handler.go_on.notify_one();
    assert_eq!(status_with_metadata(&mut sender, 15 * 1024).await, Some(200));
}

#[tokio::test]
async fn far_too_much_metadata_ends_the_connection_and_no_other() {
    let running = Running::start(DRAIN).await;
    let status = status_with_metadata(&mut sender(&running).await, 256 * 1024).await;
    assert!(matches!(status, None | Some(431)), "{status:?}");
    serves(&running).await;
}

/// CVE-2023-44487: streams opened and reset at once.
#[tokio::test]
async fn rapid_resets_end_the_connection_and_no_other() {
    let running = Running::start(DRAIN).await;
    let mut stream = TcpStream::connect(running.public).await.unwrap();
    let mut flood = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    flood.extend(frame(4, 0, 0, &[]));
    for id in (1..20_000_u32).step_by(2) {
        // :method POST, :scheme http, :path /; all from the static table.
        flood.extend(frame(1, 4, id, &[0x83, 0x86, 0x84]));
        flood.extend(frame(3, 0, id, &8_u32.to_be_bytes()));
    }
    let (mut read, mut write) = stream.split();
    let write = async {
        // It fails when the server has had enough.
        let _cut = write.write_all(&flood).await;
    };
    let mut answer = Vec::new();
    let (_, ended) = tokio::join!(write, read.read_to_end(&mut answer));
    assert!(ended.is_err() || is_goaway(&answer), "the connection was ended");
    serves(&running).await;
}

/// Headers that never end.
#[tokio::test]
async fn a_flood_of_continuations_ends_the_connection_and_no_other() {
    let running = Running::start(DRAIN).await;
    let mut stream = TcpStream::connect(running.public).await.unwrap();
    let mut flood = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    flood.extend(frame(4, 0, 0, &[]));
    flood.extend(frame(1, 0, 1, &[0x83, 0x86, 0x84]));
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
    assert!(ended.is_err() || is_goaway(&answer), "the connection was ended");
    serves(&running).await;
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

/// Whether GOAWAY is among the frames.
fn is_goaway(mut bytes: &[u8]) -> bool {
    while bytes.len() >= 9 {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        if bytes[3] == 7 {
            return true;
        }
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    false
}
