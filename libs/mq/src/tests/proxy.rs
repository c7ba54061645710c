//! A way to the broker that can be cut.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, JoinSet};

/// Forwards connections to the broker until they are cut.
pub(super) struct Proxy {
    port: u16,
    connections: Arc<Mutex<JoinSet<()>>>,
    frozen: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let broker = authority(&rowhouse_devkit::fixture::servers().unwrap().amqp_url()).to_owned();
        let connections: Arc<Mutex<JoinSet<()>>> = Arc::default();
        let open = Arc::clone(&connections);
        let frozen = watch::Sender::new(false);
        let ice = frozen.subscribe();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&broker).await else {
                    continue;
                };
                let ice = ice.clone();
                open.lock().await.spawn(async move {
                    let (near, far) = (near.into_split(), far.into_split());
                    // Whichever way ends first ends the other.
                    tokio::select! {
                        () = forward(near.0, far.1, ice.clone()) => {}
                        () = forward(far.0, near.1, ice.clone()) => {}
                    }
                });
            }
        });
        Self {
            port,
            connections,
            frozen,
            task,
        }
    }

    /// The same URL by way of the proxy.
    pub(super) fn url(&self, direct: &str) -> String {
        direct.replace(authority(direct), &format!("127.0.0.1:{}", self.port))
    }

    /// Lets nothing through, or everything again, without ending a connection.
    pub(super) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// How many connections there are.
    pub(super) async fn open(&self) -> usize {
        self.connections.lock().await.len()
    }

    /// Cuts every connection; answers how many there were.
    pub(super) async fn cut(&self) -> usize {
        let mut connections = self.connections.lock().await;
        let mut count = 0;
        connections.abort_all();
        while let Some(ended) = connections.join_next().await {
            count += usize::from(ended.is_err());
        }
        count
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut ice: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        if ice.wait_for(|frozen| !frozen).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// `host:port` of a URL with user and path.
fn authority(url: &str) -> &str {
    let (_, rest) = url.split_once('@').unwrap();
    rest.split('/').next().unwrap()
}
