//! SQL of rights, their clock, and leases.

use rowhouse_auth_kit::{Grants, KeyId, Role};
use rowhouse_types::UserId;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{CHANGES_MAX, Facts, Held, LEASE, News, Query, Renewal, Subject, Version};
use crate::error::Error;
use crate::tenant::Access;

/// One statement, so that rights and version are of one snapshot: a change is in both or in neither.
///
/// A service account stands where a person and their membership would, and its key where a session would; no id is one of
/// both. It is in no team.
///
/// A session that an operator has opened as the person is live for tokens that name that operator alone, and only while the
/// operator's own is and they are one still; any other session is live only for tokens that name none.
///
/// Whose records `@team` reaches is looked up only for who has a grant with it. $5: the built-in roles that have. `UNION`
/// takes each team once, so that a circle that should not be there would end all the same.
const FACTS: &str = "SELECT clock.version, coalesce(identity.state = 'active', robot.state = 'active', false), \
    coalesce(session.revoked_at IS NULL AND session.expires_at > now() AND session.identity_id = $1 \
        AND session.tenant_id IS NOT DISTINCT FROM CASE WHEN $4 THEN NULL ELSE $3::uuid END \
        AND ($4 OR policy.session_lifetime_s IS NULL \
            OR session.created_at + make_interval(secs => policy.session_lifetime_s) > now()) \
        AND session.impersonator_id IS NOT DISTINCT FROM $7 \
        AND ($7::uuid IS NULL OR EXISTS (SELECT FROM auth.sessions AS origin \
            JOIN auth.identities AS operator ON operator.id = origin.identity_id AND operator.state = 'active' \
            JOIN auth.platform_grants AS granted ON granted.identity_id = operator.id \
            WHERE origin.id = $8 AND origin.id = session.origin_id AND origin.identity_id = $7 \
                AND origin.tenant_id IS NULL AND origin.revoked_at IS NULL AND origin.expires_at > now())), false) \
        OR coalesce(NOT $4 AND $7::uuid IS NULL AND api_key.revoked_at IS NULL AND api_key.expires_at > now(), false), \
    coalesce(policy.second_factor_required AND NOT CASE WHEN $7::uuid IS NULL THEN session.second_factor \
        ELSE (SELECT origin.second_factor FROM auth.sessions AS origin WHERE origin.id = $8) END, false), \
    CASE WHEN membership.state = 'active' THEN membership.role WHEN robot.state = 'active' THEN robot.role END, \
    own.permissions, \
    platform.role, tenant.access, \
    ($6::text IS NULL OR EXISTS (SELECT FROM auth.signing_keys WHERE kid = $6 AND state IN ('active', 'published'))), \
    CASE WHEN membership.state = 'active' AND (membership.role = ANY ($5) \
        OR EXISTS (SELECT FROM unnest(own.permissions) AS given WHERE given LIKE '%@team')) THEN ( \
        WITH RECURSIVE beneath AS ( \
            SELECT managed.team_id FROM auth.team_members AS managed \
            WHERE managed.tenant_id = $3 AND managed.identity_id = $1 AND managed.manages \
            UNION \
            SELECT team.id FROM beneath JOIN auth.teams AS team \
                ON team.tenant_id = $3 AND team.parent_id = beneath.team_id \
        ), reached AS ( \
            SELECT beneath.team_id FROM beneath \
            UNION \
            SELECT mine.team_id FROM auth.team_members AS mine WHERE mine.tenant_id = $3 AND mine.identity_id = $1 \
        ) \
        SELECT array_agg(DISTINCT other.identity_id) FROM reached JOIN auth.team_members AS other \
            ON other.tenant_id = $3 AND other.team_id = reached.team_id \
        JOIN auth.memberships AS theirs ON theirs.tenant_id = $3 AND theirs.identity_id = other.identity_id \
            AND theirs.state <> 'removed' \
    ) END \
    FROM auth.rights_clock AS clock \
    LEFT JOIN auth.identities AS identity ON identity.id = $1 \
    LEFT JOIN auth.sessions AS session ON session.id = $2 \
    LEFT JOIN auth.tenants AS tenant ON tenant.id = $3 \
    LEFT JOIN auth.memberships AS membership ON membership.tenant_id = $3 AND membership.identity_id = $1 \
    LEFT JOIN auth.login_policies AS policy ON policy.tenant_id = $3 \
    LEFT JOIN auth.service_accounts AS robot ON robot.tenant_id = $3 AND robot.id = $1 \
    LEFT JOIN auth.api_keys AS api_key ON api_key.tenant_id = $3 AND api_key.id = $2 \
        AND api_key.service_account_id = $1 \
    LEFT JOIN auth.roles AS own ON own.tenant_id = $3 AND own.name = coalesce(membership.own_role, robot.own_role) \
    LEFT JOIN auth.platform_grants AS platform ON platform.identity_id = $1";

const BUMP: &str = "WITH clock AS (UPDATE auth.rights_clock SET version = version + 1 RETURNING version) \
    INSERT INTO auth.right_changes (version, subjects) SELECT clock.version, $1 FROM clock RETURNING version";

const VERSION: &str = "SELECT version FROM auth.rights_clock";

/// FOR SHARE excludes changes until this has committed, and the other way round: see the module's reasoning. Nobody can
/// confirm a version that is not there yet. The end is reckoned again under the row's lock: a renewal that was held up
/// must not shorten the lease that a later one has given.
const EXTEND: &str = "WITH clock AS (SELECT version FROM auth.rights_clock FOR SHARE) \
    INSERT INTO auth.leases (instance_id, service, confirmed_version, expires_at) \
    SELECT $1, $2, least($3, clock.version), clock_timestamp() + make_interval(secs => $4) FROM clock \
    ON CONFLICT (instance_id) DO UPDATE SET service = excluded.service, \
        expires_at = clock_timestamp() + make_interval(secs => $4), \
        confirmed_version = greatest(leases.confirmed_version, excluded.confirmed_version) \
    RETURNING (SELECT clock.version FROM clock)";

/// The version that every live lease has confirmed. Without leases it is the clock's, in the same snapshot.
const FLOOR: &str = "SELECT coalesce( \
    (SELECT min(confirmed_version) FROM auth.leases WHERE expires_at > clock_timestamp()), version) \
    FROM auth.rights_clock";

/// The newest version and the changes up to it, in one snapshot; one row without subjects where there are none.
const CHANGES: &str = "SELECT clock.version, change.subjects FROM auth.rights_clock AS clock \
    LEFT JOIN auth.right_changes AS change ON change.version > $1 AND change.version <= clock.version \
    ORDER BY change.version LIMIT $2";

const PRUNE_CHANGES: &str = "DELETE FROM auth.right_changes WHERE version IN (SELECT version FROM auth.right_changes \
    WHERE version <= (SELECT version - $1 FROM auth.rights_clock) AND created_at < now() - interval '1 hour' \
    ORDER BY version LIMIT 10000)";

const PRUNE_LEASES: &str = "DELETE FROM auth.leases WHERE expires_at < now() - interval '1 minute'";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    FACTS,
    BUMP,
    VERSION,
    EXTEND,
    FLOOR,
    CHANGES,
    PRUNE_CHANGES,
    PRUNE_LEASES,
];

type FactsRow = (
    i64,
    bool,
    bool,
    bool,
    Option<String>,
    Option<Vec<String>>,
    Option<String>,
    Option<String>,
    bool,
    Option<Vec<Uuid>>,
);

/// What is known about a query.
pub(crate) async fn read(conn: &mut PgConnection, query: &Query) -> Result<Facts, Error> {
    let row: FactsRow = sqlx::query_as(FACTS)
        .bind(query.user.uuid())
        .bind(query.session.map(|session| session.uuid()))
        .bind(query.tenant.map(|tenant| tenant.uuid()))
        .bind(query.platform)
        .bind(roles_that_reach_teams())
        .bind(query.key.as_ref().map(KeyId::as_str))
        .bind(query.by.map(|by| by.operator.uuid()))
        .bind(query.by.map(|by| by.session.uuid()))
        .fetch_one(conn)
        .await?;
    let (version, identity_active, session_live, second_factor_lacks, member, own, operator, access, key_good, team) =
        row;
    Ok(Facts {
        version: Version(version),
        identity_active,
        session_live,
        second_factor_lacks,
        key_good,
        member: member.map(|member| held(member, own)).transpose()?,
        operator: operator.map(|operator| held(operator, None)).transpose()?,
        access: access
            .map(|access| access.parse::<Access>())
            .transpose()
            .map_err(Error::fault)?,
        team: team.unwrap_or_default().into_iter().map(UserId::from_uuid).collect(),
    })
}

/// The built-in roles that give something with `@team`.
fn roles_that_reach_teams() -> Vec<&'static str> {
    let reaching = Role::ALL.into_iter().filter(|role| role.grants().reach_teams());
    reaching.map(Role::as_str).collect()
}

/// A role with what it gives. `own`: the permissions of a tenant's own role.
fn held(role: String, own: Option<Vec<String>>) -> Result<Held, Error> {
    match own {
        Some(permissions) => Ok(Held {
            role,
            grants: Grants::read(permissions),
        }),
        None => Ok(role.parse::<Role>().map_err(Error::fault)?.into()),
    }
}

/// Adds one to the clock and notes whose rights change. To be called last in a transaction: it holds the clock's row
/// until the commit, and whoever holds it takes no other lock.
pub(crate) async fn bump(conn: &mut PgConnection, subjects: &[Subject]) -> Result<Version, Error> {
    let subjects: Vec<String> = subjects.iter().map(ToString::to_string).collect();
    let version = sqlx::query_scalar(BUMP).bind(subjects).fetch_one(conn).await?;
    Ok(Version(version))
}

/// The clock's version.
pub(super) async fn version(conn: &mut PgConnection) -> Result<Version, Error> {
    Ok(Version(sqlx::query_scalar(VERSION).fetch_one(conn).await?))
}

/// Extends a lease and returns the clock's version.
pub(super) async fn extend(conn: &mut PgConnection, renewal: &Renewal) -> Result<Version, Error> {
    let version = sqlx::query_scalar(EXTEND)
        .bind(renewal.instance)
        .bind(renewal.service)
        .bind(renewal.confirmed.0)
        .bind(LEASE.as_secs_f64())
        .fetch_one(conn)
        .await?;
    Ok(Version(version))
}

/// The version that every live lease has confirmed.
pub(super) async fn floor(conn: &mut PgConnection) -> Result<Version, Error> {
    Ok(Version(sqlx::query_scalar(FLOOR).fetch_one(conn).await?))
}

/// What changed after `since`.
pub(super) async fn news(conn: &mut PgConnection, since: Version) -> Result<News, Error> {
    let rows: Vec<(i64, Option<Vec<String>>)> = sqlx::query_as(CHANGES)
        .bind(since.0)
        .bind(CHANGES_MAX.saturating_add(1))
        .fetch_all(conn)
        .await?;
    let version = rows.first().map(|(version, _)| *version);
    let version = version.ok_or_else(|| Error::fault("the clock of rights has no row"))?;
    let known: Vec<Vec<String>> = rows.into_iter().filter_map(|(_, subjects)| subjects).collect();
    // Every version between has a change of its own, unless it was pruned, or there are more than are told.
    let wanted = version.saturating_sub(since.0);
    let drop_all = wanted < 0 || i64::try_from(known.len()).is_ok_and(|known| known != wanted) || wanted > CHANGES_MAX;
    let mut subjects: Vec<String> = if drop_all {
        Vec::new()
    } else {
        known.into_iter().flatten().collect()
    };
    subjects.sort();
    subjects.dedup();
    Ok(News {
        version: Version(version),
        subjects,
        drop_all,
    })
}

/// Forgets old changes and leases. `keep`: how many versions stay whatever their age.
pub(crate) async fn prune(conn: &mut PgConnection, keep: i64) -> Result<(), Error> {
    sqlx::query(PRUNE_CHANGES).bind(keep).execute(&mut *conn).await?;
    sqlx::query(PRUNE_LEASES).execute(conn).await?;
    Ok(())
}
