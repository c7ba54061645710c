//! A suite's keys in Redis, as they are seen from outside.

use anyhow::{Result, bail};
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use rowhouse_devkit::suite::Suite;

/// Keys that one step over all keys looks at.
const SCANNED_KEYS: u32 = 1_000;

/// A suite's part of Redis.
#[derive(Clone)]
pub(crate) struct Keys {
    redis: MultiplexedConnection,
    prefix: String,
}

impl Keys {
    pub(crate) async fn of(suite: &Suite) -> Result<Self> {
        // Straight to the server, however the suite gets there.
        let client = redis::Client::open(suite.databases().servers().redis_url())?;
        Ok(Self {
            redis: client.get_multiplexed_async_connection().await?,
            prefix: suite.redis_prefix().to_owned(),
        })
    }

    /// The names of all keys. A key that comes or goes meanwhile may be missing.
    async fn names(&mut self) -> Result<Vec<String>> {
        let (mut cursor, mut names) = (0_u64, Vec::new());
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{}:*", self.prefix));
            scan.arg("COUNT").arg(SCANNED_KEYS);
            let (next, some): (u64, Vec<String>) = scan.query_async(&mut self.redis).await?;
            names.extend(some);
            cursor = next;
            if cursor == 0 {
                return Ok(names);
            }
        }
    }

    /// Removes all keys, as FLUSHDB would if nobody shared the database. Answers how many there were.
    pub(crate) async fn flush(&mut self) -> Result<usize> {
        let names = self.names().await?;
        if names.is_empty() {
            return Ok(0);
        }
        Ok(self.redis.unlink(names).await?)
    }

    /// Sets a key behind the suite's back.
    pub(crate) async fn plant(&mut self, name: &str, value: &str) -> Result<()> {
        Ok(self.redis.set(format!("{}:{name}", self.prefix), value).await?)
    }

    /// All keys with their values, a line each.
    pub(crate) async fn text(&mut self) -> Result<String> {
        let lines = self.values().await?.into_iter();
        Ok(lines.map(|(name, value)| format!("{name} {value}\n")).collect())
    }

    /// All keys, by their whole names, with their values.
    pub(crate) async fn values(&mut self) -> Result<Vec<(String, String)>> {
        let mut values = Vec::new();
        for name in self.names().await? {
            let kind: String = redis::cmd("TYPE").arg(&name).query_async(&mut self.redis).await?;
            let value: Vec<Vec<u8>> = match kind.as_str() {
                "string" => self.redis.get::<_, Option<Vec<u8>>>(&name).await?.into_iter().collect(),
                "hash" => redis::cmd("HGETALL").arg(&name).query_async(&mut self.redis).await?,
                // Its life has ended since.
                "none" => continue,
                other => bail!("{name} is a {other}: a kind of value that nobody has taught this test to read"),
            };
            let value: Vec<_> = value.iter().map(|part| String::from_utf8_lossy(part)).collect();
            let value = value.join(" ");
            values.push((name, value));
        }
        Ok(values)
    }
}
