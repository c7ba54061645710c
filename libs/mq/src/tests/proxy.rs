//! A way to the broker that can be cut.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

/// Forwards connections to the broker until they are cut.
pub(super) struct Proxy {
    port: u16,
    connections: Arc<Mutex<JoinSet<()>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let broker = authority(&rowhouse_devkit::fixture::servers().unwrap().amqp_url()).to_owned();
        let connections: Arc<Mutex<JoinSet<()>>> = Arc::default();
        let open = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let Ok(mut far) = TcpStream::connect(&broker).await else {
                    continue;
                };
                open.lock().await.spawn(async move {
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self {
            port,
            connections,
            task,
        }
    }

    /// The same URL by way of the proxy.
    pub(super) fn url(&self, direct: &str) -> String {
        direct.replace(authority(direct), &format!("127.0.0.1:{}", self.port))
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

/// `host:port` of a URL with user and path.
fn authority(url: &str) -> &str {
    let (_, rest) = url.split_once('@').unwrap();
    rest.split('/').next().unwrap()
}
