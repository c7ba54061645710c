//! SQL of identities.

use rowhouse_types::UserId;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Account, NewIdentity, Person};
use crate::error::Error;

const ACCOUNT: &str = "SELECT id, email, display_name, password_hash, state = 'active' FROM auth.identities \
    WHERE email_key = lower($1)";

const ACCOUNT_OF: &str = "SELECT id, email, display_name, password_hash, state = 'active' FROM auth.identities \
    WHERE id = $1";

/// FOR SHARE: who changes the password or ends the account's sessions waits for what is being opened under the old
/// password, and then ends it.
const HOLD: &str = "SELECT id FROM auth.identities \
    WHERE id = $1 AND state = 'active' AND ($2::text IS NULL OR password_hash = $2) FOR SHARE";

/// As `HOLD`, of a few accounts, in the order in which everybody locks them.
const HOLD_ALL: &str = "SELECT id, password_hash FROM auth.identities \
    WHERE id = ANY ($1) AND state = 'active' ORDER BY id FOR SHARE";

/// NO KEY: rows that refer to the person can be added meanwhile.
const LOCK: &str = "SELECT password_hash FROM auth.identities WHERE id = $1 AND state = 'active' FOR NO KEY UPDATE";

const SET_PASSWORD: &str = "UPDATE auth.identities SET password_hash = $2, updated_at = now() WHERE id = $1";

const SET_STATE: &str = "UPDATE auth.identities SET state = $2, updated_at = now() WHERE id = $1 AND state <> $2";

const SET_EMAIL: &str = "UPDATE auth.identities SET email = $2, updated_at = now() WHERE id = $1";

const PERSON: &str = "SELECT email, display_name FROM auth.identities WHERE id = $1 AND state = 'active'";

const INSERT: &str = "INSERT INTO auth.identities (id, email, display_name, password_hash) \
    VALUES ($1, $2, $3, $4) ON CONFLICT (email_key) DO NOTHING";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    ACCOUNT,
    ACCOUNT_OF,
    HOLD,
    HOLD_ALL,
    LOCK,
    SET_PASSWORD,
    SET_STATE,
    SET_EMAIL,
    PERSON,
    INSERT,
];

fn account((id, email, display_name, password_hash, active): (Uuid, String, String, String, bool)) -> Account {
    Account {
        id: UserId::from_uuid(id),
        email,
        display_name,
        password_hash,
        active,
    }
}

/// The account with this address.
pub(crate) async fn account_at(conn: &mut PgConnection, email: &str) -> Result<Option<Account>, Error> {
    let row = sqlx::query_as(ACCOUNT).bind(email).fetch_optional(conn).await?;
    Ok(row.map(account))
}

/// The account of a person.
pub(crate) async fn account_of(conn: &mut PgConnection, id: UserId) -> Result<Option<Account>, Error> {
    let row = sqlx::query_as(ACCOUNT_OF).bind(id.uuid()).fetch_optional(conn).await?;
    Ok(row.map(account))
}

/// Keeps an active account's password and sessions as they are until the transaction ends; others may hold it too.
/// `false` where the account is not active, or no longer has the password of `hash`.
pub(crate) async fn hold(conn: &mut PgConnection, id: UserId, hash: Option<&str>) -> Result<bool, Error> {
    let held: Option<Uuid> = sqlx::query_scalar(HOLD)
        .bind(id.uuid())
        .bind(hash)
        .fetch_optional(conn)
        .await?;
    Ok(held.is_some())
}

/// Keeps those of a few accounts that are active as [`hold`] does, and returns the hashes of their passwords.
pub(crate) async fn hold_all(conn: &mut PgConnection, ids: &[UserId]) -> Result<Vec<(UserId, String)>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let held: Vec<(Uuid, String)> = sqlx::query_as(HOLD_ALL).bind(ids).fetch_all(conn).await?;
    Ok(held
        .into_iter()
        .map(|(id, hash)| (UserId::from_uuid(id), hash))
        .collect())
}

/// Locks an active account against log-ins and every other change of it, and returns the hash of its password.
pub(crate) async fn lock(conn: &mut PgConnection, id: UserId) -> Result<Option<String>, Error> {
    Ok(sqlx::query_scalar(LOCK).bind(id.uuid()).fetch_optional(conn).await?)
}

pub(crate) async fn set_password(conn: &mut PgConnection, id: UserId, hash: &str) -> Result<(), Error> {
    sqlx::query(SET_PASSWORD)
        .bind(id.uuid())
        .bind(hash)
        .execute(conn)
        .await?;
    Ok(())
}

/// Disables an account, or enables it. `false` where it is so already.
pub(crate) async fn set_active(conn: &mut PgConnection, id: UserId, active: bool) -> Result<bool, Error> {
    let state = if active { "active" } else { "disabled" };
    let set = sqlx::query(SET_STATE).bind(id.uuid()).bind(state).execute(conn).await?;
    Ok(set.rows_affected() == 1)
}

/// Gives an account another address. `false` where another account has it; then the transaction can only be ended.
pub(crate) async fn set_email(conn: &mut PgConnection, id: UserId, email: &str) -> Result<bool, Error> {
    let set = sqlx::query(SET_EMAIL).bind(id.uuid()).bind(email).execute(conn).await;
    match set {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(fault)) if fault.constraint() == Some("identities_email_key") => Ok(false),
        Err(error) => Err(error.into()),
    }
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
