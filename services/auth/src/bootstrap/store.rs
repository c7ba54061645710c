//! SQL of grants on the platform.

use rowhouse_auth_kit::Role;
use rowhouse_types::UserId;
use sqlx::PgConnection;

use crate::error::Error;

/// Conflicts with itself and with inserts, and lets everybody read.
const LOCK: &str = "LOCK TABLE auth.platform_grants IN SHARE ROW EXCLUSIVE MODE";

const EXISTS: &str = "SELECT EXISTS (SELECT FROM auth.platform_grants WHERE role = 'super_admin')";

const GRANT: &str = "INSERT INTO auth.platform_grants (identity_id, role) VALUES ($1, $2)";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[EXISTS, GRANT];

/// Lets no other transaction grant anything until this one ends.
pub(super) async fn lock(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query(LOCK).execute(conn).await?;
    Ok(())
}

/// Whether there is a platform operator.
pub(super) async fn operator_exists(conn: &mut PgConnection) -> Result<bool, Error> {
    Ok(sqlx::query_scalar(EXISTS).fetch_one(conn).await?)
}

/// Makes a person a platform operator.
pub(super) async fn grant(conn: &mut PgConnection, user: UserId, role: Role) -> Result<(), Error> {
    sqlx::query(GRANT)
        .bind(user.uuid())
        .bind(role.as_str())
        .execute(conn)
        .await?;
    Ok(())
}
