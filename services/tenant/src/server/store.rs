//! SQL of data servers.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rowhouse_types::{Etag, Placement, ServerName};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};

use super::{Capacity, Change, Labels, Server, State, Traits, Wish};
use crate::error::{Error, Result};

/// A row of `tenant.servers`.
#[derive(sqlx::FromRow)]
struct ServerRow {
    name: String,
    address: String,
    state: String,
    labels: Json<BTreeMap<String, String>>,
    placements: Vec<String>,
    tenants_max: i32,
    tenants: i32,
    revision: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// What came of choosing a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The one with the largest share of its capacity free.
    Server(ServerName),
    /// Those that fit are full.
    Full,
    /// None fits.
    None,
}

/// Registers a server; `None` where one of this name is there.
pub(crate) async fn insert(connection: &mut PgConnection, traits: &Traits) -> Result<Option<Server>> {
    let row: Option<ServerRow> = sqlx::query_as(
        "INSERT INTO tenant.servers (name, address, state, labels, placements, tenants_max)
         VALUES ($1, $2, 'active', $3, $4, $5)
         ON CONFLICT (name) DO NOTHING
         RETURNING name, address, state, labels, placements, tenants_max, tenants, revision, created_at, updated_at",
    )
    .bind(traits.name.as_str())
    .bind(traits.address.as_str())
    .bind(Json(&traits.labels))
    .bind(words(&traits.placements))
    .bind(traits.tenants_max.tenants())
    .fetch_optional(connection)
    .await?;
    row.map(Server::try_from).transpose()
}

/// One server.
pub(crate) async fn get(connection: &mut PgConnection, name: &ServerName) -> Result<Option<Server>> {
    let row: Option<ServerRow> = sqlx::query_as(
        "SELECT name, address, state, labels, placements, tenants_max, tenants, revision, created_at, updated_at
         FROM tenant.servers WHERE name = $1",
    )
    .bind(name.as_str())
    .fetch_optional(connection)
    .await?;
    row.map(Server::try_from).transpose()
}

/// One server, locked until the transaction ends.
pub(crate) async fn lock(connection: &mut PgConnection, name: &ServerName) -> Result<Option<Server>> {
    let row: Option<ServerRow> = sqlx::query_as(
        "SELECT name, address, state, labels, placements, tenants_max, tenants, revision, created_at, updated_at
         FROM tenant.servers WHERE name = $1 FOR NO KEY UPDATE",
    )
    .bind(name.as_str())
    .fetch_optional(connection)
    .await?;
    row.map(Server::try_from).transpose()
}

/// At most `limit` servers by name, those after `after`.
pub(crate) async fn list(pool: &PgPool, after: Option<&ServerName>, limit: i64) -> Result<Vec<Server>> {
    let rows: Vec<ServerRow> = sqlx::query_as(
        "SELECT name, address, state, labels, placements, tenants_max, tenants, revision, created_at, updated_at
         FROM tenant.servers WHERE name > coalesce($1, '') ORDER BY name LIMIT $2",
    )
    .bind(after.map(ServerName::as_str))
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Server::try_from).collect()
}

/// The names of all servers.
pub(crate) async fn names(pool: &PgPool) -> Result<Vec<ServerName>> {
    // Far more than there are: a run asks each of them.
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM tenant.servers ORDER BY name LIMIT 1000")
        .fetch_all(pool)
        .await?;
    names
        .iter()
        .map(|name| name.parse().map_err(Error::unreadable))
        .collect()
}

/// Changes what a change names.
pub(crate) async fn update(connection: &mut PgConnection, change: &Change) -> Result<Server> {
    let row: ServerRow = sqlx::query_as(
        "UPDATE tenant.servers SET
             address = coalesce($2, address), labels = coalesce($3, labels), placements = coalesce($4, placements),
             tenants_max = coalesce($5, tenants_max), revision = revision + 1, updated_at = now()
         WHERE name = $1
         RETURNING name, address, state, labels, placements, tenants_max, tenants, revision, created_at, updated_at",
    )
    .bind(change.name.as_str())
    .bind(change.address.as_ref().map(|address| address.as_str()))
    .bind(change.labels.as_ref().map(Json))
    .bind(change.placements.as_deref().map(words))
    .bind(change.tenants_max.map(Capacity::tenants))
    .fetch_one(connection)
    .await?;
    row.try_into()
}

/// Opens a server for new tenants, or closes it.
pub(crate) async fn set_state(connection: &mut PgConnection, name: &ServerName, state: State) -> Result<Server> {
    let row: ServerRow = sqlx::query_as(
        "UPDATE tenant.servers SET state = $2, revision = revision + 1, updated_at = now()
         WHERE name = $1
         RETURNING name, address, state, labels, placements, tenants_max, tenants, revision, created_at, updated_at",
    )
    .bind(name.as_str())
    .bind(state.as_str())
    .fetch_one(connection)
    .await?;
    row.try_into()
}

/// Chooses a server for a tenant: of those that fit, the one with the largest share of its capacity free. Nothing is
/// reserved: the trigger of `tenant.tenants` admits the tenant, or not.
pub(crate) async fn choose(pool: &PgPool, wish: &Wish) -> Result<Choice> {
    let row: Option<(String, bool)> = sqlx::query_as(
        "SELECT name, tenants < tenants_max FROM tenant.servers
         WHERE state = 'active' AND $1 = ANY (placements) AND labels @> $2
         ORDER BY tenants::float8 / tenants_max, name LIMIT 1",
    )
    .bind(wish.placement.as_str())
    .bind(Json(&wish.labels))
    .fetch_optional(pool)
    .await?;
    Ok(match row {
        Some((name, true)) => Choice::Server(name.parse().map_err(Error::unreadable)?),
        Some((_, false)) => Choice::Full,
        None => Choice::None,
    })
}

/// The servers that take new tenants of a placement now, by name.
pub(crate) async fn taking(pool: &PgPool, placement: Placement) -> Result<Vec<ServerName>> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM tenant.servers
         WHERE state = 'active' AND $1 = ANY (placements) AND tenants < tenants_max
         ORDER BY name LIMIT 1000",
    )
    .bind(placement.as_str())
    .fetch_all(pool)
    .await?;
    let names = names.iter().map(|name| name.parse().map_err(Error::unreadable));
    names.collect()
}

/// The words for placements in the database.
fn words(placements: &[Placement]) -> Vec<&'static str> {
    placements.iter().map(|placement| placement.as_str()).collect()
}

// === impl ServerRow ===

impl TryFrom<ServerRow> for Server {
    type Error = Error;

    fn try_from(row: ServerRow) -> Result<Self> {
        let placements = row.placements.iter().map(|word| word.parse());
        Ok(Self {
            traits: Traits {
                name: row.name.parse().map_err(Error::unreadable)?,
                address: row.address.parse().map_err(Error::unreadable)?,
                labels: Labels::parse(row.labels.0).map_err(Error::unreadable)?,
                placements: placements.collect::<Result<_, _>>().map_err(Error::unreadable)?,
                tenants_max: Capacity::parse(row.tenants_max).map_err(Error::unreadable)?,
            },
            state: row.state.parse().map_err(Error::unreadable)?,
            tenants: row.tenants,
            etag: Etag::from_revision(row.revision),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}
