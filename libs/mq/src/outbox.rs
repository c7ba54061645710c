//! Outbox tables: the same columns in every schema that has one.

use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::Event;

/// One outbox table and how to reach it.
#[derive(Clone, Debug)]
pub struct OutboxTable {
    pub(crate) pool: PgPool,
    pub(crate) schema: &'static str,
}

// === impl OutboxTable ===

impl OutboxTable {
    /// The table `<schema>.outbox` of the database that `pool` leads to. The login needs SELECT, UPDATE (for the row
    /// locks) and DELETE on it.
    #[must_use]
    pub fn new(pool: PgPool, schema: &'static str) -> Self {
        Self { pool, schema }
    }
}

/// Appends an event to `<schema>.outbox`, in the transaction of the change that it tells of.
///
/// # Errors
/// What PostgreSQL says.
pub async fn append(connection: &mut PgConnection, schema: &'static str, event: &Event) -> Result<(), sqlx::Error> {
    let sql = format!(
        "INSERT INTO {schema}.outbox (id, tenant_id, kind, payload, request_id, traceparent)
         VALUES ($1, $2, $3, $4, $5, $6)"
    );
    // The schema is a literal of the caller's code.
    sqlx::query(AssertSqlSafe(sql))
        .bind(event.id)
        .bind(event.tenant.map(|tenant| tenant.uuid()))
        .bind(&event.kind)
        .bind(&event.payload)
        .bind(&event.request_id)
        .bind(&event.traceparent)
        .execute(connection)
        .await?;
    Ok(())
}
