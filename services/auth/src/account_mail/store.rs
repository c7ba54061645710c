//! SQL of mails about accounts.

use chrono::{DateTime, Utc};
use rowhouse_types::{AccountMailId, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Followed, Kind, OperatorChange, OperatorNews, PER_HOUR_MAX};
use crate::error::Error;

/// The same work whether the address has an account or not. Two at once may both be the last that is allowed.
const INSERT_RESET: &str = "INSERT INTO auth.account_mails (id, kind, email, nonce, token_hash, expires_at) \
    SELECT $1, $2, $3, $4, $5, now() + make_interval(hours => $6) \
    WHERE (SELECT count(*) FROM auth.account_mails \
        WHERE email_key = lower($3) AND kind = $2 AND created_at > now() - interval '1 hour') < $7";

const INSERT: &str = "INSERT INTO auth.account_mails \
    (id, kind, identity_id, email, nonce, token_hash, expires_at, operator_id, actor_id) \
    VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(hours => $7), $8, $9)";

const WITHIN_AN_HOUR: &str = "SELECT count(*) FROM auth.account_mails \
    WHERE identity_id = $1 AND kind = $2 AND created_at > now() - interval '1 hour'";

const FOLLOWED: &str = "SELECT mail.id, person.id, \
    CASE WHEN mail.identity_id IS NULL THEN person.email ELSE mail.email END \
    FROM auth.account_mails AS mail \
    JOIN auth.identities AS person ON person.id = mail.identity_id \
        OR (mail.identity_id IS NULL AND person.email_key = mail.email_key) \
    WHERE mail.token_hash = $1 AND mail.kind = $2 AND mail.state = 'open' \
    AND mail.expires_at > clock_timestamp() AND person.state = 'active'";

/// Looked up again under the account's lock: the address may be another's by now.
const USE: &str = "UPDATE auth.account_mails AS mail SET state = 'used' \
    WHERE mail.id = $1 AND mail.state = 'open' AND mail.expires_at > clock_timestamp() \
    AND coalesce(mail.identity_id, \
        (SELECT person.id FROM auth.identities AS person WHERE person.email_key = mail.email_key)) = $2";

const CLOSE_LINKS: &str = "UPDATE auth.account_mails SET state = 'closed' \
    WHERE (identity_id = $1 OR (identity_id IS NULL AND email_key = lower($2))) \
    AND state = 'open' AND token_hash IS NOT NULL";

/// A reset goes to the address as the account has it: two spellings that are equal here may be two mailboxes elsewhere.
/// No link goes to an address that has become another account's. What is told of an operator is told while there is the account.
const FOR_MAIL: &str = "SELECT mail.kind, CASE WHEN mail.identity_id IS NULL THEN person.email ELSE mail.email END, \
    person.display_name, mail.nonce, mail.token_hash, mail.created_at, mail.expires_at, \
    mail.operator_id, about.email, mail.actor_id, actor.email \
    FROM auth.account_mails AS mail \
    JOIN auth.identities AS person ON person.id = mail.identity_id \
        OR (mail.identity_id IS NULL AND person.email_key = mail.email_key) \
    LEFT JOIN auth.identities AS about ON about.id = mail.operator_id \
    LEFT JOIN auth.identities AS actor ON actor.id = mail.actor_id \
    WHERE mail.id = $1 AND mail.state = 'open' AND mail.expires_at > now() AND person.state = 'active' \
    AND (mail.operator_id IS NULL OR about.id IS NOT NULL) \
    AND NOT (mail.kind = 'email_change' AND EXISTS (SELECT FROM auth.identities AS other \
        WHERE other.email_key = mail.email_key AND other.id <> person.id))";

/// Those of an account that somebody is changing are left for the next round. An array, for the limit's sake
/// (`attempt/device/store.rs`).
const PRUNE: &str = "DELETE FROM auth.account_mails WHERE id = ANY (ARRAY(SELECT id FROM auth.account_mails \
    WHERE expires_at < now() - interval '1 day' ORDER BY expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED))";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    INSERT_RESET,
    INSERT,
    WITHIN_AN_HOUR,
    FOLLOWED,
    USE,
    CLOSE_LINKS,
    FOR_MAIL,
    PRUNE,
];

/// From which a link's token is derived, and by which it is known again.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) nonce: Vec<u8>,
    pub(super) token_hash: Vec<u8>,
}

/// A mail about an account that is to be added.
pub(super) struct NewMail<'a> {
    pub(super) id: AccountMailId,
    pub(super) kind: Kind,
    /// Who is written to.
    pub(super) user: UserId,
    pub(super) email: &'a str,
    pub(super) link: Option<&'a Link>,
    pub(super) change: Option<OperatorChange>,
}

/// A mail with its addressee.
pub(super) struct MailRow {
    pub(super) kind: Kind,
    pub(super) email: String,
    pub(super) display_name: String,
    pub(super) link: Option<Link>,
    pub(super) news: Option<OperatorNews>,
    pub(super) created: DateTime<Utc>,
    pub(super) expires: DateTime<Utc>,
}

/// Adds a password reset for whoever has this address. `false` where the address was written to often enough.
pub(super) async fn insert_reset(
    conn: &mut PgConnection,
    id: AccountMailId,
    email: &str,
    link: &Link,
) -> Result<bool, Error> {
    let kind = Kind::PasswordReset;
    let done = sqlx::query(INSERT_RESET)
        .bind(id.uuid())
        .bind(kind.as_str())
        .bind(email)
        .bind(&link.nonce)
        .bind(&link.token_hash)
        .bind(kind.lifetime_hours())
        .bind(PER_HOUR_MAX)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Adds a mail about an account.
pub(super) async fn insert(conn: &mut PgConnection, new: &NewMail<'_>) -> Result<(), Error> {
    let operator = new.change.map(|change| change.operator.uuid());
    let actor = new.change.and_then(|change| change.actor);
    sqlx::query(INSERT)
        .bind(new.id.uuid())
        .bind(new.kind.as_str())
        .bind(new.user.uuid())
        .bind(new.email)
        .bind(new.link.map(|link| &link.nonce))
        .bind(new.link.map(|link| &link.token_hash))
        .bind(new.kind.lifetime_hours())
        .bind(operator)
        .bind(actor.map(|actor| actor.uuid()))
        .execute(conn)
        .await?;
    Ok(())
}

/// How many mails of a kind an account was sent within an hour.
pub(crate) async fn within_an_hour(conn: &mut PgConnection, user: UserId, kind: Kind) -> Result<i64, Error> {
    let sent = sqlx::query_scalar(WITHIN_AN_HOUR).bind(user.uuid()).bind(kind.as_str());
    Ok(sent.fetch_one(conn).await?)
}

/// The open link with this token, and the active account that it is about.
pub(crate) async fn followed(
    conn: &mut PgConnection,
    token_hash: &[u8],
    kind: Kind,
) -> Result<Option<Followed>, Error> {
    let row: Option<(Uuid, Uuid, String)> = sqlx::query_as(FOLLOWED)
        .bind(token_hash)
        .bind(kind.as_str())
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|(id, user, email)| Followed {
        id: AccountMailId::from_uuid(id),
        user: UserId::from_uuid(user),
        email,
    }))
}

/// Uses a link up, under the account's lock. `false` where it was used, closed, or is about another account by now.
pub(crate) async fn use_up(conn: &mut PgConnection, link: &Followed) -> Result<bool, Error> {
    let used = sqlx::query(USE).bind(link.id.uuid()).bind(link.user.uuid());
    Ok(used.execute(conn).await?.rows_affected() == 1)
}

/// Closes every open link about an account, and every reset that was asked for at its address.
pub(crate) async fn close_links(conn: &mut PgConnection, user: UserId, email: &str) -> Result<(), Error> {
    sqlx::query(CLOSE_LINKS)
        .bind(user.uuid())
        .bind(email)
        .execute(conn)
        .await?;
    Ok(())
}

type Row = (
    String,
    String,
    String,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    DateTime<Utc>,
    DateTime<Utc>,
    // About whose role, their address, who has changed it, and their address.
    Option<Uuid>,
    Option<String>,
    Option<Uuid>,
    Option<String>,
);

/// What a mail needs; none where it has no addressee, or no longer.
pub(super) async fn for_mail(conn: &mut PgConnection, id: AccountMailId) -> Result<Option<MailRow>, Error> {
    let row: Option<Row> = sqlx::query_as(FOR_MAIL).bind(id.uuid()).fetch_optional(conn).await?;
    row.map(mail_row).transpose()
}

fn mail_row(row: Row) -> Result<MailRow, Error> {
    let (kind, email, display_name, nonce, token_hash, created, expires, operator, about, actor, actor_email) = row;
    let news = operator.zip(about).map(|(operator, email)| OperatorNews {
        operator: UserId::from_uuid(operator),
        email,
        actor: actor.map(|actor| actor_email.unwrap_or_else(|| UserId::from_uuid(actor).to_string())),
    });
    Ok(MailRow {
        kind: kind.parse().map_err(Error::fault)?,
        email,
        display_name,
        link: nonce
            .zip(token_hash)
            .map(|(nonce, token_hash)| Link { nonce, token_hash }),
        news,
        created,
        expires,
    })
}

/// Forgets what has expired.
pub(crate) async fn prune(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query(PRUNE).execute(conn).await?;
    Ok(())
}
