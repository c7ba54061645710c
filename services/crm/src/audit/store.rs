//! SQL of the audit log in a home. `$1` is the tenant, supplied by `TenantTx`.
//!
//! An entry that is about no contact has zeros for its target.

mod queue;
mod row;

use rowhouse_audit::log::{PAGE_MAX, UNSEALED_MAX, Unsealed};
use rowhouse_audit::{Entry, Head, Query, Seal, seal};
#[cfg(test)]
use rowhouse_db::AnyStatement;
use rowhouse_db::{Sql, Statement, TenantTx, Type, Variants};
use rowhouse_types::ContactId;
use uuid::Uuid;

use crate::error::Result;
use row::{Count, Found, Id, Last, Number, Stored, hash};

#[cfg(test)]
pub(crate) use queue::RELAY_STATEMENTS;
pub(super) use queue::{drop_queue, tenants};

/// What homes say of what was done (`audit_entries_outcome_check`).
const SUCCEEDED: &str = "succeeded";

/// The version of a home that has seals.
const SEALS_SINCE: i32 = 3;

/// Said only where entries wait, and so where there are seals: what queues entries has come with them. The version that the
/// directory knows is not asked for, since for a while after the migration it is the older one: days perhaps, in a run over
/// thousands of homes.
const HEAD: Statement<Last> = Statement::new(
    "audit.head",
    "SELECT number, hash FROM audit_seals WHERE tenant_id = $1 ORDER BY number DESC LIMIT 1",
    &[],
);

const WAITING: Statement<Found> = Statement::new(
    "audit.waiting",
    concat!(
        include_str!("sql/entries.sql"),
        "JOIN rowhouse.unsealed AS queued ON queued.tenant_id = $1 AND queued.id = entry.id
         WHERE entry.tenant_id = $1
         ORDER BY entry.id
         LIMIT $2"
    ),
    &[Type::INT8],
);

const SEAL: Statement<Number> = Statement::new(
    "audit.seal",
    "WITH seal AS (
         INSERT INTO audit_seals (tenant_id, number, previous, entries, size, leaves, sealed_at, hash)
         VALUES ($1, $2, $3, $4, cardinality($4), $5, $6, $7)
         ON CONFLICT DO NOTHING
         RETURNING number
     ),
     done AS (
         DELETE FROM rowhouse.unsealed WHERE tenant_id = $1 AND id = ANY ($4) AND EXISTS (SELECT FROM seal)
     )
     SELECT number FROM seal",
    &[
        Type::INT8,
        Type::BYTEA,
        Type::UUID_ARRAY,
        Type::BYTEA,
        Type::TIMESTAMPTZ,
        Type::BYTEA,
    ],
);

const FORGET: Statement<()> = Statement::new(
    "audit.forget",
    "DELETE FROM rowhouse.unsealed AS queued
     WHERE queued.tenant_id = $1
         AND NOT EXISTS (SELECT FROM audit_entries AS entry WHERE entry.tenant_id = $1 AND entry.id = queued.id)",
    &[],
);

const SEALS: Variants<Stored> = Variants {
    since: SEALS_SINCE,
    newer: Statement::new(
        "audit.seals",
        "SELECT number, previous, array_remove(entries, NULL) AS entries, leaves,
             CASE WHEN sealed_at > '-infinity' AND sealed_at < '10000-01-01' THEN sealed_at ELSE to_timestamp(0) END AS sealed_at,
             hash
         FROM audit_seals
         WHERE tenant_id = $1 AND number > $2 AND number <= coalesce(
             (SELECT max(number) FROM (
                 SELECT number, sum(size) OVER (ORDER BY number) AS entries FROM (
                     SELECT number, size FROM audit_seals WHERE tenant_id = $1 AND number > $2 ORDER BY number LIMIT $3
                 ) AS following
             ) AS counted WHERE entries <= $4),
             (SELECT min(number) FROM audit_seals WHERE tenant_id = $1 AND number > $2))
         ORDER BY number
         LIMIT $3",
        &[Type::INT8, Type::INT8, Type::INT8],
    ),
    older: Statement::new(
        "audit.seals_before",
        "SELECT $2::bigint AS number, ''::bytea AS previous, '{}'::uuid[] AS entries, ''::bytea AS leaves, now() AS sealed_at,
             ''::bytea AS hash
         WHERE $1::uuid IS NULL AND $3::bigint > 0 AND $4::bigint > 0",
        &[Type::INT8, Type::INT8, Type::INT8],
    ),
};

const ENTRIES: Statement<Found> = Statement::new(
    "audit.entries",
    concat!(
        include_str!("sql/entries.sql"),
        "WHERE tenant_id = $1 AND id = ANY ($2)
         ORDER BY id"
    ),
    &[Type::UUID_ARRAY],
);

/// What no seal names and what is not in the queue. It reads the whole log: some seconds for a million entries.
const UNSEALED: Variants<Id> = Variants {
    since: SEALS_SINCE,
    newer: Statement::new(
        "audit.unsealed",
        "SELECT entry.id FROM audit_entries AS entry
         LEFT JOIN (SELECT unnest(entries) AS id FROM audit_seals WHERE tenant_id = $1) AS sealed ON sealed.id = entry.id
         LEFT JOIN rowhouse.unsealed AS queued ON queued.tenant_id = $1 AND queued.id = entry.id
         WHERE entry.tenant_id = $1 AND sealed.id IS NULL AND queued.id IS NULL
         ORDER BY entry.id
         LIMIT $2",
        &[Type::INT8],
    ),
    older: Statement::new(
        "audit.unsealed_before",
        "SELECT $1::uuid AS id WHERE $1::uuid IS NULL AND $2::bigint > 0",
        &[Type::INT8],
    ),
};

/// How many entries wait; all of them in a home before its migration.
const QUEUED: Variants<Count> = Variants {
    since: SEALS_SINCE,
    newer: Statement::new(
        "audit.queued",
        "SELECT count(*) AS count FROM rowhouse.unsealed WHERE tenant_id = $1",
        &[],
    ),
    older: Statement::new(
        "audit.queued_before",
        "SELECT count(*) AS count FROM audit_entries WHERE tenant_id = $1",
        &[],
    ),
};

const NOTE: Statement<()> = Statement::new(
    "audit.note",
    "INSERT INTO audit_entries (
         tenant_id, id, at, actor, on_behalf_of, reason, address, request_id, action, target, after, outcome
     )
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, '00000000-0000-0000-0000-000000000000', $10, $11)",
    &[
        Type::UUID,
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::JSONB,
        Type::TEXT,
    ],
);

/// All of them but lists, for the tests that prepare them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&dyn AnyStatement] = &[
    &HEAD,
    &WAITING,
    &SEAL,
    &FORGET,
    &SEALS.newer,
    &SEALS.older,
    &ENTRIES,
    &UNSEALED.newer,
    &UNSEALED.older,
    &QUEUED.newer,
    &QUEUED.older,
    &NOTE,
];

/// The last seal of the chain.
pub(super) async fn head(tx: &mut TenantTx) -> Result<Head> {
    let last = tx.fetch_optional(&HEAD, &[]).await?;
    Ok(last.map_or_else(Head::start, |last| Head {
        number: last.number,
        hash: hash(&last.hash),
    }))
}

/// The oldest entries that wait, as many as fit into a seal.
pub(super) async fn waiting(tx: &mut TenantTx) -> Result<Vec<Entry>> {
    let limit = i64::try_from(seal::ENTRIES_MAX).unwrap_or(i64::MAX);
    let found = tx.fetch_all(&WAITING, &[&limit]).await?;
    Ok(found.into_iter().map(|found| found.0).collect())
}

/// Writes a seal and takes its entries from the queue. Answers false where the number was taken.
pub(super) async fn seal(tx: &mut TenantTx, seal: &Seal) -> Result<bool> {
    let entries: Vec<Uuid> = seal.entries.iter().map(|id| id.uuid()).collect();
    let written = tx
        .fetch_optional(
            &SEAL,
            &[
                &seal.number,
                &seal.previous.bytes().to_vec(),
                &entries,
                &seal.leaf_bytes(),
                &seal.sealed_at,
                &seal.hash.bytes().to_vec(),
            ],
        )
        .await?;
    Ok(written.is_some())
}

/// Takes from the queue what is no entry.
pub(super) async fn forget(tx: &mut TenantTx) -> Result<()> {
    tx.execute(&FORGET, &[]).await?;
    Ok(())
}

/// Seals after a number, in order.
pub(super) async fn seals(tx: &mut TenantTx, after: i64) -> Result<Vec<Seal>> {
    let statement = tx.variant(&SEALS);
    let entries_max = i64::try_from(2 * seal::ENTRIES_MAX).unwrap_or(i64::MAX);
    let stored = tx.fetch_all(statement, &[&after, &PAGE_MAX, &entries_max]).await?;
    Ok(stored.into_iter().map(|stored| stored.0).collect())
}

/// The entries of these seals that are there.
pub(super) async fn entries(tx: &mut TenantTx, seals: &[Seal]) -> Result<Vec<Entry>> {
    let ids: Vec<Uuid> = seals
        .iter()
        .flat_map(|seal| &seal.entries)
        .map(|id| id.uuid())
        .collect();
    let found = tx.fetch_all(&ENTRIES, &[&ids]).await?;
    Ok(found.into_iter().map(|found| found.0).collect())
}

/// What is not sealed.
pub(super) async fn unsealed(tx: &mut TenantTx) -> Result<Unsealed> {
    let (lost, queued) = (tx.variant(&UNSEALED), tx.variant(&QUEUED));
    let lost = tx.fetch_all(lost, &[&UNSEALED_MAX]).await?;
    tx.commit_with_next();
    let waiting = tx.fetch_one(queued, &[]).await?.0;
    Ok(Unsealed {
        lost: lost.into_iter().map(|id| id.0).collect(),
        waiting,
    })
}

/// Writes an entry that is about no change.
pub(super) async fn note(tx: &mut TenantTx, entry: &Entry) -> Result<()> {
    let outcome = match entry.outcome.as_str() {
        Entry::DONE => SUCCEEDED,
        other => other,
    };
    tx.execute(
        &NOTE,
        &[
            &entry.id.uuid(),
            &entry.at,
            &entry.actor,
            &entry.on_behalf_of,
            &entry.reason,
            &entry.address,
            &entry.request_id,
            &entry.action,
            &entry.after,
            &outcome.to_owned(),
        ],
    )
    .await?;
    Ok(())
}

/// Entries, the newest first.
pub(super) async fn page(mut tx: TenantTx, query: &Query) -> Result<Vec<Entry>> {
    let (from, to) = query.ids();
    let mut sql = Sql::new(concat!(
        include_str!("sql/entries.sql"),
        "WHERE tenant_id = $1 AND id >= "
    ))
    .named("audit.page")
    .bind(from)
    .push(" AND id < ")
    .bind(to);
    if let Some(actor) = &query.actor {
        sql = sql.push(" AND (actor = ").bind(actor.clone());
        sql = sql.push(" OR on_behalf_of = ").bind(actor.clone()).push(")");
    }
    if let Some(action) = &query.action {
        sql = sql.push(" AND action = ").bind(action.clone());
    }
    if let Some(target) = &query.target {
        // Whatever is no contact's id is no target here.
        let contact = target.parse::<ContactId>().map_or(Uuid::max(), |id| id.uuid());
        sql = sql.push(" AND target = ").bind(contact);
    }
    if let Some(request_id) = &query.request_id {
        sql = sql.push(" AND request_id = ").bind(request_id.clone());
    }
    if let Some(outcome) = &query.outcome {
        sql = sql.push(" AND outcome = ").bind(outcome.clone());
    }
    if let Some(from) = query.from {
        sql = sql.push(" AND at >= ").bind(from);
    }
    if let Some(to) = query.to {
        sql = sql.push(" AND at < ").bind(to);
    }
    let sql = sql
        .push(" ORDER BY id DESC LIMIT ")
        .bind(query.limit.clamp(0, PAGE_MAX));
    let found: Vec<Found> = tx.fetch_page(sql).await?;
    Ok(found.into_iter().map(|found| found.0).collect())
}
