//! A Redis of one test's own, whose settings it may change.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use redis::aio::MultiplexedConnection;
use rowhouse_devkit::port::{self, Reservation};
use rowhouse_devkit::{servers, wait};
use tempfile::TempDir;

/// It starts in milliseconds, unless the machine is out of breath.
const START_MAX: Duration = Duration::from_secs(30);

/// A running Redis.
pub(crate) struct OwnRedis {
    url: String,
    connection: MultiplexedConnection,
    // Ends before what it stands on.
    _running: Running,
    _port: Reservation,
    _folder: TempDir,
}

/// Dropping it kills it.
struct Running(Child);

impl OwnRedis {
    pub(crate) async fn start() -> Result<Self> {
        let program = servers::program("redis-server").or_else(|| servers::program("valkey-server"));
        let program = program.context("redis-server is needed, also where another Redis is given")?;
        let (port, folder) = (port::reserve()?, tempfile::tempdir()?);
        let mut command = Command::new(program);
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(["--maxmemory-policy", "noeviction", "--port", &port.port().to_string()]);
        let process = command.current_dir(&folder).stdout(Stdio::null()).spawn()?;
        let url = format!("redis://127.0.0.1:{}/", port.port());
        let running = Running(process);
        let client = redis::Client::open(url.as_str())?;
        wait::until("a Redis of its own", START_MAX, || async {
            Ok(client.get_multiplexed_async_connection().await.is_ok())
        })
        .await?;
        Ok(Self {
            connection: client.get_multiplexed_async_connection().await?,
            url,
            _running: running,
            _port: port,
            _folder: folder,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether it takes nothing else: what is there stays and is read, and every write is refused (OOM).
    pub(crate) async fn set_full(&self, full: bool) -> Result<()> {
        // No limit is spelled as none at all.
        let bytes = if full { "1" } else { "0" };
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg("maxmemory").arg(bytes);
        Ok(command.query_async(&mut self.connection.clone()).await?)
    }

    /// How many writes it has refused because it was full.
    pub(crate) async fn refused(&self) -> Result<usize> {
        let mut command = redis::cmd("INFO");
        let all: String = command
            .arg("errorstats")
            .query_async(&mut self.connection.clone())
            .await?;
        let count = all.lines().find_map(|line| line.strip_prefix("errorstat_OOM:count="));
        Ok(count.unwrap_or("0").trim().parse()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
