//! Counted attempts and processed messages.
//!
//! The broker's own count is not used: it differs by version, and it counts a message that a consumer merely held when
//! another one brought it down. The tables, in the schema of the service that consumes:
//!
//! ```sql
//! CREATE TABLE attempts (
//!     queue text NOT NULL, message_id uuid NOT NULL, kind text NOT NULL, attempts integer NOT NULL,
//!     last_error text, parked_at timestamptz, updated_at timestamptz NOT NULL DEFAULT now(),
//!     PRIMARY KEY (queue, message_id));
//! CREATE TABLE processed (
//!     queue text NOT NULL, message_id uuid NOT NULL, processed_at timestamptz NOT NULL DEFAULT now(),
//!     PRIMARY KEY (queue, message_id));
//! ```

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use uuid::Uuid;

/// Longest error text kept, in characters.
const ERROR_CHARS_MAX: usize = 500;

/// Rows removed at once, so that a sweep holds no locks for long.
const PRUNE_ROWS: i64 = 5_000;

/// A message that comes again this long after it was parked was redriven; one that comes earlier lost only the answer to
/// its parking.
const REDRIVEN_AFTER: &str = "interval '1 minute'";

/// Where one service counts attempts and remembers what it has processed.
#[derive(Clone, Debug)]
pub struct Ledger {
    pool: PgPool,
    schema: &'static str,
}

/// What is known of a message when it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// Its effect is committed already.
    Processed,
    /// This is the attempt with that number, counted from 1.
    Attempt(u32),
}

// === impl Ledger ===

impl Ledger {
    /// The tables `<schema>.attempts` and `<schema>.processed` of the database that `pool` leads to.
    #[must_use]
    pub fn new(pool: PgPool, schema: &'static str) -> Self {
        Self { pool, schema }
    }

    /// Records in a handler's own transaction that it has processed a message. On `false` somebody else did so first:
    /// roll back, for the effect is there.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn record(
        &self,
        connection: &mut PgConnection,
        queue: &str,
        message_id: Uuid,
    ) -> Result<bool, sqlx::Error> {
        let schema = self.schema;
        let sql = format!(
            "WITH cleared AS (DELETE FROM {schema}.attempts WHERE queue = $1 AND message_id = $2)
             INSERT INTO {schema}.processed (queue, message_id) VALUES ($1, $2)
             ON CONFLICT (queue, message_id) DO NOTHING"
        );
        let done = sqlx::query(AssertSqlSafe(sql))
            .bind(queue)
            .bind(message_id)
            .execute(connection)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Forgets what is older than `age`, some thousand rows at a time; messages are never that old when they come again.
    /// Answers how many processed messages were forgotten.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn prune(&self, age: Duration) -> Result<u64, sqlx::Error> {
        let schema = self.schema;
        // Counts stay behind where a handler found nothing to do. What is parked stays until somebody has dealt with it.
        let sql = format!(
            "WITH done AS (
                 SELECT queue, message_id FROM {schema}.processed
                 WHERE processed_at < now() - make_interval(secs => $1) LIMIT $2),
             counted AS (
                 SELECT queue, message_id FROM {schema}.attempts
                 WHERE updated_at < now() - make_interval(secs => $1) AND parked_at IS NULL LIMIT $2),
             forgotten AS (
                 DELETE FROM {schema}.attempts AS row USING counted
                 WHERE row.queue = counted.queue AND row.message_id = counted.message_id)
             DELETE FROM {schema}.processed AS row USING done
             WHERE row.queue = done.queue AND row.message_id = done.message_id"
        );
        let done = sqlx::query(AssertSqlSafe(sql))
            .bind(age.as_secs_f64())
            .bind(PRUNE_ROWS)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected())
    }

    /// Counts an attempt before it is made: one that brings the process down has been counted too. A parked message that
    /// comes again was redriven by an operator and begins anew.
    pub(crate) async fn begin(&self, queue: &str, message_id: Uuid, kind: &str) -> Result<Begun, sqlx::Error> {
        let schema = self.schema;
        let sql = format!(
            "INSERT INTO {schema}.attempts AS known (queue, message_id, kind, attempts)
             SELECT $1, $2, $3, 1
             WHERE NOT EXISTS (SELECT FROM {schema}.processed WHERE queue = $1 AND message_id = $2)
             ON CONFLICT (queue, message_id) DO UPDATE SET
                 attempts = CASE WHEN known.parked_at < now() - {REDRIVEN_AFTER} THEN 1 ELSE known.attempts + 1 END,
                 parked_at = CASE WHEN known.parked_at < now() - {REDRIVEN_AFTER} THEN NULL ELSE known.parked_at END,
                 updated_at = now()
             RETURNING attempts"
        );
        let attempts: Option<i32> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(queue)
            .bind(message_id)
            .bind(kind)
            .fetch_optional(&self.pool)
            .await?;
        Ok(attempts.map_or(Begun::Processed, |attempts| {
            Begun::Attempt(u32::try_from(attempts).unwrap_or(u32::MAX))
        }))
    }

    /// Keeps why an attempt failed, and whether the message is parked for it.
    pub(crate) async fn failed(
        &self,
        queue: &str,
        message_id: Uuid,
        cause: &str,
        parked: bool,
    ) -> Result<(), sqlx::Error> {
        let schema = self.schema;
        let sql = format!(
            "UPDATE {schema}.attempts
             SET last_error = $3, parked_at = CASE WHEN $4 THEN now() END, updated_at = now()
             WHERE queue = $1 AND message_id = $2"
        );
        // PostgreSQL keeps no NUL in text.
        let cause: String = cause.chars().filter(|c| *c != '\0').take(ERROR_CHARS_MAX).collect();
        sqlx::query(AssertSqlSafe(sql))
            .bind(queue)
            .bind(message_id)
            .bind(cause)
            .bind(parked)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
