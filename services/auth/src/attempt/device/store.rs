//! SQL of devices.

use rowhouse_types::{Email, UserId};
use sqlx::PgConnection;

use super::{DeviceSecret, LIFETIME_DAYS, WRONG_MAX};
use crate::error::Error;

const IS_GOOD: &str = "SELECT EXISTS (SELECT FROM auth.devices AS device \
    JOIN auth.identities AS identity ON identity.id = device.identity_id \
    WHERE device.secret_hash = $1 AND identity.email_key = lower($2) AND device.wrong < $3 \
    AND device.used_at > now() - make_interval(days => $4))";

const COUNT: &str = "UPDATE auth.devices SET wrong = wrong + 1 WHERE secret_hash = $1 AND wrong < $2";

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
pub(crate) const STATEMENTS: &[&str] = &[IS_GOOD, COUNT, GIVE_BACK, WAS_RIGHT, INSERT, FORGET, PRUNE];

/// Whether a secret is good for the account with this address.
pub(in crate::attempt) async fn is_good(
    conn: &mut PgConnection,
    email: &Email,
    secret: &DeviceSecret,
) -> Result<bool, Error> {
    let good = sqlx::query_scalar(IS_GOOD).bind(secret.hash()).bind(email.as_str());
    Ok(good.bind(WRONG_MAX).bind(LIFETIME_DAYS).fetch_one(conn).await?)
}

/// Counts a password that may be wrong, before it is looked at. `false` where there were too many: the secret is no longer good.
pub(in crate::attempt) async fn count(conn: &mut PgConnection, secret: &DeviceSecret) -> Result<bool, Error> {
    let done = sqlx::query(COUNT).bind(secret.hash()).bind(WRONG_MAX);
    Ok(done.execute(conn).await?.rows_affected() == 1)
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

    #[test]
    fn the_statement_has_the_bound_in_it() {
        let beside = format!("secret_hash OFFSET {})", DEVICES_MAX - 1);
        assert!(INSERT.contains(&beside), "{INSERT}");
    }
}
