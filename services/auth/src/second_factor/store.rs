//! SQL of second factors.

use chrono::{DateTime, Utc};
use rowhouse_types::{SessionId, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Error;

const FIND: &str = "SELECT factor.sealed_secret, factor.confirmed_at, (SELECT count(*) FROM auth.recovery_codes AS code \
        WHERE code.identity_id = factor.identity_id AND code.used_at IS NULL), \
    factor.created_at < now() - interval '15 minutes' \
    FROM auth.second_factors AS factor WHERE factor.identity_id = $1";

/// One that log-ins ask for stays as it is.
const BEGIN: &str = "INSERT INTO auth.second_factors AS factor (identity_id, sealed_secret) VALUES ($1, $2) \
    ON CONFLICT (identity_id) DO UPDATE SET sealed_secret = excluded.sealed_secret, created_at = now() \
    WHERE factor.confirmed_at IS NULL";

const CONFIRM: &str = "UPDATE auth.second_factors SET confirmed_at = now(), last_step = $2 \
    WHERE identity_id = $1 AND confirmed_at IS NULL";

/// Of two log-ins with one code at once, the second finds the step taken.
const TAKE_STEP: &str = "UPDATE auth.second_factors SET last_step = $2 \
    WHERE identity_id = $1 AND confirmed_at IS NOT NULL AND last_step < $2";

const TAKE_RECOVERY: &str = "UPDATE auth.recovery_codes SET used_at = now() \
    WHERE identity_id = $1 AND code_hash = $2 AND used_at IS NULL";

const FORGET_RECOVERY: &str = "DELETE FROM auth.recovery_codes WHERE identity_id = $1";

const INSERT_RECOVERY: &str = "INSERT INTO auth.recovery_codes (identity_id, code_hash) SELECT $1, unnest($2::bytea[])";

const REMOVE: &str = "DELETE FROM auth.second_factors WHERE identity_id = $1 AND confirmed_at IS NOT NULL";

/// After a person's, in the order of their ids; the null id is before all of them.
const SEALED: &str = "SELECT identity_id, sealed_secret FROM auth.second_factors WHERE identity_id > $1 \
    ORDER BY identity_id LIMIT $2";

/// The same secret under another key. One that was set up anew meanwhile stays.
const RESEAL: &str = "UPDATE auth.second_factors SET sealed_secret = $3 WHERE identity_id = $1 AND sealed_secret = $2";

const SHOWN: &str = "SELECT second_factor FROM auth.sessions WHERE id = $1";

const SHOW: &str = "UPDATE auth.sessions SET second_factor = true WHERE id = $1";

/// Rows are locked in the order of their ids, as wherever several sessions change. One that has ended shows nothing.
const UNSHOW: &str = "UPDATE auth.sessions SET second_factor = false WHERE id IN \
    (SELECT id FROM auth.sessions WHERE identity_id = $1 AND second_factor AND revoked_at IS NULL ORDER BY id FOR UPDATE)";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    FIND,
    BEGIN,
    CONFIRM,
    TAKE_STEP,
    TAKE_RECOVERY,
    FORGET_RECOVERY,
    INSERT_RECOVERY,
    REMOVE,
    SEALED,
    RESEAL,
    SHOWN,
    SHOW,
    UNSHOW,
];

/// A second factor as it is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) sealed: Vec<u8>,
    pub(super) confirmed: Option<DateTime<Utc>>,
    pub(super) recovery_codes_left: i64,
    /// It was made too long ago to be confirmed.
    pub(super) is_stale: bool,
}

type KeptRow = (Vec<u8>, Option<DateTime<Utc>>, i64, bool);

pub(super) async fn find(conn: &mut PgConnection, user: UserId) -> Result<Option<Kept>, Error> {
    let row: Option<KeptRow> = sqlx::query_as(FIND).bind(user.uuid()).fetch_optional(conn).await?;
    Ok(row.map(|(sealed, confirmed, recovery_codes_left, is_stale)| Kept {
        sealed,
        confirmed,
        recovery_codes_left,
        is_stale,
    }))
}

/// Some people's secrets, sealed: those after `after`, `max` at most.
pub(super) async fn sealed(conn: &mut PgConnection, after: Uuid, max: i64) -> Result<Vec<(Uuid, Vec<u8>)>, Error> {
    Ok(sqlx::query_as(SEALED).bind(after).bind(max).fetch_all(conn).await?)
}

/// Puts a secret in the place of itself, sealed otherwise.
pub(super) async fn reseal(conn: &mut PgConnection, user: Uuid, before: &[u8], after: &[u8]) -> Result<(), Error> {
    let resealed = sqlx::query(RESEAL).bind(user);
    resealed.bind(before).bind(after).execute(conn).await?;
    Ok(())
}

/// Keeps a secret that is to be confirmed. `false` where log-ins ask for one already.
pub(super) async fn begin(conn: &mut PgConnection, user: UserId, sealed: &[u8]) -> Result<bool, Error> {
    let begun = sqlx::query(BEGIN).bind(user.uuid()).bind(sealed).execute(conn).await?;
    Ok(begun.rows_affected() > 0)
}

/// Lets log-ins ask for a secret. `false` where another call has done so.
pub(super) async fn confirm(conn: &mut PgConnection, user: UserId, step: i64) -> Result<bool, Error> {
    let confirmed = sqlx::query(CONFIRM).bind(user.uuid()).bind(step).execute(conn).await?;
    Ok(confirmed.rows_affected() > 0)
}

/// Uses up the code of a step, and those before it. `false` where it was used up.
pub(super) async fn take_step(conn: &mut PgConnection, user: UserId, step: i64) -> Result<bool, Error> {
    let taken = sqlx::query(TAKE_STEP)
        .bind(user.uuid())
        .bind(step)
        .execute(conn)
        .await?;
    Ok(taken.rows_affected() > 0)
}

/// Uses up a recovery code. `false` where there is none, or none any more.
pub(super) async fn take_recovery(conn: &mut PgConnection, user: UserId, hash: &[u8]) -> Result<bool, Error> {
    let taken = sqlx::query(TAKE_RECOVERY)
        .bind(user.uuid())
        .bind(hash)
        .execute(conn)
        .await?;
    Ok(taken.rows_affected() > 0)
}

/// Replaces all recovery codes.
pub(super) async fn replace_recovery(conn: &mut PgConnection, user: UserId, hashes: &[Vec<u8>]) -> Result<(), Error> {
    sqlx::query(FORGET_RECOVERY)
        .bind(user.uuid())
        .execute(&mut *conn)
        .await?;
    sqlx::query(INSERT_RECOVERY)
        .bind(user.uuid())
        .bind(hashes)
        .execute(conn)
        .await?;
    Ok(())
}

/// Removes a second factor with its recovery codes, and what sessions that go on have shown of it.
pub(crate) async fn remove(conn: &mut PgConnection, user: UserId) -> Result<(), Error> {
    for sql in [REMOVE, UNSHOW] {
        sqlx::query(sql).bind(user.uuid()).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Whether the second factor was shown in a session.
pub(crate) async fn shown(conn: &mut PgConnection, session: SessionId) -> Result<bool, Error> {
    let shown: Option<bool> = sqlx::query_scalar(SHOWN)
        .bind(session.uuid())
        .fetch_optional(conn)
        .await?;
    Ok(shown.unwrap_or_default())
}

/// Remembers that it was.
pub(super) async fn show(conn: &mut PgConnection, session: SessionId) -> Result<(), Error> {
    sqlx::query(SHOW).bind(session.uuid()).execute(conn).await?;
    Ok(())
}
