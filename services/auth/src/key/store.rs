//! SQL of signing keys.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rowhouse_auth_kit::KeyId;
use sqlx::PgConnection;

use super::KnownKey;
use crate::error::Error;

const ACTIVE: &str = "SELECT kid, public_key, sealed_private_key FROM auth.signing_keys WHERE state = 'active'";

/// One process at a time moves keys on or revokes them. Whoever only signs or verifies does not wait.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('auth.signing_keys', 0))";

const INSERT_ACTIVE: &str = "INSERT INTO auth.signing_keys (kid, public_key, sealed_private_key, state) \
    VALUES ($1, $2, $3, 'active') ON CONFLICT DO NOTHING";

const INSERT_PENDING: &str = "INSERT INTO auth.signing_keys (kid, public_key, sealed_private_key, state, activates_at) \
    VALUES ($1, $2, $3, 'pending', now() + make_interval(secs => $4)) ON CONFLICT DO NOTHING";

const PENDING: &str = "SELECT kid FROM auth.signing_keys WHERE state = 'pending'";

const IS_DUE: &str = "SELECT EXISTS (SELECT FROM auth.signing_keys WHERE state = 'pending' AND activates_at <= now())";

const REPLACE: &str = "UPDATE auth.signing_keys SET state = 'published', retires_at = now() + make_interval(secs => $1) \
    WHERE state = 'active'";

const ACTIVATE_PENDING: &str = "UPDATE auth.signing_keys SET state = 'active', activates_at = now() \
    WHERE state = 'pending'";

/// A private key that signs nothing more is not kept.
const RETIRE: &str = "UPDATE auth.signing_keys SET state = 'retired', sealed_private_key = '' \
    WHERE state = 'published' AND retires_at <= now()";

const REVOKE: &str = "UPDATE auth.signing_keys SET state = 'revoked', sealed_private_key = '', retires_at = now() \
    WHERE kid = $1";

const IS_OLDER: &str = "SELECT EXISTS (SELECT FROM auth.signing_keys \
        WHERE state = 'active' AND activates_at < now() - make_interval(secs => $1)) \
    AND NOT EXISTS (SELECT FROM auth.signing_keys WHERE state = 'pending')";

const PUBLISHED: &str = "SELECT kid, public_key FROM auth.signing_keys WHERE state IN ('pending', 'active', 'published') \
    ORDER BY created_at DESC, kid LIMIT 64";

const COUNT_PUBLISHED: &str = "SELECT count(*) FROM auth.signing_keys \
    WHERE state IN ('pending', 'active', 'published')";

const FIND: &str = "SELECT kid, state, created_at, activates_at, retires_at FROM auth.signing_keys WHERE kid = $1";

const ALL: &str = "SELECT kid, state, created_at, activates_at, retires_at FROM auth.signing_keys \
    ORDER BY created_at DESC, kid LIMIT 100";

const IN_USE: &str = "SELECT kid, state, created_at, activates_at, retires_at FROM auth.signing_keys \
    WHERE state IN ('pending', 'active', 'published') ORDER BY created_at, kid";

const SEALED: &str = "SELECT kid, public_key, sealed_private_key FROM auth.signing_keys WHERE sealed_private_key <> ''";

/// The same secret under another key. What has ended meanwhile stays empty.
const RESEAL: &str = "UPDATE auth.signing_keys SET sealed_private_key = $3 WHERE kid = $1 AND sealed_private_key = $2";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    ACTIVE,
    LOCK,
    INSERT_ACTIVE,
    INSERT_PENDING,
    PENDING,
    IS_DUE,
    REPLACE,
    ACTIVATE_PENDING,
    RETIRE,
    REVOKE,
    IS_OLDER,
    PUBLISHED,
    COUNT_PUBLISHED,
    FIND,
    ALL,
    IN_USE,
    SEALED,
    RESEAL,
];

/// A key with its private half sealed.
#[derive(Clone, Debug)]
pub(super) struct SealedKey {
    pub(super) id: KeyId,
    pub(super) public: Vec<u8>,
    pub(super) sealed: Vec<u8>,
}

type Row = (String, String, DateTime<Utc>, DateTime<Utc>, Option<DateTime<Utc>>);

fn known((id, state, created, activates, retires): Row) -> Result<KnownKey, Error> {
    Ok(KnownKey {
        id: id.parse().map_err(Error::fault)?,
        state: state.parse().map_err(Error::fault)?,
        created,
        activates,
        retires,
    })
}

fn sealed((id, public, sealed): (String, Vec<u8>, Vec<u8>)) -> Result<SealedKey, Error> {
    Ok(SealedKey {
        id: id.parse().map_err(Error::fault)?,
        public,
        sealed,
    })
}

/// The key that signs.
pub(super) async fn active(conn: &mut PgConnection) -> Result<Option<SealedKey>, Error> {
    let row = sqlx::query_as(ACTIVE).fetch_optional(conn).await?;
    row.map(sealed).transpose()
}

/// The keys that verify.
pub(super) async fn in_use(conn: &mut PgConnection) -> Result<Vec<KnownKey>, Error> {
    let rows: Vec<Row> = sqlx::query_as(IN_USE).fetch_all(conn).await?;
    rows.into_iter().map(known).collect()
}

/// The keys that have a private half.
pub(super) async fn all_sealed(conn: &mut PgConnection) -> Result<Vec<SealedKey>, Error> {
    let rows = sqlx::query_as(SEALED).fetch_all(conn).await?;
    rows.into_iter().map(sealed).collect()
}

/// Puts the private half in the place of itself, sealed otherwise.
pub(super) async fn reseal(conn: &mut PgConnection, key: &SealedKey, sealed: &[u8]) -> Result<(), Error> {
    let resealed = sqlx::query(RESEAL).bind(key.id.as_str());
    resealed.bind(&key.sealed).bind(sealed).execute(conn).await?;
    Ok(())
}

/// Waits until nobody else moves keys on, and keeps others from it until the transaction ends.
pub(super) async fn lock(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query(LOCK).execute(conn).await?;
    Ok(())
}

/// Makes a key the one that signs, unless there is one.
pub(super) async fn insert_active(conn: &mut PgConnection, key: &SealedKey) -> Result<(), Error> {
    let inserted = sqlx::query(INSERT_ACTIVE).bind(key.id.as_str());
    inserted.bind(&key.public).bind(&key.sealed).execute(conn).await?;
    Ok(())
}

/// Makes a key the next one, unless there is one. `published`: how long before it signs.
pub(super) async fn insert_pending(
    conn: &mut PgConnection,
    key: &SealedKey,
    published: Duration,
) -> Result<bool, Error> {
    let inserted = sqlx::query(INSERT_PENDING)
        .bind(key.id.as_str())
        .bind(&key.public)
        .bind(&key.sealed)
        .bind(published.as_secs_f64())
        .execute(conn)
        .await?;
    Ok(inserted.rows_affected() > 0)
}

/// The id of the next key.
pub(super) async fn pending(conn: &mut PgConnection) -> Result<Option<KeyId>, Error> {
    let id: Option<String> = sqlx::query_scalar(PENDING).fetch_optional(conn).await?;
    id.map(|id| id.parse().map_err(Error::fault)).transpose()
}

/// Whether the next key is to sign now.
pub(super) async fn is_due(conn: &mut PgConnection) -> Result<bool, Error> {
    Ok(sqlx::query_scalar(IS_DUE).fetch_one(conn).await?)
}

/// Lets the key that signs only verify, for as long as `honoured`.
pub(super) async fn replace(conn: &mut PgConnection, honoured: Duration) -> Result<(), Error> {
    sqlx::query(REPLACE).bind(honoured.as_secs_f64()).execute(conn).await?;
    Ok(())
}

/// Makes the next key the one that signs, where there is one and none signs.
pub(super) async fn activate_pending(conn: &mut PgConnection) -> Result<bool, Error> {
    Ok(sqlx::query(ACTIVATE_PENDING).execute(conn).await?.rows_affected() > 0)
}

/// Ends the keys whose last token has expired.
pub(super) async fn retire(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query(RETIRE).execute(conn).await?;
    Ok(())
}

/// Ends a key with everything that it has signed.
pub(super) async fn revoke(conn: &mut PgConnection, id: KeyId) -> Result<(), Error> {
    sqlx::query(REVOKE).bind(id.as_str()).execute(conn).await?;
    Ok(())
}

/// Whether the key that signs has done so for longer than `age`, and no next one waits.
pub(super) async fn is_older(conn: &mut PgConnection, age: Duration) -> Result<bool, Error> {
    Ok(sqlx::query_scalar(IS_OLDER)
        .bind(age.as_secs_f64())
        .fetch_one(conn)
        .await?)
}

/// Ids and public halves of the keys that verify.
pub(super) async fn published(conn: &mut PgConnection) -> Result<Vec<(String, Vec<u8>)>, Error> {
    Ok(sqlx::query_as(PUBLISHED).fetch_all(conn).await?)
}

/// How many keys verify.
pub(super) async fn count_published(conn: &mut PgConnection) -> Result<i64, Error> {
    Ok(sqlx::query_scalar(COUNT_PUBLISHED).fetch_one(conn).await?)
}

/// One key.
pub(super) async fn find(conn: &mut PgConnection, id: KeyId) -> Result<Option<KnownKey>, Error> {
    let row: Option<Row> = sqlx::query_as(FIND).bind(id.as_str()).fetch_optional(conn).await?;
    row.map(known).transpose()
}

/// The newest keys.
pub(super) async fn all(conn: &mut PgConnection) -> Result<Vec<KnownKey>, Error> {
    let rows: Vec<Row> = sqlx::query_as(ALL).fetch_all(conn).await?;
    rows.into_iter().map(known).collect()
}
