//! A server that ends its first connection in a chosen way: how often does it see the call?

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Endpoint;

use super::*;

/// Kinds of frames (RFC 9113, 6).
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;

/// What the server does once it has the first call.
#[derive(Clone, Copy, Debug)]
enum End {
    /// It says that it has seen calls up to this id and no later ones, and closes.
    GoAway(u32),
    /// It closes.
    Cut,
    /// It resets the call with this code, and closes.
    Reset(u32),
}

fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, 0], &stream.to_be_bytes(), payload].concat()
}

/// Reads frames until the headers of a call.
async fn until_called(stream: &mut TcpStream) {
    stream.read_exact(&mut [0; 24]).await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, &[])).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == HEADERS {
            return;
        }
    }
}

/// The first connection ends so; what comes on any later one is answered. Answers how often a call was seen.
async fn serve(end: End) -> (Endpoint, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        until_called(&mut first).await;
        count.fetch_add(1, Ordering::Relaxed);
        let last = match end {
            End::GoAway(id) => frame(GOAWAY, 0, &[id.to_be_bytes(), NO_ERROR.to_be_bytes()].concat()),
            End::Reset(code) => frame(RST_STREAM, 1, &code.to_be_bytes()),
            End::Cut => Vec::new(),
        };
        first.write_all(&last).await.unwrap();
        first.shutdown().await.unwrap();
        // Read to its end, so that nothing is reset.
        let _ = first.read_to_end(&mut Vec::new()).await;
        loop {
            let (next, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(next).await.unwrap();
            let count = count.clone();
            tokio::spawn(async move {
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    count.fetch_add(1, Ordering::Relaxed);
                    let answer = http::Response::builder().header("grpc-status", "0").body(()).unwrap();
                    respond.send_response(answer, true).unwrap();
                }
            });
        }
    });
    (endpoint, seen)
}

/// Whether the call was answered, and how often it was seen.
async fn made(end: End, body: &'static [u8]) -> (bool, usize) {
    let (endpoint, seen) = serve(end).await;
    let body = Body::new(Full::new(Bytes::from_static(body)));
    let request = Request::post("http://peer/rowhouse.Any/Thing").body(body).unwrap();
    let answered = call(endpoint.connect_lazy(), request).await;
    (answered.is_ok(), seen.load(Ordering::Relaxed))
}

#[tokio::test]
async fn what_the_other_end_says_it_has_not_seen_is_made_again() {
    // Its id is 1.
    assert_eq!(made(End::GoAway(0), b"a message").await, (true, 2));
}

#[tokio::test]
async fn what_may_have_been_seen_is_not() {
    for end in [
        End::GoAway(1),
        End::Cut,
        End::Reset(NO_ERROR),
        End::Reset(REFUSED_STREAM),
    ] {
        assert_eq!(made(end, b"a message").await, (false, 1), "{end:?}");
    }
    assert_eq!(made(End::GoAway(0), b"").await, (false, 1), "headers and end in one");
}
