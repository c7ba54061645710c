//! SQL of sessions and refresh tokens.

use chrono::{DateTime, Utc};
use rowhouse_auth_kit::KeyId;
use rowhouse_types::{Email, SessionId, TenantId, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    GRACE_S, IDLE_DAYS, LIFETIME_DAYS, Listed, Presented, REFRESH_EVERY_S, REFRESHES_FREE, RefreshToken, Session,
};
use crate::error::Error;
use crate::tenant::Access;

/// One row at least, and one for each place. In a look of its own after the account is held: a second factor that was confirmed
/// meanwhile is seen. FOR SHARE: who disables the member waits for the session to be there, and then ends it.
const ARRIVAL: &str = "SELECT EXISTS (SELECT FROM auth.second_factors WHERE identity_id = $1), \
    EXISTS (SELECT FROM auth.platform_grants WHERE identity_id = $1), place.tenant_id, place.access \
    FROM (SELECT) AS always LEFT JOIN (SELECT membership.tenant_id, tenant.access FROM auth.memberships AS membership \
        JOIN auth.tenants AS tenant ON tenant.id = membership.tenant_id \
        WHERE membership.identity_id = $1 AND membership.state = 'active' \
        AND membership.tenant_id = coalesce($2, membership.tenant_id) \
        ORDER BY membership.tenant_id LIMIT 2 FOR SHARE OF membership) AS place ON true";

/// With its first token. What of it is told comes from what was inserted: the statement does not see the new row. Answers as
/// INSERT_TOKEN does, and whether the account has as many without it as it may have (`room`): of all that were not ended, so rather
/// too early than too late. And which key signs, so that nobody asks for that apart.
const INSERT: &str = "WITH session AS (INSERT INTO auth.sessions \
        (id, identity_id, tenant_id, address, second_factor, expires_at, origin) \
        VALUES ($1, $2, $3, $4, $6, now() + make_interval(days => $5), $7) \
        RETURNING id, tenant_id, created_at, expires_at), \
    token AS (INSERT INTO auth.refresh_tokens (token_hash, session_id, expires_at) \
        SELECT $8, session.id, least(session.expires_at, clock_timestamp() + make_interval(days => $9)) FROM session) \
    SELECT least(session.expires_at, session.created_at + make_interval(secs => policy.session_lifetime_s)), \
    EXISTS (SELECT FROM auth.sessions AS other \
        WHERE other.identity_id = $2 AND other.revoked_at IS NULL OFFSET 199), \
    (SELECT kid FROM auth.signing_keys WHERE state = 'active') \
    FROM session LEFT JOIN auth.login_policies AS policy ON policy.tenant_id = session.tenant_id";

/// As old as the one it is opened from, so that a tenant's bound on sessions counts from the log-in; and as often refreshed, since
/// what it may be refreshed grows with its age. Answers whether the account has as many without it as it may have.
const INSERT_BESIDE: &str = "INSERT INTO auth.sessions \
    (id, identity_id, tenant_id, address, second_factor, created_at, expires_at, origin, refreshes) \
    SELECT $1, $2, $3, $4, origin.second_factor, origin.created_at, origin.expires_at, $6, origin.refreshes \
    FROM auth.sessions AS origin WHERE origin.id = $5 \
    RETURNING EXISTS (SELECT FROM auth.sessions AS other \
        WHERE other.identity_id = $2 AND other.revoked_at IS NULL OFFSET 199)";

/// Answers when the session ends by its own time or the tenant's policy, as `rights/store.rs` judges it. That it dies of idleness
/// is put off by this very token, for longer than any access token is valid.
const INSERT_TOKEN: &str = "INSERT INTO auth.refresh_tokens (token_hash, session_id, expires_at) \
    SELECT $1, session.id, least(session.expires_at, clock_timestamp() + make_interval(days => $3)) \
    FROM auth.sessions AS session WHERE session.id = $2 \
    RETURNING (SELECT least(session.expires_at, session.created_at + make_interval(secs => policy.session_lifetime_s)) \
        FROM auth.sessions AS session LEFT JOIN auth.login_policies AS policy ON policy.tenant_id = session.tenant_id \
        WHERE session.id = $2)";

/// As INSERT_TOKEN answers it.
const ENDS: &str = "SELECT least(session.expires_at, \
    session.created_at + make_interval(secs => policy.session_lifetime_s)) \
    FROM auth.sessions AS session LEFT JOIN auth.login_policies AS policy ON policy.tenant_id = session.tenant_id \
    WHERE session.id = $1";

const OF_TOKEN: &str = "SELECT session.id, session.tenant_id FROM auth.refresh_tokens AS token \
    JOIN auth.sessions AS session ON session.id = token.session_id WHERE token.token_hash = $1";

const LOCK_LIVE: &str = "SELECT identity_id, tenant_id FROM auth.sessions \
    WHERE id = $1 AND revoked_at IS NULL AND expires_at > clock_timestamp() FOR UPDATE";

/// Under the session's lock. A session that was opened from another is as old as that one, and begins with its count.
const COUNT_REFRESH: &str = "UPDATE auth.sessions SET refreshes = refreshes + 1, origin = $4, used_token = $5 \
    WHERE id = $1 \
    AND refreshes < $2 + extract(epoch FROM clock_timestamp() - created_at)::float8 / $3";

const PRESENTED: &str = "SELECT token.revoked_at IS NOT NULL, token.expires_at <= clock_timestamp(), \
    token.successor_hash, coalesce(successor.used_at IS NOT NULL, false), \
    coalesce(token.used_at + make_interval(secs => $2) > clock_timestamp(), false) \
    FROM auth.refresh_tokens AS token \
    LEFT JOIN auth.refresh_tokens AS successor ON successor.token_hash = token.successor_hash \
    WHERE token.token_hash = $1";

const MARK_USED: &str = "UPDATE auth.refresh_tokens SET successor_hash = $2, \
    used_at = coalesce(used_at, clock_timestamp()) WHERE token_hash = $1";

const REVOKE_TOKEN: &str = "UPDATE auth.refresh_tokens SET revoked_at = clock_timestamp() WHERE token_hash = $1";

/// Of each the token that it would use next, and the one that it has used last.
const KNOWN_FROM: &str = "SELECT token.token_hash, session.used_token FROM auth.sessions AS session \
    JOIN auth.refresh_tokens AS token ON token.session_id = session.id \
        AND token.used_at IS NULL AND token.revoked_at IS NULL AND token.expires_at > now() \
    WHERE session.origin = $1 AND session.revoked_at IS NULL AND session.expires_at > now() \
    ORDER BY token.created_at DESC LIMIT $2";

const BELONGS_TO: &str = "SELECT EXISTS (SELECT FROM auth.sessions WHERE id = $1 AND identity_id = $2)";

/// Ids are in the order of time (UUIDv7). Of all refresh tokens of a session, the last is the one that was neither used nor
/// revoked. Where that has died of idleness, the session is no longer usable; one that an operator has opened has none. It ends by
/// its own time or the tenant's policy, as `rights/store.rs` judges it.
const PAGE: &str = "SELECT session.id, session.tenant_id, session.address, session.created_at, \
    coalesce(token.refreshed_at, session.created_at), bound.expires_at, session.impersonator_id IS NOT NULL \
    FROM auth.sessions AS session LEFT JOIN auth.login_policies AS policy ON policy.tenant_id = session.tenant_id \
    CROSS JOIN LATERAL (SELECT least(session.expires_at, \
        session.created_at + make_interval(secs => policy.session_lifetime_s)) AS expires_at) AS bound \
    LEFT JOIN LATERAL (SELECT created_at AS refreshed_at, expires_at FROM auth.refresh_tokens \
        WHERE session_id = session.id AND used_at IS NULL AND revoked_at IS NULL) AS token ON true \
    WHERE session.identity_id = $1 AND session.revoked_at IS NULL \
    AND least(bound.expires_at, token.expires_at) > clock_timestamp() \
    AND ($2::uuid IS NULL OR session.id < $2) \
    ORDER BY session.id DESC LIMIT $3";

/// Of which tenants somebody is a member; of who is in more than fifty, the first. The one that is named stands for all where they
/// are its member, and for none where they are not: who guesses may name any.
const ABOUT: &str = "SELECT identity.id, ARRAY(SELECT membership.tenant_id FROM auth.memberships AS membership \
    WHERE membership.identity_id = identity.id AND membership.state = 'active' \
    AND (membership.tenant_id = $2 OR NOT EXISTS (SELECT FROM auth.memberships AS named \
        WHERE named.identity_id = identity.id AND named.tenant_id = $2 AND named.state = 'active')) \
    ORDER BY membership.tenant_id LIMIT 50) \
    FROM auth.identities AS identity WHERE identity.email_key = lower($1)";

/// A used token is kept for as long as its family may live, however old it is: whoever presents it shows that two hold tokens of
/// the family, which then ends. Of a session that is over, nothing is left to end. Those that were ended within the last day
/// are let be, for who looks into what happened; those that were missed in the 25th hour go with their session.
/// Replicas that do it at once take others each.
const PRUNE_TOKENS: &str = "WITH stale AS (SELECT token.token_hash \
    FROM auth.sessions AS session JOIN auth.refresh_tokens AS token ON token.session_id = session.id \
    WHERE session.expires_at < now() - interval '1 day' \
    OR session.revoked_at BETWEEN now() - interval '25 hours' AND now() - interval '1 day' \
    LIMIT $1 FOR UPDATE OF token SKIP LOCKED) \
    DELETE FROM auth.refresh_tokens WHERE token_hash IN (SELECT stale.token_hash FROM stale)";

/// A day later nobody's access token names it any more. Only those without tokens, which would all go with it at once. Those that
/// somebody is ending, in the order of their ids, are left for the next round. Arrays, here and below, for the limit's sake
/// (`attempt/device/store.rs`).
const PRUNE: &str = "DELETE FROM auth.sessions WHERE id = ANY (ARRAY(SELECT session.id FROM auth.sessions AS session \
    WHERE session.expires_at < now() - interval '1 day' \
    AND NOT EXISTS (SELECT FROM auth.refresh_tokens AS token WHERE token.session_id = session.id) \
    ORDER BY session.expires_at LIMIT 1000 FOR UPDATE OF session SKIP LOCKED))";

/// One that was ended a day ago is kept for the address that it was opened from, and not where a later one of the account tells as
/// much. As with tokens, those that were missed in the 25th hour go when their time is over.
const PRUNE_ENDED: &str = "DELETE FROM auth.sessions WHERE id = ANY (ARRAY(SELECT session.id FROM auth.sessions AS session \
    WHERE session.revoked_at BETWEEN now() - interval '25 hours' AND now() - interval '1 day' \
    AND session.impersonator_id IS NULL \
    AND EXISTS (SELECT FROM auth.sessions AS later WHERE later.identity_id = session.identity_id \
        AND later.address = session.address AND later.id > session.id AND later.impersonator_id IS NULL) \
    AND NOT EXISTS (SELECT FROM auth.refresh_tokens AS token WHERE token.session_id = session.id) \
    LIMIT $1 FOR UPDATE OF session SKIP LOCKED))";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    ARRIVAL,
    INSERT,
    INSERT_BESIDE,
    INSERT_TOKEN,
    ENDS,
    OF_TOKEN,
    LOCK_LIVE,
    COUNT_REFRESH,
    PRESENTED,
    MARK_USED,
    REVOKE_TOKEN,
    KNOWN_FROM,
    BELONGS_TO,
    PAGE,
    PRUNE_TOKENS,
    PRUNE,
    PRUNE_ENDED,
    ABOUT,
];

/// What somebody is who logs in.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Confirmed or not: that `second_factor` judges.
    pub(super) has_second_factor: bool,
    pub(super) is_operator: bool,
    /// Tenants where they are an active member, two at most, and whether anybody may act there.
    pub(super) places: Vec<(TenantId, Access)>,
}

/// What is told of a session that was added.
#[derive(Debug)]
pub(super) struct Added {
    /// When it ends.
    pub(super) ends: DateTime<Utc>,
    /// Whether the account had as many before as it may have.
    pub(super) is_beyond: bool,
    /// The key that signs now, where there is one.
    pub(super) key: Option<KeyId>,
}

/// Whom an attempt to log in was about.
#[derive(Debug, Default)]
pub(super) struct About {
    pub(super) user: Option<UserId>,
    /// Whose member they are.
    pub(super) tenants: Vec<TenantId>,
}

/// What somebody is who logs in and whose account is held; of the tenants only `tenant` where one is named.
pub(super) async fn arrival(conn: &mut PgConnection, user: UserId, tenant: Option<TenantId>) -> Result<Arrival, Error> {
    let rows: Vec<(bool, bool, Option<Uuid>, Option<String>)> = sqlx::query_as(ARRIVAL)
        .bind(user.uuid())
        .bind(tenant.map(|tenant| tenant.uuid()))
        .fetch_all(conn)
        .await?;
    let none = || Error::fault("nothing was answered about an account");
    let &(has_second_factor, is_operator, ..) = rows.first().ok_or_else(none)?;
    let place =
        |(tenant, access): (Uuid, String)| Ok((TenantId::from_uuid(tenant), access.parse().map_err(Error::fault)?));
    let places = rows.into_iter().filter_map(|(.., tenant, access)| tenant.zip(access));
    Ok(Arrival {
        has_second_factor,
        is_operator,
        places: places.map(place).collect::<Result<_, Error>>()?,
    })
}

/// Adds a session with the token that it can be refreshed with. `address` and `origin`: where the caller is, and what stands for
/// that network. `second_factor`: whether it was shown.
pub(super) async fn insert(
    conn: &mut PgConnection,
    session: &Session,
    token: &RefreshToken,
    (address, origin): (Option<&str>, &[u8]),
    second_factor: bool,
) -> Result<Added, Error> {
    let added = sqlx::query_as(INSERT)
        .bind(session.id.uuid())
        .bind(session.user.uuid())
        .bind(session.tenant.map(|tenant| tenant.uuid()))
        .bind(address)
        .bind(LIFETIME_DAYS)
        .bind(second_factor)
        .bind(origin)
        .bind(token.hash())
        .bind(IDLE_DAYS);
    let (ends, is_beyond, key): (_, _, Option<String>) = added.fetch_one(conn).await?;
    Ok(Added {
        ends,
        is_beyond,
        key: key.map(|key| key.parse().map_err(Error::fault)).transpose()?,
    })
}

/// Adds a session that ends when `origin` does. Whether the account had as many before as it may have.
pub(super) async fn insert_beside(
    conn: &mut PgConnection,
    session: &Session,
    (address, from): (Option<&str>, &[u8]),
    origin: SessionId,
) -> Result<bool, Error> {
    let is_beyond = sqlx::query_scalar(INSERT_BESIDE)
        .bind(session.id.uuid())
        .bind(session.user.uuid())
        .bind(session.tenant.map(|tenant| tenant.uuid()))
        .bind(address)
        .bind(origin.uuid())
        .bind(from);
    Ok(is_beyond.fetch_one(conn).await?)
}

/// Adds the token that the session can be refreshed with, and says when the session ends. There is at most one token that was
/// neither used nor revoked.
pub(super) async fn insert_token(
    conn: &mut PgConnection,
    session: SessionId,
    token: &RefreshToken,
) -> Result<DateTime<Utc>, Error> {
    let ends = sqlx::query_scalar(INSERT_TOKEN)
        .bind(token.hash())
        .bind(session.uuid())
        .bind(IDLE_DAYS);
    Ok(ends.fetch_one(conn).await?)
}

/// When a session ends that is there.
pub(super) async fn ends(conn: &mut PgConnection, session: SessionId) -> Result<DateTime<Utc>, Error> {
    let ends = sqlx::query_scalar(ENDS).bind(session.uuid());
    Ok(ends.fetch_one(conn).await?)
}

/// The session of a token, whether it goes on or not, and its tenant.
pub(super) async fn of_token(
    conn: &mut PgConnection,
    token: &RefreshToken,
) -> Result<Option<(SessionId, Option<TenantId>)>, Error> {
    let row: Option<(Uuid, Option<Uuid>)> = sqlx::query_as(OF_TOKEN).bind(token.hash()).fetch_optional(conn).await?;
    Ok(row.map(|(id, tenant)| (SessionId::from_uuid(id), tenant.map(TenantId::from_uuid))))
}

/// Locks a session that was not ended.
pub(super) async fn lock_live(conn: &mut PgConnection, id: SessionId) -> Result<Option<Session>, Error> {
    let row: Option<(Uuid, Option<Uuid>)> = sqlx::query_as(LOCK_LIVE).bind(id.uuid()).fetch_optional(conn).await?;
    Ok(row.map(|(user, tenant)| Session {
        id,
        user: UserId::from_uuid(user),
        tenant: tenant.map(TenantId::from_uuid),
    }))
}

/// Counts a refresh, under the session's lock, and notes from which network and by which token. `false` where there were too many.
pub(super) async fn count_refresh(
    conn: &mut PgConnection,
    id: SessionId,
    origin: &[u8],
    token: &RefreshToken,
) -> Result<bool, Error> {
    let done = sqlx::query(COUNT_REFRESH).bind(id.uuid()).bind(REFRESHES_FREE);
    let done = done.bind(REFRESH_EVERY_S).bind(origin).bind(token.hash());
    Ok(done.execute(conn).await?.rows_affected() == 1)
}

/// Hashes of the refresh tokens of at most `limit` sessions that were opened or refreshed last from a network.
pub(crate) async fn known_from(conn: &mut PgConnection, origin: &[u8], limit: i64) -> Result<Vec<Vec<u8>>, Error> {
    let rows = sqlx::query_as(KNOWN_FROM).bind(origin).bind(limit);
    let rows: Vec<(Vec<u8>, Option<Vec<u8>>)> = rows.fetch_all(conn).await?;
    let hashes = rows.into_iter().flat_map(|(next, used)| [Some(next), used]);
    Ok(hashes.flatten().collect())
}

type PresentedRow = (bool, bool, Option<Vec<u8>>, bool, bool);

/// What is known of a token; to be read under the lock of its session.
pub(super) async fn presented(conn: &mut PgConnection, token: &RefreshToken) -> Result<Option<Presented>, Error> {
    let row: Option<PresentedRow> = sqlx::query_as(PRESENTED)
        .bind(token.hash())
        .bind(GRACE_S)
        .fetch_optional(conn)
        .await?;
    Ok(row.map(
        |(revoked, expired, successor, successor_used, within_grace)| Presented {
            revoked,
            expired,
            successor,
            successor_used,
            within_grace,
        },
    ))
}

/// Names a token's successor; the time of its first use stays.
pub(super) async fn mark_used(
    conn: &mut PgConnection,
    token: &RefreshToken,
    successor: &RefreshToken,
) -> Result<(), Error> {
    sqlx::query(MARK_USED)
        .bind(token.hash())
        .bind(successor.hash())
        .execute(conn)
        .await?;
    Ok(())
}

/// Revokes a token by its hash.
pub(super) async fn revoke_token(conn: &mut PgConnection, token_hash: &[u8]) -> Result<(), Error> {
    sqlx::query(REVOKE_TOKEN).bind(token_hash).execute(conn).await?;
    Ok(())
}

/// Whether there is such a session, ended or not, and it is this person's.
pub(super) async fn belongs_to(conn: &mut PgConnection, id: SessionId, user: UserId) -> Result<bool, Error> {
    let found = sqlx::query_scalar(BELONGS_TO).bind(id.uuid()).bind(user.uuid());
    Ok(found.fetch_one(conn).await?)
}

type ListedRow = (
    Uuid,
    Option<Uuid>,
    Option<String>,
    DateTime<Utc>,
    DateTime<Utc>,
    DateTime<Utc>,
    bool,
);

/// At most `limit` usable sessions of an account, older than `before`, the newest first.
pub(super) async fn page(
    conn: &mut PgConnection,
    user: UserId,
    before: Option<SessionId>,
    limit: i64,
) -> Result<Vec<Listed>, Error> {
    let rows: Vec<ListedRow> = sqlx::query_as(PAGE)
        .bind(user.uuid())
        .bind(before.map(|session| session.uuid()))
        .bind(limit)
        .fetch_all(conn)
        .await?;
    let listed = |(id, tenant, address, created, refreshed, expires, impersonated): ListedRow| Listed {
        id: SessionId::from_uuid(id),
        tenant: tenant.map(TenantId::from_uuid),
        current: false,
        address,
        created,
        refreshed,
        expires,
        impersonated,
    };
    Ok(rows.into_iter().map(listed).collect())
}

/// Forgets sessions that expired long ago, at most `tokens_max` refresh tokens of sessions that are over, and as many sessions that
/// were ended and tell nothing. `true` where it were as many of the tokens, so that there may be more.
pub(crate) async fn prune(conn: &mut PgConnection, tokens_max: u32) -> Result<bool, Error> {
    let tokens = sqlx::query(PRUNE_TOKENS).bind(i64::from(tokens_max));
    let tokens = tokens.execute(&mut *conn).await?.rows_affected();
    sqlx::query(PRUNE).execute(&mut *conn).await?;
    let ended = sqlx::query(PRUNE_ENDED).bind(i64::from(tokens_max));
    ended.execute(conn).await?;
    Ok(tokens >= u64::from(tokens_max))
}

/// Whom an address belongs to, and whose active member they are: of the tenant that is named alone, where they are its member;
/// nobody where there is no such account.
pub(super) async fn about(conn: &mut PgConnection, email: &Email, tenant: Option<TenantId>) -> Result<About, Error> {
    let found = sqlx::query_as(ABOUT).bind(email.as_str());
    let found = found.bind(tenant.map(|tenant| tenant.uuid()));
    let found: Option<(Uuid, Vec<Uuid>)> = found.fetch_optional(conn).await?;
    let about = found.map(|(user, tenants)| About {
        user: Some(UserId::from_uuid(user)),
        tenants: tenants.into_iter().map(TenantId::from_uuid).collect(),
    });
    Ok(about.unwrap_or_default())
}
