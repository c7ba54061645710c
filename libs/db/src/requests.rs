//! Calls that a client may repeat (AIP-155): within 24 hours the same key (`request_id`) with the same content is answered as the
//! first call was, and nothing happens twice.
//!
//! [`Once`] and [`Claimed`] are every service's. [`RequestTable`] is the table of a service's own schema; that of tenants' homes
//! has an answer besides, and its statements stand with its service.

use std::fmt::Display;

use aws_lc_rs::digest;
use rowhouse_types::IdempotencyKey;
use sqlx::{AssertSqlSafe, Encode, PgConnection, PgPool, Postgres, Type};
use uuid::Uuid;

/// Rows that one statement forgets: some milliseconds.
const PART_ROWS: u32 = 1_000;

/// Such statements of one turn at most. More than come to expire between two turns, so that a backlog shrinks.
const PARTS_MAX: u32 = 100;

/// By what a repeated call is recognised.
#[derive(Clone, Debug)]
pub struct Once {
    /// Its name, such as `CreateContact`; each has keys of its own.
    pub method: &'static str,
    /// What the client chose.
    pub key: IdempotencyKey,
    /// Of who asks for what, 32 bytes: the same key with another one is refused.
    pub fingerprint: Vec<u8>,
}

/// What became of a call that claims its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It is the first.
    First,
    /// The same call made this before.
    Repeated(Uuid),
    /// The key was used for something else.
    Reused,
}

/// `<schema>.requests` of a service's own schema, in the control database.
#[derive(Clone, Copy, Debug)]
pub struct RequestTable {
    schema: &'static str,
    scope: &'static str,
}

/// A digest of what must be the same, 32 bytes. Rows live for a day, so code that comes later must make the same ones.
///
/// `content`: such that no two contents are the same text; JSON is.
#[must_use]
pub fn fingerprint(content: &impl Display) -> Vec<u8> {
    digest::digest(&digest::SHA256, content.to_string().as_bytes())
        .as_ref()
        .to_vec()
}

// === impl Once ===

impl Once {
    /// `content`: who asks for what, as of [`fingerprint`].
    #[must_use]
    pub fn new(method: &'static str, key: IdempotencyKey, content: &impl Display) -> Self {
        Self {
            method,
            key,
            fingerprint: fingerprint(content),
        }
    }

    /// What became of the call whose claim has left this row.
    ///
    /// `ours`: what the call makes, if it is the first. `resource`, `print`: what the row holds.
    #[must_use]
    pub fn judge(&self, ours: Uuid, resource: Uuid, print: &[u8]) -> Claimed {
        if resource == ours {
            Claimed::First
        } else {
            self.compare(resource, print)
        }
    }

    /// The same of a row that is an earlier call's.
    #[must_use]
    pub fn compare(&self, resource: Uuid, print: &[u8]) -> Claimed {
        if print == self.fingerprint {
            Claimed::Repeated(resource)
        } else {
            Claimed::Reused
        }
    }
}

// === impl RequestTable ===

impl RequestTable {
    /// `schema`: where the table is. `scope`: its column of whose the keys are; each has keys of its own. Both are plain words of
    /// the code.
    #[must_use]
    pub const fn new(schema: &'static str, scope: &'static str) -> Self {
        Self { schema, scope }
    }

    /// The statements, for the test that prepares them with the service's own login.
    #[must_use]
    pub fn statements(&self) -> Vec<String> {
        vec![self.claim_sql(), self.find_sql(), self.forget_sql()]
    }

    /// Claims a key within the transaction that does the work. Whoever comes second waits for it to end.
    ///
    /// `resource`: what the call makes, if it is the first.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn claim<'q, S>(
        &self,
        connection: &mut PgConnection,
        scope: S,
        once: &'q Once,
        resource: Uuid,
    ) -> Result<Claimed, sqlx::Error>
    where
        S: Encode<'q, Postgres> + Type<Postgres> + 'q,
    {
        let (known, print): (Uuid, Vec<u8>) = sqlx::query_as(AssertSqlSafe(self.claim_sql()))
            .bind(scope)
            .bind(once.method)
            .bind(once.key.uuid())
            .bind(&once.fingerprint)
            .bind(resource)
            .fetch_one(connection)
            .await?;
        Ok(once.judge(resource, known, &print))
    }

    /// What became of an earlier call with the key, for a call that would be refused now; `None` where there was none.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn find<'q, S>(
        &self,
        connection: &mut PgConnection,
        scope: S,
        once: &'q Once,
    ) -> Result<Option<Claimed>, sqlx::Error>
    where
        S: Encode<'q, Postgres> + Type<Postgres> + 'q,
    {
        let row: Option<(Uuid, Vec<u8>)> = sqlx::query_as(AssertSqlSafe(self.find_sql()))
            .bind(scope)
            .bind(once.method)
            .bind(once.key.uuid())
            .fetch_optional(connection)
            .await?;
        Ok(row.map(|(resource, print)| once.compare(resource, &print)))
    }

    /// Forgets keys whose 24 hours are over, in parts of 1,000 up to 100,000; answers how many.
    ///
    /// # Errors
    /// What PostgreSQL says; what was forgotten before stays so.
    pub async fn forget(&self, pool: &PgPool) -> Result<u64, sqlx::Error> {
        let mut forgotten = 0;
        for _ in 0..PARTS_MAX {
            let part = self.forget_part(pool, PART_ROWS).await?;
            forgotten += part;
            if part < PART_ROWS.into() {
                break;
            }
        }
        Ok(forgotten)
    }

    /// Forgets at most `rows_max` such keys; answers how many.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn forget_part(&self, pool: &PgPool, rows_max: u32) -> Result<u64, sqlx::Error> {
        let done = sqlx::query(AssertSqlSafe(self.forget_sql()))
            .bind(i64::from(rows_max))
            .execute(pool)
            .await?;
        Ok(done.rows_affected())
    }

    /// The no-op update makes the second of two simultaneous calls wait for the first and then see its row; DO NOTHING would
    /// show it nothing. A row whose time is over is taken over.
    fn claim_sql(&self) -> String {
        let Self { schema, scope } = self;
        format!(
            "INSERT INTO {schema}.requests AS known ({scope}, method, request_id, fingerprint, resource_id, expires_at)
             VALUES ($1, $2, $3, $4, $5, now() + interval '24 hours')
             ON CONFLICT ({scope}, method, request_id) DO UPDATE SET
                 fingerprint = CASE WHEN known.expires_at <= now() THEN excluded.fingerprint ELSE known.fingerprint END,
                 resource_id = CASE WHEN known.expires_at <= now() THEN excluded.resource_id ELSE known.resource_id END,
                 expires_at = CASE WHEN known.expires_at <= now() THEN excluded.expires_at ELSE known.expires_at END
             RETURNING resource_id, fingerprint"
        )
    }

    fn find_sql(&self) -> String {
        let Self { schema, scope } = self;
        format!(
            "SELECT resource_id, fingerprint FROM {schema}.requests
             WHERE {scope} = $1 AND method = $2 AND request_id = $3 AND expires_at > now()"
        )
    }

    /// Rows that a call is taking over, or that somebody else removes, are passed over: what waited for such a call would remove
    /// what it has just written. A `WITH` that locks rows is run once; within `IN` a nested loop may run it for each row, and
    /// each time it passes over other rows, so that more than the limit go.
    fn forget_sql(&self) -> String {
        let Self { schema, scope } = self;
        format!(
            "WITH expired AS MATERIALIZED (
                 SELECT {scope}, method, request_id FROM {schema}.requests
                 WHERE expires_at <= now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
             )
             DELETE FROM {schema}.requests AS known USING expired
             WHERE known.{scope} = expired.{scope} AND known.method = expired.method
                 AND known.request_id = expired.request_id"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_the_first_or_the_same_again_or_another() {
        let once = Once::new("Create", IdempotencyKey::generate(), &"Ada");
        let (ours, theirs) = (Uuid::new_v4(), Uuid::new_v4());
        let other = fingerprint(&"Grace");
        assert_eq!(once.judge(ours, ours, &once.fingerprint), Claimed::First);
        assert_eq!(once.judge(ours, theirs, &once.fingerprint), Claimed::Repeated(theirs));
        assert_eq!(once.judge(ours, theirs, &other), Claimed::Reused);
    }

    /// Rows live for a day, so the code that comes after must make the same ones.
    #[test]
    fn a_fingerprint_is_the_sha_256_of_the_text() {
        let abc: String = fingerprint(&"abc").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(abc, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
