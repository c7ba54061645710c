//! The registry of homes: `rowhouse.houses` and `rowhouse.homes`. SQL only.
//!
//! [`databases`]: which tenants have a registry in a database of their own.

pub(super) mod databases;

use rowhouse_context::ServiceName;
use rowhouse_types::{HomeState, OperationId, Placement, ServerName, TenantId};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::ProvisionError;
use crate::home::Home;

/// One line of the registry.
pub(super) struct Entry {
    pub(super) generation: i64,
    /// Which built it, or claimed it; none while it is a spare. Of a tenant's own database the main one says it first.
    pub(super) operation: Option<Uuid>,
    /// Which ordered its state last; none while it is as it was built.
    pub(super) state_operation: Option<Uuid>,
    /// None once the home was dropped.
    pub(super) place: Option<(House, HomeState)>,
}

/// A place for rows: a schema.
pub(super) struct House {
    pub(super) house_id: Uuid,
    pub(super) schema: String,
    pub(super) placement: Placement,
    pub(super) version: i32,
    /// Up to which version deferred steps are done.
    pub(super) deferred_version: i32,
}

/// Lets only one at a time build, migrate or drop the tenant's home; the readers and writers of the home go on.
pub(super) async fn lock_work(connection: &mut PgConnection, tenant: TenantId) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1::text, 4662))")
        .bind(tenant.uuid().to_string())
        .execute(connection)
        .await
        .map(drop)
}

/// [`lock_work`] where nobody has it; false where somebody has.
pub(super) async fn try_lock_work(connection: &mut PgConnection, tenant: TenantId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtextextended($1::text, 4662))")
        .bind(tenant.uuid().to_string())
        .fetch_one(connection)
        .await
}

/// Lets only one server of the cluster at a time make or drop the tenant's database and its login. Not [`lock_work`]'s number: the
/// database in which all of them meet may be a server's main one, and whoever comes here has that lock there.
pub(super) async fn lock_cluster(connection: &mut PgConnection, tenant: TenantId) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1::text, 4660))")
        .bind(tenant.uuid().to_string())
        .execute(connection)
        .await
        .map(drop)
}

/// Waits until no transaction that entered the tenant's home is left, and lets no other enter before the end of this one.
pub(super) async fn lock_tenant(connection: &mut PgConnection, tenant: TenantId) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(rowhouse.tenant_lock($1))")
        .bind(tenant.uuid())
        .execute(connection)
        .await
        .map(drop)
}

/// Keeps the home's state as it is until the end of the transaction, as whoever enters it does; false where somebody is about to
/// change it.
pub(super) async fn try_share_tenant(connection: &mut PgConnection, tenant: TenantId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_xact_lock_shared(rowhouse.tenant_lock($1))")
        .bind(tenant.uuid())
        .fetch_one(connection)
        .await
}

/// [`lock_tenant`] of everybody who has a home in the house, in the order of their numbers.
///
/// `lock_timeout` bounds the wait for all of them together: those locked first are shut out until the last one is. A bound for
/// each lock would let a house of 1,000 tenants be shut for 1,000 times as long.
///
/// Only one shared house of a database at a time, and the wait for that, when nobody is shut out yet, has the same bound: the
/// locks of several full houses would not leave the server's lock table places enough for its callers. A house that is being
/// built is not in the registry, has nobody, and waits for no other.
pub(super) async fn lock_tenants_in(connection: &mut PgConnection, schema: &str) -> Result<(), ProvisionError> {
    sqlx::query(
        "SELECT pg_advisory_xact_lock(hashtextextended('emptied', 4659)) FROM rowhouse.houses WHERE schema_name = $1",
    )
    .bind(schema)
    .execute(&mut *connection)
    .await?;
    let before: String = sqlx::query_scalar("SELECT current_setting('statement_timeout')")
        .fetch_one(&mut *connection)
        .await?;
    sqlx::query("SELECT set_config('statement_timeout', current_setting('lock_timeout'), true)")
        .execute(&mut *connection)
        .await?;
    let locked = sqlx::query(
        "SELECT pg_advisory_xact_lock(rowhouse.tenant_lock(tenant_id)) FROM (
             SELECT home.tenant_id FROM rowhouse.homes AS home
             JOIN rowhouse.houses AS house ON house.house_id = home.house_id
             WHERE house.schema_name = $1
             ORDER BY home.tenant_id
         ) AS living_there",
    )
    .bind(schema)
    .execute(&mut *connection)
    .await;
    // Where it failed the transaction is over, and the setting with it.
    locked.map_err(|error| {
        let code = error.as_database_error().and_then(|error| error.code());
        // query_canceled. Only here is it the bound that ended the wait; elsewhere it is an operator's hand.
        if code.as_deref() == Some("57014") {
            ProvisionError::Busy
        } else {
            error.into()
        }
    })?;
    sqlx::query("SELECT set_config('statement_timeout', $1, true)")
        .bind(before)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn find(
    connection: &mut PgConnection,
    tenant: TenantId,
    participant: ServiceName,
) -> Result<Option<Entry>, ProvisionError> {
    let row = sqlx::query(
        "SELECT home.generation, home.operation_id, home.state_operation_id, home.state, house.house_id, house.schema_name,
                house.placement, house.version, house.deferred_version
         FROM rowhouse.homes AS home
         LEFT JOIN rowhouse.houses AS house ON house.house_id = home.house_id
         WHERE home.tenant_id = $1 AND home.participant = $2",
    )
    .bind(tenant.uuid())
    .bind(participant.as_str())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let place = match row.try_get::<Option<Uuid>, _>("house_id")? {
        None => None,
        Some(_) => Some((House::read(&row)?, word(row.try_get("state")?)?)),
    };
    Ok(Some(Entry {
        generation: row.try_get("generation")?,
        operation: row.try_get("operation_id")?,
        state_operation: row.try_get("state_operation_id")?,
        place,
    }))
}

pub(super) fn word<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, ProvisionError> {
    text.parse()
        .map_err(|fault: T::Err| ProvisionError::Damaged(fault.to_string()))
}

/// Lets only one at a time choose or build a shared house in this database.
pub(super) async fn lock_shared(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('shared', 4663))")
        .execute(connection)
        .await
        .map(drop)
}

/// The newest shared house that has room for one more home.
pub(super) async fn shared_with_room(
    connection: &mut PgConnection,
    participant: ServiceName,
    homes_max: i64,
) -> Result<Option<House>, ProvisionError> {
    let row = sqlx::query(
        "SELECT house.house_id, house.schema_name, house.placement, house.version, house.deferred_version
         FROM rowhouse.houses AS house
         WHERE house.participant = $1 AND house.placement = 'shared'
             AND (SELECT count(*) FROM rowhouse.homes AS home WHERE home.house_id = house.house_id) < $2
         ORDER BY house.house_id DESC
         LIMIT 1",
    )
    .bind(participant.as_str())
    .bind(homes_max)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(House::read).transpose()
}

/// How many shared houses this database has had so far, of all participants: their names are numbered by it.
pub(super) async fn shared_newest(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT coalesce(max(substring(schema_name FROM '[0-9]+$')::bigint), 0)
         FROM rowhouse.houses WHERE placement = 'shared'",
    )
    .fetch_one(connection)
    .await
}

/// Keeps others from changing the house's tables, and answers it as it is now; `None` where it is gone.
pub(super) async fn lock_house(connection: &mut PgConnection, house_id: Uuid) -> Result<Option<House>, ProvisionError> {
    let row = sqlx::query(
        "SELECT house_id, schema_name, placement, version, deferred_version FROM rowhouse.houses
         WHERE house_id = $1 FOR NO KEY UPDATE",
    )
    .bind(house_id)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(House::read).transpose()
}

/// The tenant of a house that has only one; `None` where it has none.
pub(super) async fn tenant_of(connection: &mut PgConnection, house_id: Uuid) -> Result<Option<TenantId>, sqlx::Error> {
    let tenant: Option<Uuid> = sqlx::query_scalar(
        "SELECT tenant_id FROM rowhouse.homes WHERE house_id = $1
         UNION ALL SELECT tenant_id FROM rowhouse.databases WHERE house_id = $1
         LIMIT 1",
    )
    .bind(house_id)
    .fetch_optional(connection)
    .await?;
    Ok(tenant.map(TenantId::from_uuid))
}

/// Tenants with a home in use after `after`, at most `limit`, and whether it is in a database of its own: then that one knows
/// the home's state. A spare's database is nobody's: no operation has claimed it.
pub(super) async fn in_use(
    connection: &mut PgConnection,
    participant: ServiceName,
    after: Uuid,
    limit: i64,
) -> Result<Vec<(TenantId, bool)>, sqlx::Error> {
    let homes: Vec<(Uuid, bool)> = sqlx::query_as(
        "SELECT tenant_id, false FROM rowhouse.homes WHERE participant = $1 AND state = 'active' AND tenant_id > $2
         UNION ALL
         SELECT own.tenant_id, true FROM rowhouse.databases AS own
         JOIN rowhouse.homes AS home ON home.tenant_id = own.tenant_id AND home.participant = own.participant
         WHERE own.participant = $1 AND own.state = 'ready' AND home.operation_id IS NOT NULL AND own.tenant_id > $2
         ORDER BY tenant_id
         LIMIT $3",
    )
    .bind(participant.as_str())
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    let homes = homes.into_iter();
    Ok(homes
        .map(|(tenant, has_database)| (TenantId::from_uuid(tenant), has_database))
        .collect())
}

/// Enters a newly built house.
pub(super) async fn insert_house(
    connection: &mut PgConnection,
    participant: ServiceName,
    house: &House,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO rowhouse.houses (house_id, participant, schema_name, placement, version, deferred_version)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(house.house_id)
    .bind(participant.as_str())
    .bind(&house.schema)
    .bind(house.placement.as_str())
    .bind(house.version)
    .bind(house.deferred_version)
    .execute(connection)
    .await
    .map(drop)
}

/// Enters a home: in use, or a spare where no operation builds it. A line of a dropped one is taken over with the next
/// generation, which is returned.
pub(super) async fn insert_home(
    connection: &mut PgConnection,
    tenant: TenantId,
    participant: ServiceName,
    house: &House,
    operation: Option<OperationId>,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO rowhouse.homes (tenant_id, participant, house_id, generation, state, operation_id)
         VALUES ($1, $2, $3, 1, CASE WHEN $4::uuid IS NULL THEN 'spare' ELSE 'active' END, $4)
         ON CONFLICT (tenant_id, participant) DO UPDATE SET
             house_id = excluded.house_id, generation = homes.generation + 1, state = excluded.state,
             operation_id = excluded.operation_id, state_operation_id = NULL, updated_at = excluded.updated_at
         RETURNING generation",
    )
    .bind(tenant.uuid())
    .bind(participant.as_str())
    .bind(house.house_id)
    .bind(operation.map(|operation| operation.uuid()))
    .fetch_one(connection)
    .await
}

/// `rowhouse.home_of` reads `statement_timeout_ms`; `order_id` tells which order is the later one.
pub(super) async fn set_limits(
    connection: &mut PgConnection,
    tenant: TenantId,
    participant: ServiceName,
    order: OperationId,
    statement_timeout_ms: Option<i32>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE rowhouse.homes
         SET limits = jsonb_build_object('statement_timeout_ms', $4::integer, 'order_id', $3::uuid), updated_at = now()
         WHERE tenant_id = $1 AND participant = $2
             AND coalesce((limits ->> 'order_id')::uuid <= $3, true)",
    )
    .bind(tenant.uuid())
    .bind(participant.as_str())
    .bind(order.uuid())
    .bind(statement_timeout_ms)
    .execute(connection)
    .await
    .map(drop)
}

/// Puts a spare into use.
pub(super) async fn claim_home(
    connection: &mut PgConnection,
    tenant: TenantId,
    participant: ServiceName,
    operation: OperationId,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE rowhouse.homes SET state = 'active', operation_id = $3, updated_at = now()
         WHERE tenant_id = $1 AND participant = $2 AND state = 'spare'",
    )
    .bind(tenant.uuid())
    .bind(participant.as_str())
    .bind(operation.uuid())
    .execute(connection)
    .await
    .map(drop)
}

/// Enters a home in the tenant's own database, with the generation that the main database has given: in use, or a spare where no
/// operation builds it.
pub(super) async fn insert_home_as(
    connection: &mut PgConnection,
    tenant: TenantId,
    participant: ServiceName,
    house: &House,
    operation: Option<OperationId>,
    generation: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO rowhouse.homes (tenant_id, participant, house_id, generation, state, operation_id)
         VALUES ($1, $2, $3, $4, CASE WHEN $5::uuid IS NULL THEN 'spare' ELSE 'active' END, $5)",
    )
    .bind(tenant.uuid())
    .bind(participant.as_str())
    .bind(house.house_id)
    .bind(generation)
    .bind(operation.map(|operation| operation.uuid()))
    .execute(connection)
    .await
    .map(drop)
}

pub(super) async fn set_state(
    connection: &mut PgConnection,
    tenant: TenantId,
    participant: ServiceName,
    state: HomeState,
    operation: OperationId,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE rowhouse.homes SET state = $3, state_operation_id = $4, updated_at = now()
         WHERE tenant_id = $1 AND participant = $2 AND house_id IS NOT NULL",
    )
    .bind(tenant.uuid())
    .bind(participant.as_str())
    .bind(state.as_str())
    .bind(operation.uuid())
    .execute(connection)
    .await
    .map(drop)
}

/// Keeps the home's line, so that its generation is never given again, without a house; what waited to be sealed in it is
/// forgotten.
pub(super) async fn forget_home(
    connection: &mut PgConnection,
    tenant: TenantId,
    participant: ServiceName,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM rowhouse.unsealed WHERE tenant_id = $1")
        .bind(tenant.uuid())
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "UPDATE rowhouse.homes SET state = 'dropped', house_id = NULL, updated_at = now()
         WHERE tenant_id = $1 AND participant = $2",
    )
    .bind(tenant.uuid())
    .bind(participant.as_str())
    .execute(connection)
    .await
    .map(drop)
}

/// Forgets a house that was dropped.
pub(super) async fn forget_house(connection: &mut PgConnection, house_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM rowhouse.houses WHERE house_id = $1")
        .bind(house_id)
        .execute(connection)
        .await
        .map(drop)
}

// === impl House ===

impl House {
    pub(super) fn read(row: &PgRow) -> Result<Self, ProvisionError> {
        Ok(Self {
            house_id: row.try_get("house_id")?,
            schema: row.try_get("schema_name")?,
            placement: word(row.try_get("placement")?)?,
            version: row.try_get("version")?,
            deferred_version: row.try_get("deferred_version")?,
        })
    }
}

// === impl Entry ===

impl Entry {
    /// Whether a newer operation than `operation` has ordered the home's state.
    pub(super) fn has_overtaken(&self, operation: OperationId) -> bool {
        self.state_operation.is_some_and(|last| last > operation.uuid())
    }

    /// The home, where it was not dropped.
    pub(super) fn home(&self, tenant: TenantId, server: &ServerName) -> Option<Home> {
        self.place.as_ref().map(|(house, state)| Home {
            tenant,
            server: server.clone(),
            placement: house.placement,
            generation: self.generation,
            version: house.version,
            state: *state,
            transactions_max: None,
        })
    }
}
