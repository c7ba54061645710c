//! The cache's operations. None can fail, and none takes longer than [`OPERATION_MAX`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use bb8_redis::bb8::Pool;
use redis::{AsyncCommands as _, RedisError, Script};
use rowhouse_config::Secret;
use rowhouse_types::TenantId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Key;
use crate::envelope::{self, OpenError};
use crate::manager::Manager;
use crate::switch::{Change, Switch};

/// Longest time for one operation, waiting for a connection included. A refill from the service that decides takes a
/// few milliseconds; waiting longer than this for what only saves it would be absurd.
pub const OPERATION_MAX: Duration = Duration::from_millis(200);

/// Connections at most. An operation takes a fraction of a millisecond, so a few serve thousands a second.
const CONNECTIONS_MAX: u32 = 8;

/// Values larger than this are not stored: a cache of this suite holds answers, not files.
const VALUE_BYTES_MAX: usize = 256 * 1024;

/// Keys that one step over all keys looks at: a fraction of a millisecond of Redis' only thread.
const SCANNED_KEYS: u32 = 500;

/// Redis. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool<Manager>,
    prefix: String,
    switch: Switch,
    /// The bucket of [`Cache::take_permits`].
    permits: Script,
}

/// The URL cannot be understood. That Redis does not answer is no error.
#[derive(Debug, thiserror::Error)]
#[error("the Redis URL cannot be understood")]
pub struct ConnectError;

/// Why an operation had no result. It never leaves this file.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("Redis did not answer in time")]
    Late,
    #[error("Redis: {0}")]
    Redis(#[from] RedisError),
}

// === impl Cache ===

impl Cache {
    /// A cache at `url` (`redis://:password@host:port/db`). Nothing is connected until the first operation, so it does
    /// not matter whether Redis is there.
    ///
    /// `prefix`: put before every key; deployments that share a Redis must differ in it.
    ///
    /// # Errors
    /// [`ConnectError`] where `url` is not a Redis URL.
    pub fn connect(url: &Secret, prefix: &str) -> Result<Self, ConnectError> {
        let manager = Manager::new(url.expose(), OPERATION_MAX).map_err(|_| ConnectError)?;
        let pool = Pool::builder()
            .max_size(CONNECTIONS_MAX)
            .connection_timeout(OPERATION_MAX)
            .retry_connection(false)
            // A PING before each operation would double its price; a broken connection shows itself and is dropped.
            .test_on_check_out(false)
            .build_unchecked(manager);
        Ok(Self {
            inner: Arc::new(Inner {
                pool,
                prefix: prefix.to_owned(),
                switch: Switch::default(),
                permits: Script::new(include_str!("permits.lua")),
            }),
        })
    }

    /// The value under `key`; nothing where there is none, where it has another shape, or where Redis has trouble.
    pub async fn get<T: DeserializeOwned>(&self, key: &Key) -> Option<T> {
        let full = key.full(&self.inner.prefix);
        let bytes: Option<Vec<u8>> = self.run("get", async |redis| redis.get(&full).await).await?;
        let Some(bytes) = bytes else {
            count("get", "miss");
            return None;
        };
        match envelope::open(key, &full, &bytes) {
            Ok(value) => {
                count("get", "hit");
                Some(value)
            }
            Err(OpenError::Form) => {
                count("get", "form");
                None
            }
            Err(OpenError::Foreign) => {
                count("get", "foreign");
                tracing::error!("a cached value belongs to another key and was not used");
                None
            }
        }
    }

    /// Stores a value under `key` for at most `ttl`, or does nothing.
    pub async fn set<T: Serialize>(&self, key: &Key, value: &T, ttl: Duration) {
        let full = key.full(&self.inner.prefix);
        let bytes = match envelope::seal(key, &full, value) {
            Ok(bytes) if bytes.len() <= VALUE_BYTES_MAX => bytes,
            _ => return count("set", "refused"),
        };
        // Redis refuses a life of 0 and one of more than 64 bits.
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX >> 2).max(1);
        let stored: Option<()> = self
            .run("set", async |redis| {
                redis.pset_ex(&full, bytes.as_slice(), ttl_ms).await
            })
            .await;
        if stored.is_some() {
            count("set", "stored");
        }
    }

    /// Removes what is under `key`, if Redis can be asked. Nothing may depend on it: what must not be used any more is
    /// told by versions in the values.
    pub async fn delete(&self, key: &Key) {
        let full = key.full(&self.inner.prefix);
        let removed: Option<()> = self.run("delete", async |redis| redis.del(&full).await).await;
        if removed.is_some() {
            count("delete", "done");
        }
    }

    /// Removes every key of a tenant; nothing where Redis has trouble, and then some may be gone. Returns how many it removed.
    ///
    /// It walks over the keys of all tenants (SCAN), some hundred at a time, so that Redis serves others in between: for the
    /// end of a tenant, not for a call.
    pub async fn purge(&self, tenant: TenantId) -> Option<u64> {
        let pattern = Key::pattern(&self.inner.prefix, tenant);
        let (mut cursor, mut removed) = (0_u64, 0_u64);
        loop {
            let page = self.run("scan", async |redis| {
                let mut scan = redis::cmd("SCAN");
                scan.arg(cursor)
                    .arg("MATCH")
                    .arg(&pattern)
                    .arg("COUNT")
                    .arg(SCANNED_KEYS);
                scan.query_async::<(u64, Vec<String>)>(redis).await
            });
            let (next, keys) = page.await?;
            if !keys.is_empty() {
                let unlinked = self.run("unlink", async |redis| redis.unlink::<_, u64>(&keys).await);
                removed = removed.saturating_add(unlinked.await?);
            }
            cursor = next;
            if cursor == 0 {
                return Some(removed);
            }
        }
    }

    /// Takes permits from a bucket that all processes share; nothing where Redis has trouble.
    ///
    /// `per_second`: how many it gains a second. `burst`: how many it holds at most. `wanted`: how many to take. Returns how
    /// many of them it had.
    pub async fn take_permits(&self, key: &Key, per_second: u32, burst: u32, wanted: u32) -> Option<u32> {
        let full = key.full(&self.inner.prefix);
        let script = &self.inner.permits;
        let taken = self.run("take_permits", async |redis| {
            let mut call = script.key(&full);
            call.arg(per_second.max(1)).arg(burst).arg(wanted);
            call.invoke_async::<u32>(redis).await
        });
        // More than was asked for would be another script's answer.
        let taken = taken.await.filter(|granted| *granted <= wanted)?;
        count("take_permits", "taken");
        Some(taken)
    }

    /// Runs one operation within its bound.
    async fn run<T>(
        &self,
        operation: &'static str,
        act: impl AsyncFnOnce(&mut redis::aio::MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Option<T> {
        let switch = &self.inner.switch;
        if !switch.asks(Instant::now()) {
            count(operation, "skipped");
            return None;
        }
        let work = async {
            // `get` fails by time or with the driver's error; both mean that there is no connection.
            let mut connection = self.inner.pool.get().await.map_err(|error| match error {
                bb8_redis::bb8::RunError::User(error) => Trouble::Redis(error),
                bb8_redis::bb8::RunError::TimedOut => Trouble::Late,
            })?;
            connection.doubtful = true;
            let answer = act(&mut connection.redis).await;
            // A refusal by Redis itself (wrong type, out of memory) is an answer: the connection is sound.
            connection.doubtful = answer.as_ref().is_err_and(|error| !is_answer(error));
            Ok::<T, Trouble>(answer?)
        };
        let outcome = match tokio::time::timeout(OPERATION_MAX, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Trouble::Late),
        };
        self.note(operation, outcome)
    }

    fn note<T>(&self, operation: &'static str, outcome: Result<T, Trouble>) -> Option<T> {
        let switch = &self.inner.switch;
        match outcome {
            Ok(value) => {
                if switch.succeeded() == Change::Found {
                    tracing::info!("Redis answers again");
                }
                Some(value)
            }
            Err(Trouble::Redis(error)) if is_answer(&error) => {
                switch.succeeded();
                count(operation, "refused");
                None
            }
            Err(trouble) => {
                count(operation, "failed");
                if switch.failed(Instant::now()) == Change::Lost {
                    tracing::warn!(cause = %trouble, "Redis is left alone for a moment; everything works, slower");
                }
                None
            }
        }
    }
}

/// Whether Redis itself answered with an error, rather than the connection failing.
fn is_answer(error: &RedisError) -> bool {
    use redis::ErrorKind::{Extension, Server, UnexpectedReturnType};
    matches!(error.kind(), Server(_) | Extension | UnexpectedReturnType)
}

fn count(operation: &'static str, result: &'static str) {
    metrics::counter!("rowhouse_cache_operations_total", "operation" => operation, "result" => result).increment(1);
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
