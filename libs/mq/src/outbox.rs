//! Outbox tables: the same columns in every schema that has one.

use chrono::{DateTime, Utc};
use rowhouse_types::TenantId;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Row as _, Transaction};
use uuid::Uuid;

use crate::Event;

/// One outbox table and how to reach it.
#[derive(Clone, Debug)]
pub struct OutboxTable {
    pool: PgPool,
    schema: &'static str,
}

/// Rows that nobody else will claim while the transaction lasts.
#[derive(Debug)]
pub(crate) struct Claim {
    transaction: Transaction<'static, Postgres>,
    schema: &'static str,
    pub(crate) events: Vec<Event>,
    pub(crate) oldest: Option<DateTime<Utc>>,
}

// === impl OutboxTable ===

impl OutboxTable {
    /// The table `<schema>.outbox` of the database that `pool` leads to, directly and not through a pooler. The login
    /// needs SELECT, UPDATE (for the row locks) and DELETE on it.
    #[must_use]
    pub fn new(pool: PgPool, schema: &'static str) -> Self {
        Self { pool, schema }
    }

    /// Claims up to `limit` rows, oldest first, of other kinds than those `held` back.
    ///
    /// Locked rows are passed over and there is no high-water mark: a row whose transaction commits late is found when
    /// it is there.
    pub(crate) async fn claim(&self, limit: i64, held: &[String]) -> Result<Claim, sqlx::Error> {
        let sql = format!(
            "SELECT id, tenant_id, kind, payload, request_id, traceparent, created_at
             FROM {}.outbox
             WHERE kind <> ALL ($1)
             ORDER BY created_at, id
             LIMIT $2
             FOR UPDATE SKIP LOCKED",
            self.schema
        );
        let mut transaction = self.pool.begin().await?;
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(held)
            .bind(limit)
            .fetch_all(&mut *transaction)
            .await?;
        let events = rows.iter().map(event).collect::<Result<_, _>>()?;
        let oldest = rows.first().map(|row| row.try_get("created_at")).transpose()?;
        Ok(Claim {
            transaction,
            schema: self.schema,
            events,
            oldest,
        })
    }
}

// === impl Claim ===

impl Claim {
    /// Removes the rows that were published and lets the others go.
    pub(crate) async fn finish(mut self, published: &[Uuid]) -> Result<(), sqlx::Error> {
        if !published.is_empty() {
            let sql = format!("DELETE FROM {}.outbox WHERE id = ANY ($1)", self.schema);
            sqlx::query(AssertSqlSafe(sql))
                .bind(published)
                .execute(&mut *self.transaction)
                .await?;
        }
        self.transaction.commit().await
    }
}

fn event(row: &sqlx::postgres::PgRow) -> Result<Event, sqlx::Error> {
    let tenant: Option<Uuid> = row.try_get("tenant_id")?;
    Ok(Event {
        id: row.try_get("id")?,
        tenant: tenant.map(TenantId::from_uuid),
        kind: row.try_get("kind")?,
        payload: row.try_get::<Value, _>("payload")?,
        request_id: row.try_get("request_id")?,
        traceparent: row.try_get("traceparent")?,
    })
}

/// Appends an event to `<schema>.outbox`, in the transaction of the change that it tells of.
///
/// # Errors
/// What PostgreSQL says.
pub async fn append(connection: &mut PgConnection, schema: &'static str, event: &Event) -> Result<(), sqlx::Error> {
    // The schema is a literal in its caller's code.
    let sql = format!(
        "INSERT INTO {schema}.outbox (id, tenant_id, kind, payload, request_id, traceparent)
         VALUES ($1, $2, $3, $4, $5, $6)"
    );
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
