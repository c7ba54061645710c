//! A way to a server that a test can slow down or close, without a connection being ended, or on which it cuts connections: the
//! server seems slow, hung or gone, to those alone who take this way.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

/// Connections at once: many times what the pools of a suite open.
const CONNECTIONS_MAX: usize = 1_024;

/// Bytes that are taken in one piece.
const PIECE_BYTES: usize = 16 * 1024;

/// What a gate does with what comes, in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It goes through at once.
    Open,
    /// Each piece is late by so much.
    Slow(Duration),
    /// It is kept, and goes through when the gate is no longer held, even where its sender has gone meanwhile.
    Held,
}

/// A way to one server; closed for good when it is dropped.
#[derive(Debug)]
pub struct Gate {
    url: String,
    flow: watch::Sender<Flow>,
    counts: Arc<Counts>,
    open: Open,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    passed: AtomicUsize,
    held: AtomicUsize,
}

/// The connections that go through, and some that have ended.
#[derive(Clone, Debug, Default)]
struct Open(Arc<Mutex<Vec<AbortHandle>>>);

/// What each direction of each connection looks at.
#[derive(Clone)]
struct Keeper {
    flow: watch::Receiver<Flow>,
    counts: Arc<Counts>,
}

// === impl Gate ===

impl Gate {
    /// An open gate before the server of a URL such as `redis://:password@host:port/0`.
    ///
    /// # Errors
    /// When the URL names no server, or no port is free.
    pub async fn before(url: &str) -> Result<Self> {
        let server = authority(url).context("the URL names no server")?.to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address: SocketAddr = listener.local_addr()?;
        let (flow, counts) = (watch::Sender::new(Flow::Open), Arc::<Counts>::default());
        let keeper = Keeper {
            flow: flow.subscribe(),
            counts: Arc::clone(&counts),
        };
        let open = Open::default();
        Ok(Self {
            url: url.replacen(&server, &address.to_string(), 1),
            flow,
            counts,
            task: tokio::spawn(serve(listener, server, keeper, open.clone())),
            open,
        })
    }

    /// The same URL by way of the gate.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Changes what happens with what comes from now on, and lets go what is held where the gate is no longer held.
    pub fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }

    /// Ends one of the connections that go through, whatever is on its way on it; false where there is none. New ones go
    /// through as before.
    ///
    /// `which`: any number, which one of them is chosen by.
    pub fn cut(&self, which: usize) -> bool {
        let mut open = self.open.now();
        let Some(at) = which.checked_rem(open.len()) else {
            return false;
        };
        open.swap_remove(at).abort();
        true
    }

    /// How many pieces went through.
    pub fn passed(&self) -> usize {
        self.counts.passed.load(Ordering::Relaxed)
    }

    /// How many pieces were held; those that were let go later count too.
    pub fn held(&self) -> usize {
        self.counts.held.load(Ordering::Relaxed)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Its connections end with it.
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, server: String, keeper: Keeper, open: Open) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                let Ok((near, _)) = accepted else { continue };
                let connection = connections.spawn(connect(near, server.clone(), keeper.clone()));
                open.now().push(connection);
            }
        }
    }
}

async fn connect(near: TcpStream, server: String, keeper: Keeper) {
    // A server that is not there is seen as a connection that ends at once.
    let Ok(far) = TcpStream::connect(&server).await else {
        return;
    };
    // Only what the test asks for may be late; where this fails it is late by a little.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near, far) = (near.into_split(), far.into_split());
    // Whichever direction ends first ends the other.
    tokio::select! {
        () = forward(near.0, far.1, keeper.clone()) => {}
        () = forward(far.0, near.1, keeper) => {}
    }
}

async fn forward(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut keeper: Keeper) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let Ok(read @ 1..) = from.read(&mut piece).await else {
            return;
        };
        let Some(piece) = piece.get(..read) else { return };
        if !keeper.lets_pass().await || to.write_all(piece).await.is_err() {
            return;
        }
    }
}

// === impl Open ===

impl Open {
    /// Those that have not ended.
    fn now(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|connection| !connection.is_finished());
        open
    }
}

// === impl Keeper ===

impl Keeper {
    /// Waits until a piece may go on; false where the gate is gone.
    async fn lets_pass(&mut self) -> bool {
        let flow = *self.flow.borrow_and_update();
        match flow {
            Flow::Open => {}
            // The lateness itself: nothing waits for it.
            Flow::Slow(late) => tokio::time::sleep(late).await,
            Flow::Held => {
                self.counts.held.fetch_add(1, Ordering::Relaxed);
                if self.flow.wait_for(|flow| *flow != Flow::Held).await.is_err() {
                    return false;
                }
            }
        }
        self.counts.passed.fetch_add(1, Ordering::Relaxed);
        true
    }
}

/// `host:port` of a URL, which may name a user before it and a path behind it.
fn authority(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    let host = authority.rsplit('@').next()?;
    host.contains(':').then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait;

    const BOUND: Duration = Duration::from_secs(30);

    /// A server that sends back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    async fn through(gate: &Gate) -> TcpStream {
        TcpStream::connect(authority(gate.url()).unwrap()).await.unwrap()
    }

    async fn read(stream: &mut TcpStream) -> u8 {
        stream.read_u8().await.unwrap()
    }

    #[test]
    fn a_url_says_where_its_server_is() {
        assert_eq!(authority("redis://:p%40ss@127.0.0.1:6379/0"), Some("127.0.0.1:6379"));
        assert_eq!(authority("redis://127.0.0.1:6379"), Some("127.0.0.1:6379"));
        for none in ["127.0.0.1:6379", "redis://localhost/0"] {
            assert_eq!(authority(none), None, "{none}");
        }
    }

    #[tokio::test]
    async fn what_is_held_goes_through_when_the_gate_is_opened() {
        let server = echo().await;
        let gate = Gate::before(&format!("echo://user:word@{server}/path")).await.unwrap();
        assert!(gate.url().starts_with("echo://user:word@127.0.0.1:") && gate.url().ends_with("/path"));
        let mut stream = through(&gate).await;
        stream.write_u8(1).await.unwrap();
        assert_eq!((read(&mut stream).await, gate.held()), (1, 0));

        gate.set(Flow::Held);
        stream.write_u8(2).await.unwrap();
        wait::until("a held piece", BOUND, || async { Ok(gate.held() == 1) })
            .await
            .unwrap();
        assert!(stream.try_read(&mut [0]).is_err(), "nothing has come");
        gate.set(Flow::Slow(Duration::from_millis(1)));
        assert_eq!(read(&mut stream).await, 2);
        assert_eq!(gate.passed(), 4, "two pieces, there and back");
    }

    #[tokio::test]
    async fn what_was_held_arrives_although_its_sender_has_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gate = Gate::before(&format!("any://{}", listener.local_addr().unwrap()))
            .await
            .unwrap();
        gate.set(Flow::Held);
        let mut stream = through(&gate).await;
        let (mut server, _) = listener.accept().await.unwrap();
        stream.write_u8(3).await.unwrap();
        wait::until("a held piece", BOUND, || async { Ok(gate.held() == 1) })
            .await
            .unwrap();
        drop(stream);
        gate.set(Flow::Open);
        assert_eq!(read(&mut server).await, 3);
    }

    #[tokio::test]
    async fn a_connection_that_is_cut_ends_and_the_others_go_on() {
        let server = echo().await;
        let gate = Gate::before(&format!("echo://{server}")).await.unwrap();
        assert!(!gate.cut(0), "there is none");
        let mut streams = Vec::new();
        for number in 0..3 {
            let mut stream = through(&gate).await;
            stream.write_u8(number).await.unwrap();
            assert_eq!(read(&mut stream).await, number);
            streams.push(stream);
        }
        // As long as nobody is cut, they are in the order in which they came.
        assert!(gate.cut(4));
        let mut cut = streams.swap_remove(1);
        assert_eq!(cut.read(&mut [0]).await.unwrap_or(0), 0);
        streams.push(through(&gate).await);
        for stream in &mut streams {
            stream.write_u8(9).await.unwrap();
            assert_eq!(read(stream).await, 9);
        }
    }

    #[tokio::test]
    async fn a_gate_that_is_dropped_ends_its_connections() {
        let server = echo().await;
        let gate = Gate::before(&format!("echo://{server}")).await.unwrap();
        let mut stream = through(&gate).await;
        stream.write_u8(1).await.unwrap();
        assert_eq!(read(&mut stream).await, 1);
        drop(gate);
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    }
}
