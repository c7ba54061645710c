//! SQL of calls that may be repeated. `$1` is the tenant, supplied by `TenantTx`.

use chrono::{DateTime, TimeDelta, Utc};
#[cfg(test)]
use rowhouse_db::AnyStatement;
use rowhouse_db::requests::Once;
use rowhouse_db::{Error, FromRow, Row, Statement, TenantTx, Type};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::Known;
use crate::error::Result;

/// How long a request is remembered (design of the API: 24 hours).
pub(crate) const REMEMBERED: TimeDelta = TimeDelta::hours(24);

/// What `sql/claim.sql` binds: what the call makes, time; method, request id, fingerprint, answer, until when.
const CLAIM_BINDS: [Type; 7] = [
    Type::UUID,
    Type::TIMESTAMPTZ,
    Type::TEXT,
    Type::UUID,
    Type::BYTEA,
    Type::JSONB,
    Type::TIMESTAMPTZ,
];

const CLAIM: Statement<Known> = Statement::new(
    "request.claim",
    concat!(
        include_str!("sql/claim.sql"),
        "SELECT fingerprint, resource_id, answer FROM request"
    ),
    &CLAIM_BINDS,
);

const REMEMBER: Statement<()> = Statement::new(
    "request.remember",
    "UPDATE requests SET answer = $4 WHERE tenant_id = $1 AND method = $2 AND request_id = $3",
    &[Type::TEXT, Type::UUID, Type::JSONB],
);

const ANSWERED: Statement<Known> = Statement::new(
    "request.answered",
    "SELECT fingerprint, resource_id, answer FROM requests
     WHERE tenant_id = $1 AND method = $2 AND request_id = $3 AND fingerprint = $4 AND expires_at > $5",
    &[Type::TEXT, Type::UUID, Type::BYTEA, Type::TIMESTAMPTZ],
);

/// Removes at most `$3` rows whose time is over at `$2`. Said in every home by its owner, now and then: a tenant that makes no
/// calls with request ids would keep its last ones, with what they answered. A row that a call is taking over is passed over. A
/// `WITH` that locks rows is run once; within `IN` a nested loop may run it again and again, and more than `$3` rows go.
pub(crate) const FORGET: Statement<()> = Statement::new(
    "request.forget",
    "WITH expired AS MATERIALIZED (
         SELECT method, request_id FROM requests
         WHERE tenant_id = $1 AND expires_at <= $2
         ORDER BY expires_at
         LIMIT $3
         FOR UPDATE SKIP LOCKED
     )
     DELETE FROM requests AS known USING expired
     WHERE known.tenant_id = $1 AND known.method = expired.method AND known.request_id = expired.request_id",
    &[Type::TIMESTAMPTZ, Type::INT8],
);

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&dyn AnyStatement] = &[&CLAIM, &REMEMBER, &ANSWERED, &FORGET];

// === impl Known ===

impl FromRow for Known {
    const COLUMNS: &'static [(&'static str, Type)] = &[
        ("fingerprint", Type::BYTEA),
        ("resource_id", Type::UUID),
        ("answer", Type::JSONB),
    ];

    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            fingerprint: row.at(0)?,
            resource: row.at(1)?,
            answer: row.at(2)?,
        })
    }
}

/// Takes a request id for this call; what an earlier one has left under it, where it is another's. [`remember`] must follow in the
/// same transaction: until then the answer is null.
///
/// # Errors
/// [`crate::error::Error::RequestReused`] where the earlier call had other content.
pub(crate) async fn claim(tx: &mut TenantTx, once: &Once, at: DateTime<Utc>) -> Result<Option<Known>> {
    // It makes nothing that has an id; this tells it from the others.
    let mark = Uuid::now_v7();
    let known = tx
        .fetch_one(
            &CLAIM,
            &[
                &mark,
                &at,
                &once.method,
                &once.key.uuid(),
                &once.fingerprint,
                &Value::Null,
                &(at + REMEMBERED),
            ],
        )
        .await?;
    known.earlier(mark, once)
}

/// Writes down what a repeated call is to be told.
pub(crate) async fn remember(tx: &mut TenantTx, once: &Once, answer: &impl Serialize) -> Result<()> {
    let answer = serde_json::to_value(answer)?;
    tx.execute(&REMEMBER, &[&once.method, &once.key.uuid(), &answer])
        .await?;
    Ok(())
}

/// What an earlier call with this request id and content has left.
pub(crate) async fn answered(tx: &mut TenantTx, once: &Once) -> Result<Option<Known>> {
    let known = tx
        .fetch_optional(
            &ANSWERED,
            &[&once.method, &once.key.uuid(), &once.fingerprint, &Utc::now()],
        )
        .await?;
    Ok(known)
}
