//! SQL of signing keys.

use sqlx::PgConnection;

use crate::error::Error;

const ACTIVE: &str = "SELECT kid, sealed_private_key FROM auth.signing_keys WHERE state = 'active'";

const INSERT: &str = "INSERT INTO auth.signing_keys (kid, public_key, sealed_private_key, state) \
    VALUES ($1, $2, $3, 'active') ON CONFLICT DO NOTHING";

const PUBLISHED: &str = "SELECT kid, public_key FROM auth.signing_keys WHERE state IN ('active', 'published') \
    ORDER BY created_at DESC, kid LIMIT 16";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[ACTIVE, INSERT, PUBLISHED];

/// Id and sealed private half of the key that signs.
pub(super) async fn active(conn: &mut PgConnection) -> Result<Option<(String, Vec<u8>)>, Error> {
    Ok(sqlx::query_as(ACTIVE).fetch_optional(conn).await?)
}

/// Makes a key the one that signs, unless there is one.
pub(super) async fn insert(conn: &mut PgConnection, kid: &str, public: &[u8], sealed: &[u8]) -> Result<(), Error> {
    sqlx::query(INSERT)
        .bind(kid)
        .bind(public)
        .bind(sealed)
        .execute(conn)
        .await?;
    Ok(())
}

/// Ids and public halves of the keys that verify.
pub(super) async fn published(conn: &mut PgConnection) -> Result<Vec<(String, Vec<u8>)>, Error> {
    Ok(sqlx::query_as(PUBLISHED).fetch_all(conn).await?)
}
