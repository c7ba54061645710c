//! SQL of devices.

use rowhouse_types::{Email, UserId};
use sqlx::PgConnection;

use super::{DeviceSecret, LIFETIME_DAYS, WRONG_MAX};
use crate::attempt::store::{Found, counting, note};
use crate::attempt::{Subject, Taken};
use crate::error::Error;
use crate::identity::Account;

/// All that is asked before the password is compared, in one statement, which is sent alike whatever there is: whether a secret is
/// good for the account with an address; then the attempt is counted as by TAKE, in the same words, and nothing is returned of that
/// where it has to wait; then the device counts a password that may be wrong, and the account is answered. Attempts first, as
/// everybody locks them: the device depends on what they have answered. Of many at once, the last may find that there were too
/// many: then the attempt is counted for a secret that is no longer good.
const LOOK: &str = "WITH good AS MATERIALIZED (SELECT device.secret_hash FROM auth.devices AS device \
        JOIN auth.identities AS identity ON identity.id = device.identity_id \
        WHERE device.secret_hash = $5 AND identity.email_key = lower($6) AND device.wrong < $7 \
        AND device.used_at > now() - make_interval(days => $8)), \
    taken AS (INSERT INTO auth.attempts AS attempt (subject, level, at, blocked_until) \
    SELECT $1, 1, clock_timestamp(), clock_timestamp() FROM good \
    ON CONFLICT (subject) DO UPDATE SET at = clock_timestamp(), \
        level = 1 + greatest(0, attempt.level - extract(epoch FROM clock_timestamp() - attempt.at)::float8 / $3), \
        blocked_until = clock_timestamp() + make_interval(secs => CASE \
            WHEN 1 + greatest(0, attempt.level - extract(epoch FROM clock_timestamp() - attempt.at)::float8 / $3) > $2 \
            THEN least($4, power(2, least(30, greatest(0, \
                attempt.level - extract(epoch FROM clock_timestamp() - attempt.at)::float8 / $3 - $2)))) ELSE 0 END) \
    WHERE attempt.blocked_until <= clock_timestamp() \
    RETURNING level, at), \
    counted AS (UPDATE auth.devices SET wrong = wrong + 1 \
        WHERE secret_hash = $5 AND wrong < $7 AND (SELECT count(*) FROM taken) = 1 RETURNING identity_id) \
    SELECT EXISTS (SELECT FROM good) AS is_good, taken.level, taken.at, identity.id, identity.email, \
        identity.display_name, identity.password_hash, identity.state = 'active' AS active \
    FROM (SELECT) AS always LEFT JOIN taken ON true LEFT JOIN counted ON true \
    LEFT JOIN auth.identities AS identity ON identity.id = counted.identity_id";

const GIVE_BACK: &str = "UPDATE auth.devices SET wrong = greatest(0, wrong - 1) WHERE secret_hash = $1";

/// With the attempts of the device, which were counted under $2. Those first, as everybody locks them: the device depends on what
/// they have answered. When it was used is noted to the hour: it is in an index, which is left alone otherwise.
const WAS_RIGHT: &str = "WITH forgot AS (DELETE FROM auth.attempts WHERE subject = $2 RETURNING subject) \
    UPDATE auth.devices SET wrong = 0, shown = true, \
        used_at = CASE WHEN used_at < clock_timestamp() - interval '1 hour' THEN clock_timestamp() ELSE used_at END \
    WHERE secret_hash = $1 AND (SELECT count(*) FROM forgot) >= 0";

/// In the place of all but those that stay, of which none is locked: somebody may be logging in with one. The new one is not
/// among those that go: the statement does not see it. How many stay beside it is a number here: with a bind in its place
/// PostgreSQL plans the statement anew each time. With it go the attempts that were counted under $3, before any device.
const INSERT: &str = "WITH forgot AS (DELETE FROM auth.attempts WHERE subject = $3 RETURNING subject), \
    added AS (INSERT INTO auth.devices (secret_hash, identity_id) VALUES ($1, $2)) \
    DELETE FROM auth.devices WHERE (SELECT count(*) FROM forgot) >= 0 \
    AND secret_hash IN (SELECT secret_hash FROM auth.devices \
    WHERE secret_hash IN (SELECT secret_hash FROM auth.devices WHERE identity_id = $2 \
        ORDER BY shown DESC, used_at DESC, secret_hash OFFSET 19) \
    FOR UPDATE SKIP LOCKED)";

const FORGET: &str = "DELETE FROM auth.devices WHERE identity_id = $1";

/// Those that somebody logs in with at this moment are left. An array is made once; a plan may run what is in IN (...) again for
/// each row, and SKIP LOCKED then finds others each time, beyond the limit.
const PRUNE: &str = "DELETE FROM auth.devices WHERE secret_hash = ANY (ARRAY(SELECT secret_hash FROM auth.devices \
    WHERE used_at < now() - make_interval(days => $1) ORDER BY used_at LIMIT 1000 FOR UPDATE SKIP LOCKED))";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[LOOK, GIVE_BACK, WAS_RIGHT, INSERT, FORGET, PRUNE];

#[derive(sqlx::FromRow)]
struct LookRow {
    is_good: bool,
    #[sqlx(flatten)]
    found: Found,
}

/// Counts a password that may be wrong, before it is looked at, and answers what came of it and the account. `None` where the
/// secret is not good for the account with this address. `pair`: what is counted.
pub(in crate::attempt) async fn look(
    conn: &mut PgConnection,
    email: &Email,
    secret: &DeviceSecret,
    pair: &mut Subject,
) -> Result<Option<(Taken, Option<Account>)>, Error> {
    let row: LookRow = counting(LOOK, pair)
        .bind(secret.hash())
        .bind(email.as_str())
        .bind(WRONG_MAX)
        .bind(LIFETIME_DAYS)
        .fetch_one(&mut *conn)
        .await?;
    let (taken, account) = (row.found.taken(), row.found.account());
    if !row.is_good || (taken.is_some() && account.is_none()) {
        return Ok(None);
    }
    Ok(Some((note(conn, pair, taken).await?, account)))
}

/// Takes one back that was not looked at.
pub(in crate::attempt) async fn give_back(conn: &mut PgConnection, secret: &DeviceSecret) -> Result<(), Error> {
    sqlx::query(GIVE_BACK).bind(secret.hash()).execute(conn).await?;
    Ok(())
}

/// The password was right: what was wrong before is forgotten, and the secret is good for as long as a new one. `attempts`: what
/// they are counted under.
pub(in crate::attempt) async fn was_right(
    conn: &mut PgConnection,
    secret: &DeviceSecret,
    attempts: &[u8],
) -> Result<(), Error> {
    let done = sqlx::query(WAS_RIGHT).bind(secret.hash()).bind(attempts);
    done.execute(conn).await?;
    Ok(())
}

/// Forgets attempts, and adds a device of an account, in the place of another where there are as many as may be.
pub(super) async fn insert(
    conn: &mut PgConnection,
    user: UserId,
    secret: &DeviceSecret,
    attempts: &[u8],
) -> Result<(), Error> {
    let added = sqlx::query(INSERT).bind(secret.hash()).bind(user.uuid());
    added.bind(attempts).execute(conn).await?;
    Ok(())
}

/// Forgets all devices of an account, which the caller has locked: whoever logs in meanwhile waits for it or was waited for. After
/// attempts, and before the clock of rights.
pub(crate) async fn forget(conn: &mut PgConnection, user: UserId) -> Result<(), Error> {
    sqlx::query(FORGET).bind(user.uuid()).execute(conn).await?;
    Ok(())
}

/// Forgets devices that nobody has logged in with for long.
pub(crate) async fn prune(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query(PRUNE).bind(LIFETIME_DAYS).execute(conn).await?;
    Ok(())
}

#[cfg(test)]
mod rules {
    use super::*;
    use crate::attempt::device::DEVICES_MAX;
    use crate::attempt::store::TAKE;

    #[test]
    fn an_attempt_at_a_device_is_counted_as_any() {
        let (_, counted) = TAKE.split_once("ON CONFLICT").unwrap();
        assert!(LOOK.contains(counted), "{LOOK}");
    }

    #[test]
    fn the_statement_has_the_bound_in_it() {
        let beside = format!("secret_hash OFFSET {})", DEVICES_MAX - 1);
        assert!(INSERT.contains(&beside), "{INSERT}");
    }
}
