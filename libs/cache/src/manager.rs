//! How the pool opens and judges connections.

use std::time::Duration;

use bb8_redis::RedisConnectionManager;
use bb8_redis::bb8::ManageConnection;
use redis::aio::MultiplexedConnection;
use redis::{Client, RedisError};

/// bb8-redis's manager with what it lacks: it never calls a connection broken, and its time-outs are fixed.
#[derive(Clone, Debug)]
pub(crate) struct Manager {
    inner: RedisConnectionManager,
    client: Client,
    response_timeout: Duration,
}

/// A connection and whether it may be used again.
pub(crate) struct Connection {
    pub(crate) redis: MultiplexedConnection,
    /// Set before an operation and cleared after its answer: an operation that failed, timed out or was dropped leaves
    /// it set, and the connection is thrown away. The driver pairs answers with questions itself; this costs a
    /// connection and spares us from having to believe it.
    pub(crate) doubtful: bool,
}

// === impl Manager ===

impl Manager {
    pub(crate) fn new(url: &str, response_timeout: Duration) -> Result<Self, RedisError> {
        Ok(Self {
            inner: RedisConnectionManager::new(url)?,
            client: Client::open(url)?,
            response_timeout,
        })
    }
}

impl ManageConnection for Manager {
    type Connection = Connection;
    type Error = RedisError;

    async fn connect(&self) -> Result<Connection, RedisError> {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.response_timeout))
            .set_response_timeout(Some(self.response_timeout));
        let redis = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        Ok(Connection { redis, doubtful: false })
    }

    async fn is_valid(&self, connection: &mut Connection) -> Result<(), RedisError> {
        self.inner.is_valid(&mut connection.redis).await
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.doubtful
    }
}
