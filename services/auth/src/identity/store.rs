//! SQL of identities.

use rowhouse_types::UserId;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Account, NewIdentity, Person};
use crate::error::Error;

const ACCOUNT: &str = "SELECT id, password_hash, state = 'active' FROM auth.identities WHERE email_key = lower($1)";

const PERSON: &str = "SELECT email, display_name FROM auth.identities WHERE id = $1 AND state = 'active'";

const INSERT: &str = "INSERT INTO auth.identities (id, email, display_name, password_hash) \
    VALUES ($1, $2, $3, $4) ON CONFLICT (email_key) DO NOTHING";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[ACCOUNT, PERSON, INSERT];

/// The account with this address.
pub(crate) async fn account(conn: &mut PgConnection, email: &str) -> Result<Option<Account>, Error> {
    let row: Option<(Uuid, String, bool)> = sqlx::query_as(ACCOUNT).bind(email).fetch_optional(conn).await?;
    Ok(row.map(|(id, password_hash, active)| Account {
        id: UserId::from_uuid(id),
        password_hash,
        active,
    }))
}

/// An active person.
pub(crate) async fn person(conn: &mut PgConnection, id: UserId) -> Result<Option<Person>, Error> {
    let row: Option<(String, String)> = sqlx::query_as(PERSON).bind(id.uuid()).fetch_optional(conn).await?;
    Ok(row.map(|(email, display_name)| Person {
        id,
        email,
        display_name,
    }))
}

/// Adds a person. `false` where the address has an account already.
pub(crate) async fn insert(conn: &mut PgConnection, new: &NewIdentity<'_>) -> Result<bool, Error> {
    let done = sqlx::query(INSERT)
        .bind(new.id.uuid())
        .bind(new.email.as_str())
        .bind(new.display_name.as_str())
        .bind(new.password_hash)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() == 1)
}
