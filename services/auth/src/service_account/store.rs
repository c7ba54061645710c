//! SQL of service accounts and their keys.

use chrono::{DateTime, Utc};
use rowhouse_types::{ApiKeyId, Etag, ServiceAccountId, TenantId, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{ACCOUNTS_MAX, ApiKey, KeyHolder, ListedKey, NewAccount, NewKey, ServiceAccount, USE_KNOWN};
use crate::error::Error;
use crate::handed_on::in_order;
use crate::role::TenantRole;

const INSERT: &str = "INSERT INTO auth.service_accounts (tenant_id, id, display_name, role) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (tenant_id, name_key) DO NOTHING \
    RETURNING id, display_name, role, state, created_at, updated_at, revision";

const FIND: &str = "SELECT id, display_name, role, state, created_at, updated_at, revision FROM auth.service_accounts \
    WHERE tenant_id = $1 AND id = $2";

/// Ids begin with the time, so their order is that of creation.
const PAGE: &str = "SELECT id, display_name, role, state, created_at, updated_at, revision FROM auth.service_accounts \
    WHERE tenant_id = $1 AND ($2::uuid IS NULL OR id > $2) AND ($4::text IS NULL OR role = $4) ORDER BY id LIMIT $3";

const COUNT: &str = "SELECT count(*) FROM auth.service_accounts WHERE tenant_id = $1";

const COUNTS: &str = "SELECT role, count(*) FROM auth.service_accounts \
    WHERE tenant_id = $1 AND ($2::text IS NULL OR role = $2) GROUP BY role";

const WITH_ROLE: &str = "SELECT id FROM auth.service_accounts WHERE tenant_id = $1 AND role = $2 ORDER BY id LIMIT $3";

const NAME_TAKEN: &str = "SELECT EXISTS (SELECT FROM auth.service_accounts \
    WHERE tenant_id = $1 AND name_key = lower($3) AND id <> $2)";

const UPDATE: &str = "UPDATE auth.service_accounts SET display_name = $3, role = $4, state = $5, \
    revision = revision + 1, updated_at = now() WHERE tenant_id = $1 AND id = $2 \
    RETURNING id, display_name, role, state, created_at, updated_at, revision";

const DELETE: &str = "DELETE FROM auth.service_accounts WHERE tenant_id = $1 AND id = $2";

const DISPLAY_NAME: &str = "SELECT display_name FROM auth.service_accounts \
    WHERE tenant_id = $1 AND id = $2 AND state = 'active'";

const COUNT_KEYS: &str = "SELECT count(*) FROM auth.api_keys \
    WHERE tenant_id = $1 AND service_account_id = $2 AND revoked_at IS NULL AND expires_at > now()";

const INSERT_KEY: &str = "INSERT INTO auth.api_keys \
    (tenant_id, service_account_id, id, prefix, key_hash, expires_at, created_by) \
    VALUES ($1, $2, $3, $4, $5, now() + make_interval(days => $6), $7) \
    RETURNING id, service_account_id, prefix, created_at, expires_at, revoked_at, used_at";

const KEYS: &str = "SELECT id, service_account_id, prefix, created_at, expires_at, revoked_at, used_at FROM auth.api_keys \
    WHERE tenant_id = $1 AND service_account_id = $2 AND ($3::uuid IS NULL OR id < $3) ORDER BY id DESC LIMIT $4";

const FIND_KEY: &str = "SELECT id, service_account_id, prefix, created_at, expires_at, revoked_at, used_at \
    FROM auth.api_keys WHERE tenant_id = $1 AND id = $2";

const REVOKE_KEY: &str = "UPDATE auth.api_keys SET revoked_at = now() WHERE tenant_id = $1 AND id = $2 \
    RETURNING id, service_account_id, prefix, created_at, expires_at, revoked_at, used_at";

/// Who knows a key acts as its account, which makes keys too: whoever made a key, and the accounts of all keys that they know by
/// that. With which of an account's keys another was made, nobody can tell. Keys that have ended count: others may have been made
/// with them before. The keys of an account end in the same statement: rows are locked in the order of their ids, as everywhere.
const REVOKE_MADE_BY: &str = "WITH RECURSIVE maker (id) AS (SELECT $2::uuid \
    UNION SELECT known.service_account_id FROM maker JOIN auth.api_keys AS known \
        ON known.tenant_id = $1 AND known.created_by = maker.id) \
    UPDATE auth.api_keys SET revoked_at = now() WHERE tenant_id = $1 AND id IN (SELECT id FROM auth.api_keys \
        WHERE tenant_id = $1 AND revoked_at IS NULL \
        AND (created_by IN (SELECT id FROM maker) OR service_account_id = $3) ORDER BY id FOR UPDATE) \
    RETURNING id";

const REVOKE_ALL_MADE_BY: &str = "WITH RECURSIVE maker (id) AS (SELECT $1::uuid \
    UNION SELECT known.service_account_id FROM maker JOIN auth.api_keys AS known ON known.created_by = maker.id) \
    UPDATE auth.api_keys SET revoked_at = now() WHERE (tenant_id, id) IN (SELECT tenant_id, id FROM auth.api_keys \
        WHERE revoked_at IS NULL AND created_by IN (SELECT id FROM maker) ORDER BY id FOR UPDATE) \
    RETURNING tenant_id, id";

const REVOKE_OF_ROLE: &str = "WITH RECURSIVE maker (id) AS ( \
    (SELECT identity_id FROM auth.memberships WHERE tenant_id = $1 AND role = $2 \
    UNION ALL SELECT id FROM auth.service_accounts WHERE tenant_id = $1 AND role = $2) \
    UNION SELECT known.service_account_id FROM maker JOIN auth.api_keys AS known \
        ON known.tenant_id = $1 AND known.created_by = maker.id) \
    UPDATE auth.api_keys SET revoked_at = now() WHERE tenant_id = $1 AND id IN (SELECT id FROM auth.api_keys \
        WHERE tenant_id = $1 AND revoked_at IS NULL AND created_by IN (SELECT id FROM maker) ORDER BY id FOR UPDATE) \
    RETURNING id";

const HOLDER: &str = "SELECT tenant_id, service_account_id, id, expires_at, revoked_at IS NULL AND expires_at > now() \
    FROM auth.api_keys WHERE key_hash = $1";

/// Once a minute at most: whoever exchanges a key for each of many calls must not wait for a row.
const NOTE_USE: &str = "UPDATE auth.api_keys SET used_at = now(), used_from = $4 WHERE tenant_id = $1 AND id = $2 \
    AND (used_at IS NULL OR used_at < now() - make_interval(secs => $3))";

/// Lately: as long as an address counts as known to a person's account.
const USED_FROM: &str = "SELECT key_hash FROM auth.api_keys WHERE used_from = $1 AND revoked_at IS NULL \
    AND expires_at > now() AND used_at > now() - interval '30 days' ORDER BY used_at DESC LIMIT $2";

/// Of what has ended long ago. Where its account has made keys that are still there, or has sent invitations that are open, it
/// stays: that its maker knew it shows that they may be the maker's too (`maker` above). Those go first, and it goes after them.
/// One of several shows as much, and one that an account has made for itself shows nothing; so what stays is one for each maker and
/// account at most. Keys that somebody is ending are left for the next round. A table by itself, which is
/// made once: a plan may run what is in IN (...) again for each row, and SKIP LOCKED then finds others each time, beyond the limit.
const PRUNE_KEYS: &str = "WITH gone AS MATERIALIZED (SELECT ended.tenant_id, ended.id \
    FROM auth.api_keys AS ended WHERE least(ended.revoked_at, ended.expires_at) < now() - interval '90 days' \
    AND (ended.created_by = ended.service_account_id \
        OR EXISTS (SELECT FROM auth.api_keys AS later WHERE later.tenant_id = ended.tenant_id \
            AND later.service_account_id = ended.service_account_id AND later.created_by = ended.created_by \
            AND later.id > ended.id) \
        OR NOT EXISTS (SELECT FROM auth.api_keys AS made \
            WHERE made.tenant_id = ended.tenant_id AND made.created_by = ended.service_account_id) \
        AND NOT EXISTS (SELECT FROM auth.invitations AS sent WHERE sent.tenant_id = ended.tenant_id \
            AND sent.invited_by = ended.service_account_id AND sent.state = 'open')) \
    ORDER BY least(ended.revoked_at, ended.expires_at) LIMIT $1 FOR UPDATE OF ended SKIP LOCKED) \
    DELETE FROM auth.api_keys AS key USING gone WHERE key.tenant_id = gone.tenant_id AND key.id = gone.id";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    INSERT,
    FIND,
    PAGE,
    COUNT,
    COUNTS,
    WITH_ROLE,
    NAME_TAKEN,
    UPDATE,
    DELETE,
    DISPLAY_NAME,
    COUNT_KEYS,
    INSERT_KEY,
    KEYS,
    FIND_KEY,
    REVOKE_KEY,
    REVOKE_MADE_BY,
    REVOKE_ALL_MADE_BY,
    REVOKE_OF_ROLE,
    HOLDER,
    NOTE_USE,
    USED_FROM,
    PRUNE_KEYS,
];

type Row = (Uuid, String, String, String, DateTime<Utc>, DateTime<Utc>, i64);
type KeyRow = (
    Uuid,
    Uuid,
    String,
    DateTime<Utc>,
    DateTime<Utc>,
    Option<DateTime<Utc>>,
    Option<DateTime<Utc>>,
);

fn account((id, name, role, state, created, updated, revision): Row) -> Result<ServiceAccount, Error> {
    Ok(ServiceAccount {
        id: ServiceAccountId::from_uuid(id),
        name,
        role: role.parse().map_err(Error::fault)?,
        state: state.parse().map_err(Error::fault)?,
        created,
        updated,
        etag: Etag::from_revision(revision),
    })
}

fn listed((id, account, prefix, created, expires, revoked, used): KeyRow) -> ListedKey {
    ListedKey {
        id: ApiKeyId::from_uuid(id),
        account: ServiceAccountId::from_uuid(account),
        prefix,
        created,
        expires,
        revoked,
        used,
    }
}

/// Adds an account. `None` where another of the tenant has the name.
pub(super) async fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: ServiceAccountId,
    new: &NewAccount,
) -> Result<Option<ServiceAccount>, Error> {
    let row: Option<Row> = sqlx::query_as(INSERT)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .bind(new.name.as_str())
        .bind(new.role.as_str())
        .fetch_optional(conn)
        .await?;
    row.map(account).transpose()
}

pub(super) async fn find(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: ServiceAccountId,
) -> Result<Option<ServiceAccount>, Error> {
    let row: Option<Row> = sqlx::query_as(FIND)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .fetch_optional(conn)
        .await?;
    row.map(account).transpose()
}

/// At most `limit` accounts after `after`, the earliest first; with a role only those that have it.
pub(super) async fn page(
    conn: &mut PgConnection,
    tenant: TenantId,
    role: Option<&TenantRole>,
    after: Option<ServiceAccountId>,
    limit: i64,
) -> Result<Vec<ServiceAccount>, Error> {
    let rows: Vec<Row> = sqlx::query_as(PAGE)
        .bind(tenant.uuid())
        .bind(after.map(|after| after.uuid()))
        .bind(limit)
        .bind(role.map(TenantRole::as_str))
        .fetch_all(conn)
        .await?;
    rows.into_iter().map(account).collect()
}

/// How many there are; to be read under the tenant's lock.
pub(super) async fn count(conn: &mut PgConnection, tenant: TenantId) -> Result<i64, Error> {
    Ok(sqlx::query_scalar(COUNT).bind(tenant.uuid()).fetch_one(conn).await?)
}

/// How many have each role, or one of them; roles that none has are left out.
pub(crate) async fn counts(
    conn: &mut PgConnection,
    tenant: TenantId,
    role: Option<&str>,
) -> Result<Vec<(String, i64)>, Error> {
    let counts = sqlx::query_as(COUNTS).bind(tenant.uuid()).bind(role);
    Ok(counts.fetch_all(conn).await?)
}

/// Those that have a role.
pub(crate) async fn with_role(
    conn: &mut PgConnection,
    tenant: TenantId,
    role: &str,
) -> Result<Vec<ServiceAccountId>, Error> {
    let ids = sqlx::query_scalar(WITH_ROLE)
        .bind(tenant.uuid())
        .bind(role)
        .bind(i64::from(ACCOUNTS_MAX));
    let ids: Vec<Uuid> = ids.fetch_all(conn).await?;
    Ok(ids.into_iter().map(ServiceAccountId::from_uuid).collect())
}

/// Whether another account of the tenant has a name; to be read under the tenant's lock.
pub(super) async fn name_taken(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: ServiceAccountId,
    name: &str,
) -> Result<bool, Error> {
    let taken = sqlx::query_scalar(NAME_TAKEN).bind(tenant.uuid()).bind(id.uuid());
    Ok(taken.bind(name).fetch_one(conn).await?)
}

/// Writes an account's name, role and state.
pub(super) async fn update(
    conn: &mut PgConnection,
    tenant: TenantId,
    changed: &ServiceAccount,
) -> Result<ServiceAccount, Error> {
    let row: Row = sqlx::query_as(UPDATE)
        .bind(tenant.uuid())
        .bind(changed.id.uuid())
        .bind(&changed.name)
        .bind(changed.role.as_str())
        .bind(changed.state.as_str())
        .fetch_one(conn)
        .await?;
    account(row)
}

/// Removes an account with its keys, which have ended: ending them locks them in their order.
pub(super) async fn delete(conn: &mut PgConnection, tenant: TenantId, id: ServiceAccountId) -> Result<(), Error> {
    let deleted = sqlx::query(DELETE).bind(tenant.uuid()).bind(id.uuid());
    deleted.execute(conn).await?;
    Ok(())
}

/// The name of the active service account that somebody is, where they are one.
pub(crate) async fn display_name(
    conn: &mut PgConnection,
    tenant: TenantId,
    user: UserId,
) -> Result<Option<String>, Error> {
    let name = sqlx::query_scalar(DISPLAY_NAME).bind(tenant.uuid()).bind(user.uuid());
    Ok(name.fetch_optional(conn).await?)
}

/// How many keys of an account are good; to be read under the tenant's lock.
pub(super) async fn count_keys(conn: &mut PgConnection, tenant: TenantId, id: ServiceAccountId) -> Result<i64, Error> {
    let count = sqlx::query_scalar(COUNT_KEYS).bind(tenant.uuid()).bind(id.uuid());
    Ok(count.fetch_one(conn).await?)
}

/// Adds a key. `key`: itself, of which the hash is kept.
pub(super) async fn insert_key(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: ApiKeyId,
    (new, key): (&NewKey, &ApiKey),
    creator: UserId,
) -> Result<ListedKey, Error> {
    let row: KeyRow = sqlx::query_as(INSERT_KEY)
        .bind(tenant.uuid())
        .bind(new.account.uuid())
        .bind(id.uuid())
        .bind(key.shown())
        .bind(key.hash())
        .bind(new.days)
        .bind(creator.uuid())
        .fetch_one(conn)
        .await?;
    Ok(listed(row))
}

/// At most `limit` keys of an account before `before`, the latest first.
pub(super) async fn keys(
    conn: &mut PgConnection,
    tenant: TenantId,
    account: ServiceAccountId,
    before: Option<ApiKeyId>,
    limit: i64,
) -> Result<Vec<ListedKey>, Error> {
    let rows: Vec<KeyRow> = sqlx::query_as(KEYS)
        .bind(tenant.uuid())
        .bind(account.uuid())
        .bind(before.map(|before| before.uuid()))
        .bind(limit)
        .fetch_all(conn)
        .await?;
    Ok(rows.into_iter().map(listed).collect())
}

pub(super) async fn find_key(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: ApiKeyId,
) -> Result<Option<ListedKey>, Error> {
    let row = sqlx::query_as(FIND_KEY).bind(tenant.uuid()).bind(id.uuid());
    Ok(row.fetch_optional(conn).await?.map(listed))
}

/// Ends a key.
pub(super) async fn revoke_key(conn: &mut PgConnection, tenant: TenantId, id: ApiKeyId) -> Result<ListedKey, Error> {
    let row = sqlx::query_as(REVOKE_KEY).bind(tenant.uuid()).bind(id.uuid());
    Ok(listed(row.fetch_one(conn).await?))
}

/// Ends the keys that somebody has made and so knows, of whichever accounts, and those that were made with such keys; under the
/// tenant's lock.
pub(crate) async fn revoke_keys_made_by(
    conn: &mut PgConnection,
    tenant: TenantId,
    creator: UserId,
) -> Result<Vec<ApiKeyId>, Error> {
    revoke_keys(conn, tenant, Some(creator), None).await
}

/// Ends the keys that somebody has made, as [`revoke_keys_made_by`] does, and all keys of an account; under the tenant's lock.
pub(super) async fn revoke_keys(
    conn: &mut PgConnection,
    tenant: TenantId,
    creator: Option<UserId>,
    account: Option<ServiceAccountId>,
) -> Result<Vec<ApiKeyId>, Error> {
    let ended = sqlx::query_scalar(REVOKE_MADE_BY)
        .bind(tenant.uuid())
        .bind(creator.map(|creator| creator.uuid()))
        .bind(account.map(|account| account.uuid()));
    Ok(in_order(ended.fetch_all(conn).await?))
}

/// Ends the keys that somebody has made, and those that were made with such keys, in all tenants; under a lock that whoever makes
/// one needs: the grant's of an operator, the tenants' of a member.
pub(crate) async fn revoke_all_keys_made_by(
    conn: &mut PgConnection,
    creator: UserId,
) -> Result<Vec<(TenantId, ApiKeyId)>, Error> {
    let ended = sqlx::query_as(REVOKE_ALL_MADE_BY).bind(creator.uuid());
    let mut ended: Vec<(Uuid, Uuid)> = ended.fetch_all(conn).await?;
    ended.sort_unstable();
    let ended = ended.into_iter();
    Ok(ended
        .map(|(tenant, key)| (TenantId::from_uuid(tenant), ApiKeyId::from_uuid(key)))
        .collect())
}

/// Ends the keys that whoever has a role, members and service accounts, has made and so knows, and those that were made with such
/// keys; under the tenant's lock.
pub(crate) async fn revoke_keys_of_role(
    conn: &mut PgConnection,
    tenant: TenantId,
    role: &str,
) -> Result<Vec<ApiKeyId>, Error> {
    let ended = sqlx::query_scalar(REVOKE_OF_ROLE).bind(tenant.uuid()).bind(role);
    Ok(in_order(ended.fetch_all(conn).await?))
}

/// Whose a key is, and whether it is good still.
pub(super) async fn holder(conn: &mut PgConnection, presented: &ApiKey) -> Result<Option<(KeyHolder, bool)>, Error> {
    let row: Option<(Uuid, Uuid, Uuid, DateTime<Utc>, bool)> = sqlx::query_as(HOLDER)
        .bind(presented.hash())
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|(tenant, account, key, ends, is_good)| {
        let holder = KeyHolder {
            tenant: TenantId::from_uuid(tenant),
            account: ServiceAccountId::from_uuid(account),
            key: ApiKeyId::from_uuid(key),
            ends,
        };
        (holder, is_good)
    }))
}

/// Notes that a key was used and from where, to the minute.
pub(super) async fn note_use(conn: &mut PgConnection, holder: KeyHolder, origin: &[u8]) -> Result<(), Error> {
    sqlx::query(NOTE_USE)
        .bind(holder.tenant.uuid())
        .bind(holder.key.uuid())
        .bind(USE_KNOWN.as_secs_f64())
        .bind(origin)
        .execute(conn)
        .await?;
    Ok(())
}

/// Hashes of the good keys that were used from a network lately, at most `limit`.
pub(crate) async fn used_from(conn: &mut PgConnection, origin: &[u8], limit: i64) -> Result<Vec<Vec<u8>>, Error> {
    let hashes = sqlx::query_scalar(USED_FROM).bind(origin).bind(limit);
    Ok(hashes.fetch_all(conn).await?)
}

/// Forgets at most `rows_max` keys that have ended long ago.
pub(crate) async fn prune(conn: &mut PgConnection, rows_max: u32) -> Result<(), Error> {
    sqlx::query(PRUNE_KEYS).bind(i64::from(rows_max)).execute(conn).await?;
    Ok(())
}
