//! SQL of tenants' policies about log-ins.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rowhouse_types::{Etag, TenantId, UserId};
use sqlx::PgConnection;

use super::{LoginPolicy, PASSWORD_LENGTH_MIN, Written};
use crate::error::Error;

const FIND: &str = "SELECT second_factor_required, session_lifetime_s, mail_domains, password_length_min, updated_at, \
    revision FROM auth.login_policies WHERE tenant_id = $1";

/// The policies of all tenants that somebody belongs to, which are few. Disabled members count: who is let in again must not bring
/// an address or a password that the tenant does not take.
const OF_MEMBER: &str = "SELECT policy.second_factor_required, policy.session_lifetime_s, policy.mail_domains, \
    policy.password_length_min, policy.updated_at, policy.revision \
    FROM auth.memberships AS membership JOIN auth.login_policies AS policy ON policy.tenant_id = membership.tenant_id \
    WHERE membership.identity_id = $1 AND membership.state <> 'removed' LIMIT 1000";

const UPSERT: &str = "INSERT INTO auth.login_policies AS policy \
    (tenant_id, second_factor_required, session_lifetime_s, mail_domains, password_length_min) \
    VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT (tenant_id) DO UPDATE SET second_factor_required = excluded.second_factor_required, \
        session_lifetime_s = excluded.session_lifetime_s, mail_domains = excluded.mail_domains, \
        password_length_min = excluded.password_length_min, revision = policy.revision + 1, updated_at = now() \
    RETURNING second_factor_required, session_lifetime_s, mail_domains, password_length_min, updated_at, revision";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[FIND, OF_MEMBER, UPSERT];

type Row = (bool, Option<i64>, Vec<String>, Option<i32>, DateTime<Utc>, i64);

fn policy((second_factor_required, lifetime_s, domains, length, at, revision): Row) -> Result<LoginPolicy, Error> {
    let lifetime = |seconds: i64| u64::try_from(seconds).map(Duration::from_secs).map_err(Error::fault);
    let length = length.map(u32::try_from).transpose().map_err(Error::fault)?;
    let domains: Result<Vec<_>, _> = domains.iter().map(|domain| domain.parse()).collect();
    Ok(LoginPolicy {
        second_factor_required,
        session_lifetime: lifetime_s.map(lifetime).transpose()?,
        mail_domains: domains.map_err(Error::fault)?,
        password_length_min: length.filter(|length| PASSWORD_LENGTH_MIN.contains(length)),
        written: Some(Written {
            at,
            etag: Etag::from_revision(revision),
        }),
    })
}

/// A tenant's policy; one that asks nothing where there is none.
pub(crate) async fn find(conn: &mut PgConnection, tenant: TenantId) -> Result<LoginPolicy, Error> {
    let row: Option<Row> = sqlx::query_as(FIND).bind(tenant.uuid()).fetch_optional(conn).await?;
    Ok(row.map(policy).transpose()?.unwrap_or_default())
}

/// The policies of all tenants whose member somebody is, active or disabled.
pub(crate) async fn of_member(conn: &mut PgConnection, user: UserId) -> Result<Vec<LoginPolicy>, Error> {
    let rows: Vec<Row> = sqlx::query_as(OF_MEMBER).bind(user.uuid()).fetch_all(conn).await?;
    rows.into_iter().map(policy).collect()
}

/// Writes a tenant's policy and returns it.
pub(super) async fn upsert(
    conn: &mut PgConnection,
    tenant: TenantId,
    changed: &LoginPolicy,
) -> Result<LoginPolicy, Error> {
    let lifetime_s = changed
        .session_lifetime
        .map(|lifetime| i64::try_from(lifetime.as_secs()));
    let length = changed.password_length_min.map(i32::try_from);
    let domains: Vec<String> = changed.mail_domains.iter().map(ToString::to_string).collect();
    let row: Row = sqlx::query_as(UPSERT)
        .bind(tenant.uuid())
        .bind(changed.second_factor_required)
        .bind(lifetime_s.transpose().map_err(Error::fault)?)
        .bind(domains)
        .bind(length.transpose().map_err(Error::fault)?)
        .fetch_one(conn)
        .await?;
    policy(row)
}
