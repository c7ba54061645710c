//! Which data servers answer, asked now.
//!
//! The process is ready while one of them does. A server that is away takes its own tenants' calls with it, and no others': a
//! process that is not ready is called by nobody. Whose server is away hears that it is by the call's deadline, or after the 5 s
//! that a transaction waits for a connection at most. Where none answers (of one server, that one), the process can do nothing
//! for anybody, and says so.
//!
//! A server whose connections for bulk work are all in use until the time is over (without lanes: all connections) counts as away
//! too: from here it looks like one that has stopped to answer, whose connections are in use as well.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::db::TenantDb;
use super::server::Server;
use crate::Error;

/// Longest time to ask all servers, which are asked at once. libs/server gives a check 2 s: one that hangs must not take the
/// answers of the others with it. With the pause of a second between checks, what breaks is noticed within 3 s.
const PING_MAX: Duration = Duration::from_millis(1_500);

const ANSWERS: &str = "rowhouse_db_server_answers";

// === impl TenantDb ===

impl TenantDb {
    /// Whether a data server answers, asked now. Those that do not are named in the log, when they begin and when they end it,
    /// and in a metric.
    ///
    /// # Errors
    /// When none answers, that of the first by name: [`Error::Unavailable`], [`Error::PoolTimeout`] or
    /// [`Error::DeadlineExceeded`].
    pub async fn ping(&self) -> Result<(), Error> {
        let deadline = Instant::now() + PING_MAX;
        let servers = self.inner.servers.iter();
        let answers = join_all(servers.map(|(name, server)| server.ping(name, deadline))).await;
        if answers.iter().any(Result::is_ok) {
            return Ok(());
        }
        answers.into_iter().collect()
    }
}

// === impl Server ===

impl Server {
    /// Whether it answers in time; tells where that has changed.
    async fn ping(&self, name: &str, deadline: Instant) -> Result<(), Error> {
        let answer = self.ask(name, deadline).await;
        let was_away = self.is_away.swap(answer.is_err(), Ordering::Relaxed);
        match &answer {
            Ok(()) if was_away => tracing::info!(server = name, "a data server is back"),
            Err(cause) if !was_away => tracing::error!(server = name, %cause, "a data server is away"),
            Ok(()) | Err(_) => {}
        }
        let answers = if answer.is_ok() { 1.0 } else { 0.0 };
        metrics::gauge!(ANSWERS, "server" => name.to_owned()).set(answers);
        answer
    }

    async fn ask(&self, name: &str, deadline: Instant) -> Result<(), Error> {
        for mut connection in self.connections_to_ask(deadline).await? {
            connection.dirty = true;
            let asked = timeout_at(deadline, connection.client.batch_execute("SELECT 1")).await;
            match asked {
                Ok(Ok(())) => connection.dirty = false,
                Ok(Err(error)) => return Err(Error::from_driver("ping", &error)),
                Err(_) => return Err(Error::Unavailable(format!("data server {name} is silent"))),
            }
        }
        Ok(())
    }
}
