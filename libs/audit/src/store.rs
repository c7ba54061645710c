//! Logs in the control database: `<schema>.audit`, with `<schema>.seals` and `<schema>.unsealed` beside it.

pub(crate) mod sealing;

use std::slice;

use chrono::{DateTime, Utc};
use rowhouse_context::{Ctx, ServiceName};
use rowhouse_status::Failure;
use rowhouse_types::{AuditEntryId, TenantId};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row as _};
use uuid::Uuid;

use crate::entry::Entry;
use crate::log::{AuditLog, PAGE_MAX, Query, UNSEALED_MAX, Unsealed};
use crate::seal::{Batch, ENTRIES_MAX, Hash, Head, Seal};

/// Where a service's log stands in the control database.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// The service.
    pub service: ServiceName,
    /// Its schema.
    pub schema: &'static str,
    /// The column of an entry's id.
    pub id: &'static str,
}

/// A service's log in its own schema. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ControlLog {
    pool: PgPool,
    table: Table,
}

// === impl Table ===

impl Table {
    /// The statements, for the test that prepares them with the service's own login.
    #[must_use]
    pub fn statements(&self) -> Vec<String> {
        let chains = [None, Some(TenantId::from_uuid(Uuid::nil()))];
        let mut statements: Vec<String> = chains
            .iter()
            .flat_map(|tenant| [self.page_sql(*tenant), self.unsealed_sql(*tenant)])
            .collect();
        statements.extend([
            self.entries_sql(),
            self.insert_sql(),
            self.seals_sql(),
            self.waiting_sql(),
        ]);
        statements.extend(self.sealing_statements());
        statements
    }

    /// Writes an entry, in the transaction of the change that it is about.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn record(&self, connection: &mut PgConnection, entry: &Entry) -> Result<(), sqlx::Error> {
        self.record_all(connection, slice::from_ref(entry)).await
    }

    /// Writes entries, in the transaction of the change that they are about: by one statement, however many logs are told of it.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn record_all(&self, connection: &mut PgConnection, entries: &[Entry]) -> Result<(), sqlx::Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let each = || entries.iter();
        sqlx::query(AssertSqlSafe(self.insert_sql()))
            .bind(each().map(|entry| entry.id.uuid()).collect::<Vec<_>>())
            .bind(
                each()
                    .map(|entry| entry.tenant.map(|tenant| tenant.uuid()))
                    .collect::<Vec<_>>(),
            )
            .bind(each().map(|entry| entry.at).collect::<Vec<_>>())
            .bind(each().map(|entry| &entry.actor).collect::<Vec<_>>())
            .bind(each().map(|entry| entry.on_behalf_of.as_ref()).collect::<Vec<_>>())
            .bind(each().map(|entry| &entry.action).collect::<Vec<_>>())
            .bind(each().map(|entry| &entry.target).collect::<Vec<_>>())
            .bind(each().map(|entry| entry.before.as_ref()).collect::<Vec<_>>())
            .bind(each().map(|entry| entry.after.as_ref()).collect::<Vec<_>>())
            .bind(each().map(|entry| entry.reason.as_ref()).collect::<Vec<_>>())
            .bind(each().map(|entry| entry.address.as_ref()).collect::<Vec<_>>())
            .bind(each().map(|entry| &entry.request_id).collect::<Vec<_>>())
            .bind(each().map(|entry| &entry.outcome).collect::<Vec<_>>())
            .execute(connection)
            .await?;
        Ok(())
    }

    fn columns(&self) -> String {
        let id = self.id;
        format!(
            "{id} AS id, tenant_id, CASE WHEN at > '-infinity' AND at < '10000-01-01' THEN at ELSE to_timestamp(0) END AS at, actor,
             on_behalf_of, action, target, before, after, reason, address, request_id, outcome"
        )
    }

    fn page_sql(&self, tenant: Option<TenantId>) -> String {
        let (schema, id, columns, of) = (self.schema, self.id, self.columns(), belongs(tenant));
        format!(
            "SELECT {columns} FROM {schema}.audit
             WHERE {of} AND {id} >= $2 AND {id} < $3
                 AND ($4::text IS NULL OR actor = $4 OR on_behalf_of = $4)
                 AND ($5::text IS NULL OR action = $5)
                 AND ($6::text IS NULL OR target = $6)
                 AND ($7::text IS NULL OR request_id = $7)
                 AND ($8::text IS NULL OR outcome = $8)
                 AND ($9::timestamptz IS NULL OR at >= $9)
                 AND ($10::timestamptz IS NULL OR at < $10)
             ORDER BY {id} DESC
             LIMIT $11"
        )
    }

    fn entries_sql(&self) -> String {
        let (schema, id, columns) = (self.schema, self.id, self.columns());
        format!("SELECT {columns} FROM {schema}.audit WHERE {id} = ANY ($1) ORDER BY {id}")
    }

    fn insert_sql(&self) -> String {
        let (schema, id) = (self.schema, self.id);
        format!(
            "INSERT INTO {schema}.audit ({id}, tenant_id, at, actor, on_behalf_of, action, target, before, after,
                 reason, address, request_id, outcome)
             SELECT id, tenant_id, at, actor, on_behalf_of, action, target, before, after, reason, address, request_id, outcome
             FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[],
                 $8::jsonb[], $9::jsonb[], $10::text[], $11::text[], $12::text[], $13::text[]) AS new
                 (id, tenant_id, at, actor, on_behalf_of, action, target, before, after, reason, address, request_id, outcome)"
        )
    }

    /// What no seal names and what is not in the queue. It reads the whole log: some seconds for a million entries.
    fn unsealed_sql(&self, tenant: Option<TenantId>) -> String {
        let (schema, id, of) = (self.schema, self.id, belongs(tenant));
        format!(
            "SELECT audit.{id} FROM {schema}.audit AS audit
             LEFT JOIN (SELECT unnest(entries) AS sealed_id FROM {schema}.seals WHERE chain = $2) AS sealed
                 ON sealed_id = audit.{id}
             LEFT JOIN {schema}.unsealed AS queued ON queued.chain = $2 AND queued.id = audit.{id}
             WHERE {of} AND sealed_id IS NULL AND queued.id IS NULL
             ORDER BY audit.{id}
             LIMIT $3"
        )
    }

    fn waiting_sql(&self) -> String {
        let schema = self.schema;
        format!("SELECT count(*) FROM {schema}.unsealed WHERE chain = $1")
    }

    /// As many as belong on a page, by their sizes; the first always.
    fn seals_sql(&self) -> String {
        let schema = self.schema;
        format!(
            "SELECT number, previous, array_remove(entries, NULL) AS entries, leaves,
                 CASE WHEN sealed_at > '-infinity' AND sealed_at < '10000-01-01' THEN sealed_at ELSE to_timestamp(0) END AS sealed_at,
                 hash
             FROM {schema}.seals
             WHERE chain = $1 AND number > $2 AND number <= coalesce(
                 (SELECT max(number) FROM (
                     SELECT number, sum(size) OVER (ORDER BY number) AS entries FROM (
                         SELECT number, size FROM {schema}.seals WHERE chain = $1 AND number > $2 ORDER BY number LIMIT $3
                     ) AS following
                 ) AS counted WHERE entries <= $4),
                 (SELECT min(number) FROM {schema}.seals WHERE chain = $1 AND number > $2))
             ORDER BY number
             LIMIT $3"
        )
    }
}

// === impl ControlLog ===

impl ControlLog {
    /// The log in `table`.
    #[must_use]
    pub fn new(pool: PgPool, table: Table) -> Self {
        Self { pool, table }
    }

    async fn entries(&self, connection: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Entry>, sqlx::Error> {
        let rows = sqlx::query(AssertSqlSafe(self.table.entries_sql()))
            .bind(ids)
            .fetch_all(connection)
            .await?;
        rows.iter().map(|row| read_entry(self.table.service, row)).collect()
    }
}

#[async_trait::async_trait]
impl AuditLog for ControlLog {
    async fn page(&self, _: &Ctx, tenant: Option<TenantId>, query: &Query) -> Result<Vec<Entry>, Failure> {
        let (from, to) = query.ids();
        let rows = sqlx::query(AssertSqlSafe(self.table.page_sql(tenant)))
            .bind(tenant.map(|tenant| tenant.uuid()))
            .bind(from)
            .bind(to)
            .bind(&query.actor)
            .bind(&query.action)
            .bind(&query.target)
            .bind(&query.request_id)
            .bind(&query.outcome)
            .bind(query.from)
            .bind(query.to)
            .bind(query.limit.clamp(0, PAGE_MAX))
            .fetch_all(&self.pool)
            .await
            .map_err(unavailable)?;
        let entries = rows.iter().map(|row| read_entry(self.table.service, row));
        entries.collect::<Result<_, _>>().map_err(unavailable)
    }

    async fn seals(&self, _: &Ctx, tenant: Option<TenantId>, after: i64) -> Result<Vec<Batch>, Failure> {
        let mut connection = self.pool.acquire().await.map_err(unavailable)?;
        let rows = sqlx::query(AssertSqlSafe(self.table.seals_sql()))
            .bind(key(tenant))
            .bind(after)
            .bind(PAGE_MAX)
            .bind(i64::try_from(2 * ENTRIES_MAX).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await
            .map_err(unavailable)?;
        let seals: Vec<Seal> = rows
            .iter()
            .map(read_seal)
            .collect::<Result<_, _>>()
            .map_err(unavailable)?;
        let seals = Seal::first_page(seals);
        let ids: Vec<Uuid> = seals
            .iter()
            .flat_map(|seal| &seal.entries)
            .map(|id| id.uuid())
            .collect();
        let entries = self.entries(&mut connection, &ids).await.map_err(unavailable)?;
        Ok(seals.into_iter().map(|seal| Batch::of(seal, &entries)).collect())
    }

    async fn unsealed(&self, _: &Ctx, tenant: Option<TenantId>) -> Result<Unsealed, Failure> {
        let mut connection = self.pool.acquire().await.map_err(unavailable)?;
        let lost: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(self.table.unsealed_sql(tenant)))
            .bind(tenant.map(|tenant| tenant.uuid()))
            .bind(key(tenant))
            .bind(UNSEALED_MAX)
            .fetch_all(&mut *connection)
            .await
            .map_err(unavailable)?;
        let waiting = sqlx::query_scalar(AssertSqlSafe(self.table.waiting_sql()))
            .bind(key(tenant))
            .fetch_one(&mut *connection)
            .await
            .map_err(unavailable)?;
        Ok(Unsealed {
            lost: lost.into_iter().map(AuditEntryId::from_uuid).collect(),
            waiting,
        })
    }

    async fn note(&self, entry: &Entry) -> Result<(), Failure> {
        let mut connection = self.pool.acquire().await.map_err(unavailable)?;
        self.table.record(&mut connection, entry).await.map_err(unavailable)
    }
}

/// How a chain is named in `seals` and `unsealed`: the tenant, or zeros for the platform.
fn key(tenant: Option<TenantId>) -> Uuid {
    tenant.map_or(Uuid::nil(), |tenant| tenant.uuid())
}

/// Whose chain has this name.
pub(crate) fn tenant_of(chain: Uuid) -> Option<TenantId> {
    (!chain.is_nil()).then(|| TenantId::from_uuid(chain))
}

/// Which entries are the chain's. Two texts, because an index serves neither in one.
fn belongs(tenant: Option<TenantId>) -> &'static str {
    match tenant {
        Some(_) => "tenant_id = $1",
        None => "tenant_id IS NULL AND $1::uuid IS NULL",
    }
}

fn unavailable(error: sqlx::Error) -> Failure {
    Failure::unavailable("database", error)
}

fn read_entry(service: ServiceName, row: &PgRow) -> Result<Entry, sqlx::Error> {
    let tenant: Option<Uuid> = row.try_get("tenant_id")?;
    Ok(Entry {
        id: AuditEntryId::from_uuid(row.try_get("id")?),
        service,
        tenant: tenant.map(TenantId::from_uuid),
        at: row.try_get("at")?,
        actor: row.try_get("actor")?,
        on_behalf_of: row.try_get("on_behalf_of")?,
        action: row.try_get("action")?,
        target: row.try_get("target")?,
        before: row.try_get("before")?,
        after: row.try_get("after")?,
        reason: row.try_get("reason")?,
        address: row.try_get("address")?,
        request_id: row.try_get("request_id")?,
        outcome: row.try_get("outcome")?,
    })
}

fn read_head(row: &PgRow) -> Result<Head, sqlx::Error> {
    Ok(Head {
        number: row.try_get("number")?,
        hash: hash(row, "hash")?,
    })
}

fn read_seal(row: &PgRow) -> Result<Seal, sqlx::Error> {
    let entries: Vec<Uuid> = row.try_get("entries")?;
    let leaves: Vec<u8> = row.try_get("leaves")?;
    let sealed_at: DateTime<Utc> = row.try_get("sealed_at")?;
    Ok(Seal {
        number: row.try_get("number")?,
        previous: hash(row, "previous")?,
        entries: entries.into_iter().map(AuditEntryId::from_uuid).collect(),
        leaves: Seal::leaves_from(&leaves),
        sealed_at,
        hash: hash(row, "hash")?,
    })
}

/// A stored hash. One of another length was not written by this code: zeros, and the seal does not hold.
fn hash(row: &PgRow, column: &str) -> Result<Hash, sqlx::Error> {
    let bytes: Vec<u8> = row.try_get(column)?;
    Ok(Hash::from_bytes(&bytes).unwrap_or(Hash::zero()))
}
