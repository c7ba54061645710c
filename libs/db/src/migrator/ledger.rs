//! The ledger of the fleet: which houses are behind, who works on which, and what could not be done. SQL only.
//!
//! Whoever migrates a house holds its line in `rowhouse.houses` until the transaction ends; all others pass it over. So the
//! work is shared without a coordinator, and a process that dies lets go of its house.

use rowhouse_context::ServiceName;
use rowhouse_types::TenantId;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::fleet::{BatchOrder, Census, Cohort, Fault, FleetVersion, HouseEntry, HouseQuery};
use super::registry::House;
use super::{ProvisionError, fleet, registry};

/// Lines of a description at most: a fleet has a handful of versions.
const VERSIONS_MAX: i64 = 1_000;

/// What is behind, and of it what is asked for. `$1` the participant, `$2` the version, `$3` the version of deferred
/// steps, `$4` tenants or NULL, `$5` per cent, `$6` the round.
macro_rules! behind {
    () => {
        "FROM rowhouse.houses AS house
         LEFT JOIN rowhouse.house_faults AS fault ON fault.house_id = house.house_id AND fault.round_id = $6
         WHERE house.participant = $1 AND (house.version < $2 OR house.deferred_version < $3)"
    };
}

/// Whether a house is asked for.
macro_rules! wanted {
    () => {
        "(($5 = 100 OR rowhouse.house_bucket(house.house_id) < $5) AND ($4::uuid[] IS NULL OR house.house_id IN (
             SELECT home.house_id FROM rowhouse.homes AS home
             WHERE home.participant = $1 AND home.tenant_id = ANY ($4)
             UNION ALL
             SELECT own.house_id FROM rowhouse.databases AS own
             WHERE own.participant = $1 AND own.tenant_id = ANY ($4))))"
    };
}

/// An order as binds.
pub(super) struct Binds<'a> {
    pub(super) participant: ServiceName,
    pub(super) order: &'a BatchOrder,
    /// The version up to which deferred steps must be done.
    pub(super) deferred: i32,
}

/// Takes the first house after `after` that is behind, asked for, due, and that nobody works on: its line is locked until
/// the transaction ends.
pub(super) async fn claim(
    connection: &mut PgConnection,
    binds: &Binds<'_>,
    after: Uuid,
) -> Result<Option<House>, ProvisionError> {
    let row = sqlx::query(concat!(
        "SELECT house.house_id, house.schema_name, house.placement, house.version, house.deferred_version ",
        behind!(),
        " AND house.house_id > $7 AND (fault.next_at IS NULL OR fault.next_at <= now()) AND ",
        wanted!(),
        " ORDER BY house.house_id LIMIT 1 FOR NO KEY UPDATE OF house SKIP LOCKED"
    ))
    .bind(binds.participant.as_str())
    .bind(binds.order.target)
    .bind(binds.deferred)
    .bind(binds.tenants())
    .bind(binds.percent())
    .bind(binds.order.round)
    .bind(after)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(House::read).transpose()
}

/// Counts what is behind, in one query for the whole server.
pub(super) async fn census(connection: &mut PgConnection, binds: &Binds<'_>) -> Result<Census, ProvisionError> {
    let row = sqlx::query(concat!(
        "SELECT count(*) FILTER (WHERE wanted) AS behind, count(*) FILTER (WHERE wanted AND given_up) AS given_up,
             count(*) AS behind_in_all, count(*) FILTER (WHERE given_up) AS given_up_in_all
         FROM (SELECT coalesce(fault.next_at = 'infinity', false) AS given_up, ",
        wanted!(),
        " AS wanted ",
        behind!(),
        ") AS counted"
    ))
    .bind(binds.participant.as_str())
    .bind(binds.order.target)
    .bind(binds.deferred)
    .bind(binds.tenants())
    .bind(binds.percent())
    .bind(binds.order.round)
    .fetch_one(connection)
    .await?;
    Ok(Census {
        behind: row.try_get("behind")?,
        given_up: row.try_get("given_up")?,
        behind_in_all: row.try_get("behind_in_all")?,
        given_up_in_all: row.try_get("given_up_in_all")?,
    })
}

/// Houses and homes by version.
pub(super) async fn versions(
    connection: &mut PgConnection,
    participant: ServiceName,
) -> Result<Vec<FleetVersion>, ProvisionError> {
    let rows = sqlx::query(
        "SELECT house.version, house.deferred_version, count(DISTINCT house.house_id) AS houses,
             count(coalesce(home.tenant_id, own.tenant_id)) AS homes
         FROM rowhouse.houses AS house
         LEFT JOIN rowhouse.homes AS home ON home.house_id = house.house_id
         LEFT JOIN rowhouse.databases AS own ON own.house_id = house.house_id
         WHERE house.participant = $1
         GROUP BY house.version, house.deferred_version
         ORDER BY house.version, house.deferred_version
         LIMIT $2",
    )
    .bind(participant.as_str())
    .bind(VERSIONS_MAX)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(FleetVersion {
                version: row.try_get("version")?,
                deferred_version: row.try_get("deferred_version")?,
                houses: row.try_get("houses")?,
                homes: row.try_get("homes")?,
            })
        })
        .collect()
}

/// Tenants whose homes are in houses older than a version, at most `limit`.
pub(super) async fn older(
    connection: &mut PgConnection,
    participant: ServiceName,
    version: i32,
    limit: i64,
) -> Result<Vec<TenantId>, ProvisionError> {
    let tenants: Vec<Uuid> = sqlx::query_scalar(
        "SELECT home.tenant_id FROM rowhouse.houses AS house
         JOIN rowhouse.homes AS home ON home.house_id = house.house_id
         WHERE house.participant = $1 AND house.version < $2
         UNION ALL
         SELECT own.tenant_id FROM rowhouse.houses AS house
         JOIN rowhouse.databases AS own ON own.house_id = house.house_id
         WHERE house.participant = $1 AND house.version < $2
         LIMIT $3",
    )
    .bind(participant.as_str())
    .bind(version)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(tenants.into_iter().map(TenantId::from_uuid).collect())
}

/// What could not be done, at most `limit` lines.
///
/// `round`: in this round only.
pub(super) async fn faults(
    connection: &mut PgConnection,
    participant: ServiceName,
    round: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Fault>, ProvisionError> {
    let rows = sqlx::query(
        "SELECT house.schema_name, fault.version, fault.sqlstate, fault.message, fault.attempts,
             fault.next_at = 'infinity' AS given_up,
             (SELECT home.tenant_id FROM rowhouse.homes AS home
              WHERE home.house_id = house.house_id AND house.placement <> 'shared'
              UNION ALL
              SELECT own.tenant_id FROM rowhouse.databases AS own WHERE own.house_id = house.house_id
              LIMIT 1) AS tenant_id
         FROM rowhouse.house_faults AS fault JOIN rowhouse.houses AS house ON house.house_id = fault.house_id
         WHERE house.participant = $1 AND ($2::uuid IS NULL OR fault.round_id = $2)
         ORDER BY fault.house_id
         LIMIT $3",
    )
    .bind(participant.as_str())
    .bind(round)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read_fault).collect()
}

/// Records that a house could not be brought on. Where another has done it meanwhile, nothing is recorded.
pub(super) async fn record(
    connection: &mut PgConnection,
    binds: &Binds<'_>,
    house_id: Uuid,
    fault: &fleet::Cause,
) -> Result<(), sqlx::Error> {
    // The pause doubles from 0.2 s to 30 s; half of it is left to chance, so that migrators do not come back together.
    sqlx::query(
        "INSERT INTO rowhouse.house_faults AS fault (house_id, round_id, version, sqlstate, message, attempts, next_at)
         SELECT house_id, $4, $2, $5, $6, 1,
             CASE WHEN $7 THEN now() + make_interval(secs => 0.1 + 0.1 * random()) ELSE 'infinity' END
         FROM rowhouse.houses WHERE house_id = $1 AND (version < $2 OR deferred_version < $3)
         ON CONFLICT (house_id) DO UPDATE SET
             round_id = excluded.round_id, version = excluded.version, sqlstate = excluded.sqlstate,
             message = excluded.message, failed_at = now(),
             attempts = CASE WHEN fault.round_id = excluded.round_id THEN fault.attempts + 1 ELSE 1 END,
             next_at = CASE
                 WHEN fault.round_id <> excluded.round_id THEN excluded.next_at
                 WHEN $7 AND fault.attempts + 1 < $8 THEN
                     now() + make_interval(secs => least(30, 0.2 * 2 ^ fault.attempts) * (0.5 + random() / 2))
                 ELSE 'infinity' END",
    )
    .bind(house_id)
    .bind(binds.order.target)
    .bind(binds.deferred)
    .bind(binds.order.round)
    .bind(&fault.sqlstate)
    .bind(&fault.message)
    .bind(fault.may_pass)
    .bind(fleet::ATTEMPTS_MAX)
    .execute(connection)
    .await
    .map(drop)
}

/// Records a house's new version.
pub(super) async fn set_version(
    connection: &mut PgConnection,
    house_id: Uuid,
    version: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE rowhouse.houses SET version = $2 WHERE house_id = $1")
        .bind(house_id)
        .bind(version)
        .execute(connection)
        .await
        .map(drop)
}

/// Up to which version a house's deferred steps are done; `None` where the house is gone.
pub(super) async fn deferred_version(
    connection: &mut PgConnection,
    house_id: Uuid,
) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar("SELECT deferred_version FROM rowhouse.houses WHERE house_id = $1")
        .bind(house_id)
        .fetch_optional(connection)
        .await
}

/// Records up to which version a house's deferred steps are done.
pub(super) async fn set_deferred_version(
    connection: &mut PgConnection,
    house_id: Uuid,
    version: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE rowhouse.houses SET deferred_version = $2
         WHERE house_id = $1 AND deferred_version < $2 AND version >= $2",
    )
    .bind(house_id)
    .bind(version)
    .execute(connection)
    .await
    .map(drop)
}

/// Forgets what could not be done for a house: now it is.
pub(super) async fn forget_fault(connection: &mut PgConnection, house_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM rowhouse.house_faults WHERE house_id = $1")
        .bind(house_id)
        .execute(connection)
        .await
        .map(drop)
}

/// Houses after the one called `after`, by id, at most `limit`.
pub(super) async fn page(
    connection: &mut PgConnection,
    participant: ServiceName,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<House>, ProvisionError> {
    let rows = sqlx::query(
        "SELECT house_id, schema_name, placement, version, deferred_version FROM rowhouse.houses
         WHERE participant = $1 AND schema_name > coalesce($2, '')
         ORDER BY schema_name
         LIMIT $3",
    )
    .bind(participant.as_str())
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(House::read).collect()
}

/// Houses after one by name, with who lives there: one more than are asked for, which tells whether there are more.
///
/// `newest` and `deferred`: what is older is behind, as for [`claim`].
pub(super) async fn list(
    connection: &mut PgConnection,
    participant: ServiceName,
    (newest, deferred): (i32, i32),
    query: &HouseQuery,
) -> Result<Vec<HouseEntry>, ProvisionError> {
    let rows = sqlx::query(
        "SELECT house.schema_name, house.placement, house.version, house.deferred_version, house.is_behind,
             resident.tenant_id, coalesce(resident.is_spare, false) AS is_spare,
             (SELECT count(*) FROM rowhouse.homes AS home WHERE home.house_id = house.house_id)
                 + (SELECT count(*) FROM rowhouse.databases AS own WHERE own.house_id = house.house_id) AS homes
         FROM (
             SELECT house_id, schema_name, placement, version, deferred_version,
                 (version < $2 OR deferred_version < $3) AS is_behind
             FROM rowhouse.houses
             WHERE participant = $1 AND schema_name > coalesce($4, '')
                 AND (NOT $5 OR version < $2 OR deferred_version < $3)
                 AND ($6::uuid IS NULL OR house_id IN (
                     SELECT home.house_id FROM rowhouse.homes AS home
                     WHERE home.participant = $1 AND home.tenant_id = $6
                     UNION ALL
                     SELECT own.house_id FROM rowhouse.databases AS own
                     WHERE own.participant = $1 AND own.tenant_id = $6))
             ORDER BY schema_name
             LIMIT $7
         ) AS house
         LEFT JOIN LATERAL (
             SELECT home.tenant_id, home.operation_id IS NULL AS is_spare FROM rowhouse.homes AS home
             WHERE home.house_id = house.house_id
             UNION ALL
             SELECT own.tenant_id, home.operation_id IS NULL FROM rowhouse.databases AS own
             JOIN rowhouse.homes AS home ON home.tenant_id = own.tenant_id AND home.participant = own.participant
             WHERE own.house_id = house.house_id
             LIMIT 1
         ) AS resident ON house.placement <> 'shared'
         ORDER BY house.schema_name",
    )
    .bind(participant.as_str())
    .bind(newest)
    .bind(deferred)
    .bind(query.after.as_deref())
    .bind(query.behind_only)
    .bind(query.tenant.map(|tenant| tenant.uuid()))
    .bind(i64::from(query.houses_max).saturating_add(1))
    .fetch_all(connection)
    .await?;
    rows.iter().map(read_entry).collect()
}

fn read_entry(row: &PgRow) -> Result<HouseEntry, ProvisionError> {
    Ok(HouseEntry {
        house: row.try_get("schema_name")?,
        placement: registry::word(row.try_get("placement")?)?,
        tenant: row.try_get::<Option<Uuid>, _>("tenant_id")?.map(TenantId::from_uuid),
        is_spare: row.try_get("is_spare")?,
        homes: row.try_get("homes")?,
        version: row.try_get("version")?,
        deferred_version: row.try_get("deferred_version")?,
        is_behind: row.try_get("is_behind")?,
    })
}

fn read_fault(row: &PgRow) -> Result<Fault, ProvisionError> {
    Ok(Fault {
        house: row.try_get("schema_name")?,
        tenant: row.try_get::<Option<Uuid>, _>("tenant_id")?.map(TenantId::from_uuid),
        version: row.try_get("version")?,
        sqlstate: row.try_get("sqlstate")?,
        message: row.try_get("message")?,
        attempts: row.try_get("attempts")?,
        given_up: row.try_get("given_up")?,
    })
}

// === impl Binds ===

impl Binds<'_> {
    fn tenants(&self) -> Option<Vec<Uuid>> {
        match &self.order.cohort {
            Cohort::Tenants(tenants) => Some(tenants.iter().map(TenantId::uuid).collect()),
            Cohort::Percent(_) => None,
        }
    }

    fn percent(&self) -> i32 {
        match self.order.cohort {
            Cohort::Tenants(_) => 100,
            Cohort::Percent(percent) => i32::from(percent),
        }
    }
}
