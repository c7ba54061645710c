//! SQL of grants on the platform.

use chrono::{DateTime, Utc};
use rowhouse_auth_kit::Role;
use rowhouse_types::{SessionId, TenantId, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::notices::{HEARERS_MAX, Hearer, PER_HOUR_MAX};
use super::{EndedSession, Operator};
use crate::error::Error;

/// Conflicts with itself and with every change, and lets everybody read.
const LOCK: &str = "LOCK TABLE auth.platform_grants IN SHARE ROW EXCLUSIVE MODE";

const EXISTS: &str = "SELECT EXISTS (SELECT FROM auth.platform_grants AS granted \
    JOIN auth.identities AS person ON person.id = granted.identity_id AND person.state = 'active' \
    WHERE granted.role = 'super_admin')";

const FIND: &str = "SELECT person.id, person.email, person.display_name, person.state <> 'active', granted.created_at \
    FROM auth.platform_grants AS granted JOIN auth.identities AS person ON person.id = granted.identity_id \
    WHERE granted.identity_id = $1";

const PAGE: &str = "SELECT person.id, person.email, person.display_name, person.state <> 'active', granted.created_at \
    FROM auth.platform_grants AS granted JOIN auth.identities AS person ON person.id = granted.identity_id \
    WHERE $1::uuid IS NULL OR granted.identity_id > $1 ORDER BY granted.identity_id LIMIT $2";

const GRANT: &str = "INSERT INTO auth.platform_grants (identity_id, role) VALUES ($1, $2) \
    ON CONFLICT (identity_id) DO NOTHING";

/// Active operators who were not told often enough within an hour; first the one whom it is about, then those who were it first.
const HEARERS: &str = "SELECT person.id, person.email FROM auth.platform_grants AS granted \
    JOIN auth.identities AS person ON person.id = granted.identity_id AND person.state = 'active' \
    WHERE (SELECT count(*) FROM auth.account_mails AS mail WHERE mail.identity_id = person.id \
        AND mail.operator_id IS NOT NULL AND mail.created_at > now() - interval '1 hour') < $2 \
    ORDER BY granted.identity_id <> $1, granted.created_at, granted.identity_id LIMIT $3";

/// Of who acts, and where that is a program, of whoever has made its keys, and so on up: `maker` is as in
/// `service_account/store.rs`, the other way round. KEY SHARE conflicts with nothing but the end of a row.
const HOLD: &str = "WITH RECURSIVE maker (id) AS (SELECT $2::uuid \
    UNION SELECT known.created_by FROM maker JOIN auth.api_keys AS known \
        ON known.tenant_id = $1 AND known.service_account_id = maker.id) \
    SELECT identity_id FROM auth.platform_grants WHERE identity_id IN (SELECT id FROM maker) \
    ORDER BY identity_id FOR KEY SHARE";

const REVOKE: &str = "DELETE FROM auth.platform_grants WHERE identity_id = $1";

/// Their own on the platform, and those that they have opened as members. Rows are locked in the order of their ids, as
/// everywhere.
const END_SESSIONS: &str = "UPDATE auth.sessions SET revoked_at = clock_timestamp(), revoke_reason = 'revoked' \
    WHERE id IN (SELECT id FROM auth.sessions WHERE revoked_at IS NULL \
        AND ((identity_id = $1 AND tenant_id IS NULL) OR impersonator_id = $1) ORDER BY id FOR UPDATE) \
    RETURNING id, identity_id, tenant_id";

/// All of the above but the lock, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[EXISTS, FIND, PAGE, GRANT, HEARERS, HOLD, REVOKE, END_SESSIONS];

/// Lets no other transaction grant or take anything until this one ends.
pub(super) async fn lock(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query(LOCK).execute(conn).await?;
    Ok(())
}

/// Whether there is a platform operator whose account is active.
pub(super) async fn operator_exists(conn: &mut PgConnection) -> Result<bool, Error> {
    Ok(sqlx::query_scalar(EXISTS).fetch_one(conn).await?)
}

type Row = (Uuid, String, String, bool, DateTime<Utc>);

fn operator((user, email, display_name, disabled, granted): Row) -> Operator {
    Operator {
        user: UserId::from_uuid(user),
        email,
        display_name,
        disabled,
        granted,
    }
}

/// The operator whose account it is.
pub(super) async fn find(conn: &mut PgConnection, user: UserId) -> Result<Option<Operator>, Error> {
    let row = sqlx::query_as(FIND).bind(user.uuid()).fetch_optional(conn).await?;
    Ok(row.map(operator))
}

/// Whether somebody is an operator.
pub(crate) async fn is_operator(conn: &mut PgConnection, user: UserId) -> Result<bool, Error> {
    Ok(find(conn, user).await?.is_some())
}

/// At most `limit` operators after `after`, the oldest accounts first.
pub(super) async fn page(conn: &mut PgConnection, after: Option<UserId>, limit: i64) -> Result<Vec<Operator>, Error> {
    let rows: Vec<Row> = sqlx::query_as(PAGE)
        .bind(after.map(|after| after.uuid()))
        .bind(limit)
        .fetch_all(conn)
        .await?;
    Ok(rows.into_iter().map(operator).collect())
}

/// Makes a person a platform operator. `false` where they are one.
pub(super) async fn grant(conn: &mut PgConnection, user: UserId, role: Role) -> Result<bool, Error> {
    let done = sqlx::query(GRANT).bind(user.uuid()).bind(role.as_str());
    Ok(done.execute(conn).await?.rows_affected() == 1)
}

/// Who is told that somebody was made an operator, or is to be none.
pub(super) async fn hearers(conn: &mut PgConnection, about: UserId) -> Result<Vec<Hearer>, Error> {
    let rows: Vec<(Uuid, String)> = sqlx::query_as(HEARERS)
        .bind(about.uuid())
        .bind(PER_HOUR_MAX)
        .bind(HEARERS_MAX)
        .fetch_all(conn)
        .await?;
    let hearer = |(user, email): (Uuid, String)| Hearer {
        user: UserId::from_uuid(user),
        email,
    };
    Ok(rows.into_iter().map(hearer).collect())
}

/// Keeps an operator's role until the transaction ends: who takes it then sees what they have made. Where a program of the tenant
/// acts, those of the operators are kept who could act as it. `false` where who acts is no operator.
pub(crate) async fn hold(conn: &mut PgConnection, tenant: TenantId, user: UserId) -> Result<bool, Error> {
    let held = sqlx::query_scalar(HOLD).bind(tenant.uuid()).bind(user.uuid());
    let held: Vec<Uuid> = held.fetch_all(conn).await?;
    Ok(held.contains(&user.uuid()))
}

/// Takes a person's role. `false` where they have none.
pub(super) async fn revoke(conn: &mut PgConnection, user: UserId) -> Result<bool, Error> {
    let done = sqlx::query(REVOKE).bind(user.uuid()).execute(conn).await?;
    Ok(done.rows_affected() == 1)
}

/// Ends every session that somebody has as an operator.
pub(super) async fn end_sessions(conn: &mut PgConnection, user: UserId) -> Result<Vec<EndedSession>, Error> {
    let rows: Vec<(Uuid, Uuid, Option<Uuid>)> = sqlx::query_as(END_SESSIONS).bind(user.uuid()).fetch_all(conn).await?;
    let ended = |(session, user, tenant): (Uuid, Uuid, Option<Uuid>)| EndedSession {
        session: SessionId::from_uuid(session),
        as_member: tenant.map(|tenant| (TenantId::from_uuid(tenant), UserId::from_uuid(user))),
    };
    Ok(rows.into_iter().map(ended).collect())
}
