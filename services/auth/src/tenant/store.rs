//! SQL of tenants, as far as auth knows them.

use rowhouse_types::{OperationId, TenantId, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Access, AccessChange, Applied};
use crate::error::Error;
use crate::rights::Version;

const KNOW: &str = "INSERT INTO auth.tenants (id, display_name, access) VALUES ($1, '', 'pending') \
    ON CONFLICT (id) DO NOTHING";

const NAME: &str = "UPDATE auth.tenants SET display_name = $2, updated_at = now() WHERE id = $1";

/// NO KEY: rows that refer to the tenant can be added meanwhile.
///
/// What is being purged, or was, is none: a call that comes late does not bring it back.
const LOCK: &str = "SELECT access, access_operation, access_version FROM auth.tenants \
    WHERE id = $1 AND NOT EXISTS (SELECT FROM auth.purges WHERE tenant_id = $1) FOR NO KEY UPDATE";

/// In the order of their ids, as everything of one kind.
const LOCK_OF: &str = "SELECT id FROM auth.tenants WHERE id IN \
    (SELECT tenant_id FROM auth.memberships WHERE identity_id = $1 AND state <> 'removed') \
    ORDER BY id FOR NO KEY UPDATE";

const ACCESS: &str = "SELECT access FROM auth.tenants WHERE id = $1";

const SET_ACCESS: &str = "UPDATE auth.tenants SET access = $2, access_operation = $3, access_version = $4, \
    updated_at = now() WHERE id = $1";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[KNOW, NAME, LOCK, LOCK_OF, ACCESS, SET_ACCESS];

/// Makes sure that there is a row, so that it can be locked.
pub(super) async fn know(conn: &mut PgConnection, tenant: TenantId) -> Result<(), Error> {
    sqlx::query(KNOW).bind(tenant.uuid()).execute(conn).await?;
    Ok(())
}

pub(super) async fn set_name(conn: &mut PgConnection, tenant: TenantId, name: &str) -> Result<(), Error> {
    sqlx::query(NAME).bind(tenant.uuid()).bind(name).execute(conn).await?;
    Ok(())
}

/// Locks a tenant against every other change of its access and its members, until the transaction ends.
pub(crate) async fn lock(conn: &mut PgConnection, tenant: TenantId) -> Result<Option<Applied>, Error> {
    let row: Option<(String, Option<Uuid>, i64)> =
        sqlx::query_as(LOCK).bind(tenant.uuid()).fetch_optional(conn).await?;
    row.map(|(access, operation, version)| {
        Ok(Applied {
            access: access.parse().map_err(Error::fault)?,
            operation: operation.map(OperationId::from_uuid),
            version,
        })
    })
    .transpose()
}

/// Locks all tenants whose member a person is, as [`lock`] does each. Nobody joins another meanwhile whose account is locked.
pub(crate) async fn lock_of(conn: &mut PgConnection, user: UserId) -> Result<(), Error> {
    sqlx::query(LOCK_OF).bind(user.uuid()).execute(conn).await?;
    Ok(())
}

/// A tenant's access.
pub(crate) async fn access(conn: &mut PgConnection, tenant: TenantId) -> Result<Option<Access>, Error> {
    let text: Option<String> = sqlx::query_scalar(ACCESS)
        .bind(tenant.uuid())
        .fetch_optional(conn)
        .await?;
    text.map(|text| text.parse().map_err(Error::fault)).transpose()
}

pub(super) async fn set_access(conn: &mut PgConnection, change: &AccessChange, version: Version) -> Result<(), Error> {
    sqlx::query(SET_ACCESS)
        .bind(change.tenant.uuid())
        .bind(change.access.as_str())
        .bind(change.operation.uuid())
        .bind(version.0)
        .execute(conn)
        .await?;
    Ok(())
}
