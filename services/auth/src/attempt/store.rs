//! SQL of attempts.

use chrono::{DateTime, Utc};
use rowhouse_types::{Email, SessionId, UserId};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::QueryAs;
use sqlx::{FromRow, PgConnection, Postgres};
use uuid::Uuid;

use super::{Subject, Taken};
use crate::error::Error;
use crate::identity::Account;

/// Nothing is returned where the subject has to wait. Otherwise the attempt is counted, and where there are more than
/// `free` the next has to wait: a second, and twice as long with each.
pub(super) const TAKE: &str = "INSERT INTO auth.attempts AS attempt (subject, level, at, blocked_until) \
    VALUES ($1, 1, clock_timestamp(), clock_timestamp()) \
    ON CONFLICT (subject) DO UPDATE SET at = clock_timestamp(), \
        level = 1 + greatest(0, attempt.level - extract(epoch FROM clock_timestamp() - attempt.at)::float8 / $3), \
        blocked_until = clock_timestamp() + make_interval(secs => CASE \
            WHEN 1 + greatest(0, attempt.level - extract(epoch FROM clock_timestamp() - attempt.at)::float8 / $3) > $2 \
            THEN least($4, power(2, least(30, greatest(0, \
                attempt.level - extract(epoch FROM clock_timestamp() - attempt.at)::float8 / $3 - $2)))) ELSE 0 END) \
    WHERE attempt.blocked_until <= clock_timestamp() \
    RETURNING level, at";

const WAIT: &str = "SELECT extract(epoch FROM blocked_until - clock_timestamp())::float8 FROM auth.attempts \
    WHERE subject = $1";

/// $2: when it was counted. Where another was since, the wait is the other's and stays.
const GIVE_BACK: &str = "UPDATE auth.attempts SET level = greatest(0, level - 1), \
    blocked_until = CASE WHEN at = $2 THEN clock_timestamp() ELSE blocked_until END WHERE subject = $1";

const FORGET: &str = "DELETE FROM auth.attempts WHERE subject = $1";

/// All that is asked before the password is compared, in one statement, which is sent alike whether there is such an account or
/// not: whether it was logged in to from a network address lately, or its password reset there; whether it was recovered; and the
/// account. Who is known is counted as by TAKE, in the same words, and nothing is returned of that where they have to wait; who is
/// not is counted afterwards.
///
/// Lately: as long as people remember where they were, or an hour to log in after a reset. Where an operator was who acted as
/// them says nothing.
const LOOK: &str = "WITH about AS MATERIALIZED (SELECT EXISTS (SELECT FROM auth.sessions AS session \
        JOIN auth.identities AS identity ON identity.id = session.identity_id \
        WHERE identity.email_key = lower($5) AND session.address = $6 AND session.impersonator_id IS NULL \
        AND session.created_at > now() - interval '30 days') \
        OR EXISTS (SELECT FROM auth.attempts WHERE subject = $7 AND at > now() - interval '1 hour') AS known, \
        EXISTS (SELECT FROM auth.attempts WHERE subject = $8 AND at > now() - interval '1 hour') AS recovered), \
    taken AS (INSERT INTO auth.attempts AS attempt (subject, level, at, blocked_until) \
    SELECT $1, 1, clock_timestamp(), clock_timestamp() FROM about WHERE known AND NOT recovered \
    ON CONFLICT (subject) DO UPDATE SET at = clock_timestamp(), \
        level = 1 + greatest(0, attempt.level - extract(epoch FROM clock_timestamp() - attempt.at)::float8 / $3), \
        blocked_until = clock_timestamp() + make_interval(secs => CASE \
            WHEN 1 + greatest(0, attempt.level - extract(epoch FROM clock_timestamp() - attempt.at)::float8 / $3) > $2 \
            THEN least($4, power(2, least(30, greatest(0, \
                attempt.level - extract(epoch FROM clock_timestamp() - attempt.at)::float8 / $3 - $2)))) ELSE 0 END) \
    WHERE attempt.blocked_until <= clock_timestamp() \
    RETURNING level, at) \
    SELECT about.known, about.recovered, taken.level, taken.at, identity.id, identity.email, identity.display_name, \
        identity.password_hash, identity.state = 'active' AS active \
    FROM about LEFT JOIN taken ON true LEFT JOIN auth.identities AS identity ON identity.email_key = lower($5)";

/// A session that was opened from another is as old as that one (`session/store.rs`).
const LOGGED_IN_AT: &str = "SELECT created_at FROM auth.sessions WHERE id = $1";

const MARK: &str = "INSERT INTO auth.attempts (subject, level, at, blocked_until) \
    VALUES ($1, 0, clock_timestamp(), clock_timestamp()) ON CONFLICT (subject) DO UPDATE SET at = excluded.at";

/// The slowest leak empties every count that matters within a day. Rows that somebody counts in at this moment are left.
/// An array, for the limit's sake (`device/store.rs`).
const PRUNE: &str = "DELETE FROM auth.attempts WHERE subject = ANY (ARRAY(SELECT subject FROM auth.attempts \
    WHERE at < now() - interval '1 day' ORDER BY at LIMIT 10000 FOR UPDATE SKIP LOCKED))";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[TAKE, WAIT, GIVE_BACK, FORGET, LOOK, LOGGED_IN_AT, MARK, PRUNE];

/// What is known of somebody before their password is compared.
pub(super) struct Look {
    /// Whether the account was recovered.
    pub(super) recovered: bool,
    /// What came of counting the attempt; `None` where it was not counted yet.
    pub(super) taken: Option<Taken>,
    pub(super) account: Option<Account>,
}

#[derive(sqlx::FromRow)]
struct LookRow {
    known: bool,
    recovered: bool,
    #[sqlx(flatten)]
    found: Found,
}

/// What came of counting an attempt, and the account that it is at.
#[derive(sqlx::FromRow)]
pub(super) struct Found {
    level: Option<f64>,
    at: Option<DateTime<Utc>>,
    id: Option<Uuid>,
    email: Option<String>,
    display_name: Option<String>,
    password_hash: Option<String>,
    active: Option<bool>,
}

// === impl Found ===

impl Found {
    /// `None` where it was not counted.
    pub(super) fn taken(&self) -> Option<(f64, DateTime<Utc>)> {
        self.level.zip(self.at)
    }

    pub(super) fn account(self) -> Option<Account> {
        Some(Account {
            id: UserId::from_uuid(self.id?),
            email: self.email?,
            display_name: self.display_name?,
            password_hash: self.password_hash?,
            active: self.active?,
        })
    }
}

/// A statement that counts an attempt, with the binds by which [`TAKE`] does: whatever counts in the same words has them as its
/// first, and its own behind them.
pub(super) fn counting<'q, O>(sql: &'static str, subject: &'q Subject) -> QueryAs<'q, Postgres, O, PgArguments>
where
    O: for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_as(sql)
        .bind(&subject.digest)
        .bind(subject.bound.free)
        .bind(subject.bound.leak_s)
        .bind(subject.bound.wait_max_s)
}

/// Counts an attempt and notes when, or says how long to wait where it must not be made yet.
pub(super) async fn take(conn: &mut PgConnection, subject: &mut Subject) -> Result<Taken, Error> {
    let taken: Option<(f64, DateTime<Utc>)> = counting(TAKE, subject).fetch_optional(&mut *conn).await?;
    note(conn, subject, taken).await
}

/// Notes when an attempt was counted, or says how long to wait where it was not.
pub(super) async fn note(
    conn: &mut PgConnection,
    subject: &mut Subject,
    taken: Option<(f64, DateTime<Utc>)>,
) -> Result<Taken, Error> {
    if let Some((level, at)) = taken {
        subject.counted = Some(at);
        return Ok(Taken::Counted(level));
    }
    let wait = sqlx::query_scalar(WAIT).bind(&subject.digest);
    Ok(Taken::Wait(wait.fetch_optional(conn).await?.unwrap_or_default()))
}

/// Takes an attempt back, and lets the next be made at once where it was the last.
pub(super) async fn give_back(conn: &mut PgConnection, subject: &Subject) -> Result<(), Error> {
    let done = sqlx::query(GIVE_BACK).bind(&subject.digest).bind(subject.counted);
    done.execute(conn).await?;
    Ok(())
}

/// Forgets all attempts.
pub(super) async fn forget(conn: &mut PgConnection, subject: &Subject) -> Result<(), Error> {
    let done = sqlx::query(FORGET).bind(&subject.digest);
    done.execute(conn).await?;
    Ok(())
}

/// What is known of somebody before their password is compared. `pair`: the account from there, which is counted where it is known
/// there; `reset`, `recovered`: what marks that.
pub(super) async fn look(
    conn: &mut PgConnection,
    email: &Email,
    address: &str,
    pair: &mut Subject,
    (reset, recovered): (&[u8], &[u8]),
) -> Result<Look, Error> {
    let row: LookRow = counting(LOOK, pair)
        .bind(email.as_str())
        .bind(address)
        .bind(reset)
        .bind(recovered)
        .fetch_one(&mut *conn)
        .await?;
    let taken = if row.known && !row.recovered {
        Some(note(conn, pair, row.found.taken()).await?)
    } else {
        None
    };
    Ok(Look {
        recovered: row.recovered,
        taken,
        account: row.found.account(),
    })
}

/// When the person logged in to whom a session goes back; `None` where there is no such session.
pub(super) async fn logged_in_at(conn: &mut PgConnection, session: SessionId) -> Result<Option<DateTime<Utc>>, Error> {
    let at = sqlx::query_scalar(LOGGED_IN_AT).bind(session.uuid());
    Ok(at.fetch_optional(conn).await?)
}

/// Remembers that something happened now.
pub(super) async fn mark(conn: &mut PgConnection, digest: &[u8]) -> Result<(), Error> {
    sqlx::query(MARK).bind(digest).execute(conn).await?;
    Ok(())
}

/// Forgets that something happened.
pub(super) async fn unmark(conn: &mut PgConnection, digest: &[u8]) -> Result<(), Error> {
    sqlx::query(FORGET).bind(digest).execute(conn).await?;
    Ok(())
}

/// Forgets what has leaked away.
pub(crate) async fn prune(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query(PRUNE).execute(conn).await?;
    Ok(())
}

#[cfg(test)]
mod rules {
    use super::*;

    #[test]
    fn who_is_known_is_counted_as_everybody() {
        let (_, counted) = TAKE.split_once("ON CONFLICT").unwrap();
        assert!(LOOK.contains(counted), "{LOOK}");
    }
}
