//! SQL of invitations.

use chrono::{DateTime, Utc};
use rowhouse_types::{InvitationId, OperationId, TenantId, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Cursor, Draft, Invitation, LIFETIME_DAYS};
use crate::error::Error;
use crate::handed_on::in_order;
use crate::role::TenantRole;

const OF_OPERATION: &str = "SELECT id, tenant_id FROM auth.invitations WHERE operation_id = $1";

const SUPERSEDE: &str = "UPDATE auth.invitations SET state = 'superseded' \
    WHERE tenant_id = $1 AND email_key = lower($2) AND state = 'open'";

const INSERT: &str = "INSERT INTO auth.invitations \
    (id, tenant_id, email, role, nonce, token_hash, invited_by, operation_id, expires_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now() + make_interval(days => $9)) RETURNING created_at, expires_at";

const FIND: &str = "SELECT email, role, created_at, expires_at FROM auth.invitations WHERE id = $1 AND tenant_id = $2";

const OPEN: &str = "SELECT invitation.id, invitation.tenant_id, tenant.display_name, invitation.email \
    FROM auth.invitations AS invitation JOIN auth.tenants AS tenant ON tenant.id = invitation.tenant_id \
    WHERE invitation.token_hash = $1 AND invitation.state = 'open' AND invitation.expires_at > clock_timestamp()";

const LOCK_OPEN: &str = "SELECT role FROM auth.invitations \
    WHERE id = $1 AND state = 'open' AND expires_at > clock_timestamp() FOR UPDATE";

const FIND_OPEN: &str = "SELECT email, role, created_at, expires_at FROM auth.invitations \
    WHERE id = $1 AND tenant_id = $2 AND state = 'open' AND expires_at > clock_timestamp()";

const OPEN_PAGE: &str = "SELECT id, email, role, created_at, expires_at FROM auth.invitations \
    WHERE tenant_id = $1 AND state = 'open' AND expires_at > clock_timestamp() \
    AND ($2::timestamptz IS NULL OR (created_at, id) > ($2, $3::uuid)) \
    ORDER BY created_at, id LIMIT $4";

const REVOKE: &str = "UPDATE auth.invitations SET state = 'revoked' WHERE id = $1 AND state = 'open'";

/// Who knows a key of a service account sends as the account: `sender` is as `maker` in `service_account/store.rs`. What was sent
/// to an address ends in the same statement: rows are locked in the order of their ids, as everywhere.
const REVOKE_OF_SENDER: &str = "WITH RECURSIVE sender (id) AS (SELECT $2::uuid \
    UNION SELECT known.service_account_id FROM sender JOIN auth.api_keys AS known \
        ON known.tenant_id = $1 AND known.created_by = sender.id) \
    UPDATE auth.invitations SET state = 'revoked' WHERE id IN (SELECT id FROM auth.invitations \
        WHERE tenant_id = $1 AND state = 'open' AND (invited_by IN (SELECT id FROM sender) OR email_key = lower($3)) \
        ORDER BY id FOR UPDATE) \
    RETURNING id";

const REVOKE_ALL_OF_SENDER: &str = "WITH RECURSIVE sender (id) AS (SELECT $1::uuid \
    UNION SELECT known.service_account_id FROM sender JOIN auth.api_keys AS known ON known.created_by = sender.id) \
    UPDATE auth.invitations SET state = 'revoked' WHERE id IN (SELECT id FROM auth.invitations \
        WHERE state = 'open' AND invited_by IN (SELECT id FROM sender) ORDER BY id FOR UPDATE) \
    RETURNING tenant_id, id";

const REVOKE_OF_ROLE: &str = "WITH RECURSIVE sender (id) AS ( \
    (SELECT identity_id FROM auth.memberships WHERE tenant_id = $1 AND role = $2 \
    UNION ALL SELECT id FROM auth.service_accounts WHERE tenant_id = $1 AND role = $2) \
    UNION SELECT known.service_account_id FROM sender JOIN auth.api_keys AS known \
        ON known.tenant_id = $1 AND known.created_by = sender.id) \
    UPDATE auth.invitations SET state = 'revoked' WHERE id IN (SELECT id FROM auth.invitations \
        WHERE tenant_id = $1 AND state = 'open' AND invited_by IN (SELECT id FROM sender) ORDER BY id FOR UPDATE) \
    RETURNING id";

const ACCEPT: &str = "UPDATE auth.invitations SET state = 'accepted', accepted_by = $2 WHERE id = $1";

const FOR_MAIL: &str = "SELECT invitation.email, tenant.display_name, invitation.nonce, invitation.token_hash, \
    invitation.expires_at, invitation.state = 'open' AND invitation.expires_at > now() \
    FROM auth.invitations AS invitation JOIN auth.tenants AS tenant ON tenant.id = invitation.tenant_id \
    WHERE invitation.id = $1";

const SENT_WITHIN_A_DAY: &str = "SELECT count(*) FROM auth.invitations \
    WHERE tenant_id = $1 AND created_at > now() - interval '24 hours'";

/// Accepted or not: nobody can follow its link any more. That of a provisioning operation stays, one a tenant: a repeated operation
/// must find it. Those that somebody is ending are left for the next round. An array, for the limit's sake
/// (`attempt/device/store.rs`).
const PRUNE: &str = "DELETE FROM auth.invitations WHERE id = ANY (ARRAY(SELECT id FROM auth.invitations \
    WHERE expires_at < now() - interval '90 days' AND operation_id IS NULL \
    ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    OF_OPERATION,
    SUPERSEDE,
    INSERT,
    FIND,
    OPEN,
    LOCK_OPEN,
    FIND_OPEN,
    OPEN_PAGE,
    REVOKE,
    REVOKE_OF_SENDER,
    REVOKE_ALL_OF_SENDER,
    REVOKE_OF_ROLE,
    ACCEPT,
    FOR_MAIL,
    SENT_WITHIN_A_DAY,
    PRUNE,
];

/// An invitation that can be accepted.
pub(super) struct Open {
    pub(super) id: InvitationId,
    pub(super) tenant: TenantId,
    pub(super) tenant_name: String,
    pub(super) email: String,
}

/// What a mail needs.
pub(crate) struct MailData {
    pub(crate) email: String,
    pub(crate) tenant_name: String,
    pub(crate) nonce: Vec<u8>,
    pub(crate) token_hash: Vec<u8>,
    pub(crate) expires: DateTime<Utc>,
    pub(crate) open: bool,
}

/// The invitation that a provisioning operation has sent, and its tenant.
pub(crate) async fn of_operation(
    conn: &mut PgConnection,
    operation: OperationId,
) -> Result<Option<(InvitationId, TenantId)>, Error> {
    let row: Option<(Uuid, Uuid)> = sqlx::query_as(OF_OPERATION)
        .bind(operation.uuid())
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|(id, tenant)| (InvitationId::from_uuid(id), TenantId::from_uuid(tenant))))
}

/// How many invitations of a tenant were sent by mail within the last 24 hours.
pub(crate) async fn sent_within_a_day(conn: &mut PgConnection, tenant: TenantId) -> Result<i64, Error> {
    let sent = sqlx::query_scalar(SENT_WITHIN_A_DAY).bind(tenant.uuid());
    Ok(sent.fetch_one(conn).await?)
}

/// Closes an open invitation of the same address.
pub(super) async fn supersede(conn: &mut PgConnection, tenant: TenantId, email: &str) -> Result<(), Error> {
    sqlx::query(SUPERSEDE)
        .bind(tenant.uuid())
        .bind(email)
        .execute(conn)
        .await?;
    Ok(())
}

pub(super) async fn insert(
    conn: &mut PgConnection,
    draft: &Draft<'_>,
    nonce: &[u8],
    token_hash: &[u8],
) -> Result<Invitation, Error> {
    let (created, expires) = sqlx::query_as(INSERT)
        .bind(draft.id.uuid())
        .bind(draft.tenant.uuid())
        .bind(draft.email.as_str())
        .bind(draft.role.as_str())
        .bind(nonce)
        .bind(token_hash)
        .bind(draft.invited_by.map(|user| user.uuid()))
        .bind(draft.operation.map(|operation| operation.uuid()))
        .bind(LIFETIME_DAYS)
        .fetch_one(conn)
        .await?;
    let email = draft.email.to_string();
    Ok(Invitation {
        id: draft.id,
        email,
        role: draft.role.clone(),
        created,
        expires,
    })
}

/// An invitation of a tenant, whatever its state.
pub(crate) async fn find(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: InvitationId,
) -> Result<Option<Invitation>, Error> {
    found(conn, FIND, tenant, id).await
}

/// An invitation of a tenant that can be accepted; to be read under the tenant's lock, which keeps it open.
pub(crate) async fn find_open(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: InvitationId,
) -> Result<Option<Invitation>, Error> {
    found(conn, FIND_OPEN, tenant, id).await
}

async fn found(
    conn: &mut PgConnection,
    sql: &'static str,
    tenant: TenantId,
    id: InvitationId,
) -> Result<Option<Invitation>, Error> {
    let row: Option<(String, String, DateTime<Utc>, DateTime<Utc>)> = sqlx::query_as(sql)
        .bind(id.uuid())
        .bind(tenant.uuid())
        .fetch_optional(conn)
        .await?;
    row.map(|(email, role, created, expires)| invitation((id.uuid(), email, role, created, expires)))
        .transpose()
}

type Row = (Uuid, String, String, DateTime<Utc>, DateTime<Utc>);

fn invitation((id, email, role, created, expires): Row) -> Result<Invitation, Error> {
    Ok(Invitation {
        id: InvitationId::from_uuid(id),
        email,
        role: role.parse().map_err(Error::fault)?,
        created,
        expires,
    })
}

/// At most `limit` invitations after `cursor` that can be accepted, the earliest first.
pub(crate) async fn open_page(
    conn: &mut PgConnection,
    tenant: TenantId,
    cursor: Option<&Cursor>,
    limit: i64,
) -> Result<Vec<Invitation>, Error> {
    let rows: Vec<Row> = sqlx::query_as(OPEN_PAGE)
        .bind(tenant.uuid())
        .bind(cursor.map(|cursor| cursor.created))
        .bind(cursor.map(|cursor| cursor.id.uuid()))
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.into_iter().map(invitation).collect()
}

/// Makes an open invitation's link worthless.
pub(crate) async fn revoke(conn: &mut PgConnection, id: InvitationId) -> Result<(), Error> {
    sqlx::query(REVOKE).bind(id.uuid()).execute(conn).await?;
    Ok(())
}

/// Makes the links worthless that a member has sent, or could have sent with a key that they know; and those that were sent to an
/// address. Says which, in the order of their ids.
pub(crate) async fn revoke_of_sender(
    conn: &mut PgConnection,
    tenant: TenantId,
    sender: UserId,
    to: Option<&str>,
) -> Result<Vec<InvitationId>, Error> {
    let ended = sqlx::query_scalar(REVOKE_OF_SENDER)
        .bind(tenant.uuid())
        .bind(sender.uuid())
        .bind(to);
    Ok(in_order(ended.fetch_all(conn).await?))
}

/// Makes the links worthless that somebody has sent, or could have sent with a key that they know, in all tenants, and says which;
/// under a lock that whoever sends one needs: the grant's of an operator, the tenants' of a member.
pub(crate) async fn revoke_all_of_sender(
    conn: &mut PgConnection,
    sender: UserId,
) -> Result<Vec<(TenantId, InvitationId)>, Error> {
    let ended = sqlx::query_as(REVOKE_ALL_OF_SENDER).bind(sender.uuid());
    let mut ended: Vec<(Uuid, Uuid)> = ended.fetch_all(conn).await?;
    ended.sort_unstable();
    let ended = ended.into_iter();
    Ok(ended
        .map(|(tenant, id)| (TenantId::from_uuid(tenant), InvitationId::from_uuid(id)))
        .collect())
}

/// Makes the links worthless that whoever has a role, members and service accounts, has sent, or could have with a key. Says which,
/// in the order of their ids.
pub(crate) async fn revoke_of_role(
    conn: &mut PgConnection,
    tenant: TenantId,
    role: &str,
) -> Result<Vec<InvitationId>, Error> {
    let ended = sqlx::query_scalar(REVOKE_OF_ROLE).bind(tenant.uuid()).bind(role);
    Ok(in_order(ended.fetch_all(conn).await?))
}

/// The open invitation of a token.
pub(super) async fn open(conn: &mut PgConnection, token_hash: &[u8]) -> Result<Option<Open>, Error> {
    let row: Option<(Uuid, Uuid, String, String)> = sqlx::query_as(OPEN).bind(token_hash).fetch_optional(conn).await?;
    Ok(row.map(|(id, tenant, tenant_name, email)| Open {
        id: InvitationId::from_uuid(id),
        tenant: TenantId::from_uuid(tenant),
        tenant_name,
        email,
    }))
}

/// Locks an invitation that is still open, and gives its role.
pub(super) async fn lock_open(conn: &mut PgConnection, id: InvitationId) -> Result<Option<TenantRole>, Error> {
    let role: Option<String> = sqlx::query_scalar(LOCK_OPEN)
        .bind(id.uuid())
        .fetch_optional(conn)
        .await?;
    role.map(|role| role.parse().map_err(Error::fault)).transpose()
}

pub(super) async fn mark_accepted(conn: &mut PgConnection, id: InvitationId, by: UserId) -> Result<(), Error> {
    sqlx::query(ACCEPT)
        .bind(id.uuid())
        .bind(by.uuid())
        .execute(conn)
        .await?;
    Ok(())
}

type MailRow = (String, String, Vec<u8>, Vec<u8>, DateTime<Utc>, bool);

/// What the mail of an invitation needs.
pub(crate) async fn for_mail(conn: &mut PgConnection, id: InvitationId) -> Result<Option<MailData>, Error> {
    let row: Option<MailRow> = sqlx::query_as(FOR_MAIL).bind(id.uuid()).fetch_optional(conn).await?;
    Ok(
        row.map(|(email, tenant_name, nonce, token_hash, expires, open)| MailData {
            email,
            tenant_name,
            nonce,
            token_hash,
            expires,
            open,
        }),
    )
}

/// Forgets at most `rows_max` invitations that have ended long ago.
pub(crate) async fn prune(conn: &mut PgConnection, rows_max: u32) -> Result<(), Error> {
    sqlx::query(PRUNE).bind(i64::from(rows_max)).execute(conn).await?;
    Ok(())
}
