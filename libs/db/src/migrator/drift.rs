//! Whether houses still look as their migrations made them.
//!
//! The template is built from the migrations in a transaction that is rolled back: nothing of it stays, and nobody can have
//! changed it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rowhouse_types::{Placement, ServerName, TenantId};
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::time::Instant;
use uuid::Uuid;

use super::house::{self, Wall};
use super::provisioner::own::bounded;
use super::registry::{self, House};
use super::{ProvisionError, Provisioner, ledger};

/// Lines that are told of a house, in each direction.
const LINES_MAX: usize = 50;

/// Houses as lines, so that two can be compared. `$1`: their schemas.
const PICTURES: &str = include_str!("sql/pictures.sql");

/// How all of them are read.
const SEARCH_PATH: &str = "SET LOCAL search_path = pg_catalog";

/// What each house is called in its lines, whatever its name is.
const HOUSE: &str = "HOUSE";

/// What each house's tenant is called in its lines.
const TENANT: &str = "TENANT";

/// How a house differs from what its migrations make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Its schema.
    pub house: String,
    /// The tenant whose own it is.
    pub tenant: Option<TenantId>,
    /// Version of its tables.
    pub version: i32,
    /// What the template has and the house has not: 50 lines at most. Where the house cannot be read, one line that says why.
    pub missing: Vec<String>,
    /// What the house has and the template has not: 50 lines at most.
    pub surplus: Vec<String>,
}

/// Some houses, compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriftPage {
    /// How many.
    pub checked: usize,
    /// Those that differ.
    pub drifts: Vec<Drift>,
    /// The last of them, to go on after; `None` when there are no more.
    pub next: Option<String>,
}

/// What two houses must have in common to look alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    shared: bool,
    version: i32,
    deferred_version: i32,
}

// === impl Provisioner ===

impl Provisioner {
    /// Compares houses of a server with what the migrations of their version make. One in a database of its own that cannot be
    /// read differs, and says so; it keeps no other from being compared.
    ///
    /// `after`: the last house of the page before. `houses_max`: houses to compare. `until`: no house but the first is begun later,
    /// since each that cannot be read may take ten seconds; the page ends there.
    ///
    /// # Errors
    /// When the server is not known or does not answer.
    pub async fn check_drift(
        &self,
        server: &ServerName,
        after: Option<&str>,
        houses_max: u32,
        until: Instant,
    ) -> Result<DriftPage, ProvisionError> {
        let mut tx = self.begin(server).await?;
        let houses = ledger::page(&mut tx, self.participant, after, i64::from(houses_max)).await?;
        let mut page = DriftPage::default();
        let is_full = u32::try_from(houses.len()) == Ok(houses_max);
        page.next = houses.last().filter(|_| is_full).map(|last| last.schema.clone());
        let mut templates: HashMap<Kind, Vec<String>> = HashMap::new();
        for house in &houses {
            let kind = Kind::of(house);
            if let Entry::Vacant(place) = templates.entry(kind) {
                place.insert(self.template(&mut tx, kind).await?);
            }
        }
        // Names are written in full where the search path does not hold them, so all are read under the same one.
        house::run(&mut tx, SEARCH_PATH.to_owned()).await?;
        let here = houses.iter().filter(|house| house.placement != Placement::Database);
        let schemas: Vec<&str> = here.map(|house| house.schema.as_str()).collect();
        let mut pictures = pictures(&mut tx, &schemas).await?;
        let mut last = None;
        for house in &houses {
            if last.is_some() && Instant::now() >= until {
                page.next = last;
                break;
            }
            page.checked += 1;
            last = Some(house.schema.clone());
            let tenant = match house.placement {
                Placement::Shared => None,
                Placement::Schema | Placement::Database => registry::tenant_of(&mut tx, house.house_id).await?,
            };
            if house.placement == Placement::Database {
                match self.pictures_of_own(server, &house.schema).await {
                    Ok(own) => pictures.extend(own),
                    Err(error) => {
                        tracing::warn!(house = house.schema, %server, %error, "a house cannot be compared");
                        page.drifts.push(Drift::unreadable(house, tenant, &error));
                        continue;
                    }
                }
            }
            let seen = picture(&mut pictures, &house.schema, tenant);
            let template = templates.get(&Kind::of(house)).map(Vec::as_slice).unwrap_or_default();
            if seen != template {
                page.drifts.push(Drift::new(house, tenant, template, &seen));
            }
        }
        tx.rollback().await?;
        Ok(page)
    }

    /// What the migrations make, as lines; nothing of it is left.
    async fn template(&self, connection: &mut PgConnection, kind: Kind) -> Result<Vec<String>, ProvisionError> {
        let tenant = TenantId::generate();
        let schema = format!("template_{}", Uuid::new_v4().simple());
        let wall = if kind.shared {
            Wall::Policy
        } else {
            Wall::Number(tenant)
        };
        let migrations = |until| self.migrations.between(0, until);
        let (all, finished) = (migrations(kind.version), migrations(kind.deferred_version));
        house::build(connection, &schema, wall, all, finished).await?;
        house::run(connection, SEARCH_PATH.to_owned()).await?;
        let mut pictures = pictures(connection, &[&schema]).await?;
        Ok(picture(&mut pictures, &schema, Some(tenant)))
    }

    /// The lines of a house in a database of its schema's name.
    async fn pictures_of_own(
        &self,
        server: &ServerName,
        name: &str,
    ) -> Result<HashMap<String, Vec<String>>, ProvisionError> {
        let mut own = self.open(server, Some(name)).await?;
        let mut tx = bounded(&mut own).await?;
        house::run(&mut tx, SEARCH_PATH.to_owned()).await?;
        let pictures = pictures(&mut tx, &[name]).await?;
        tx.rollback().await?;
        own.close().await?;
        Ok(pictures)
    }
}

async fn pictures(
    connection: &mut PgConnection,
    schemas: &[&str],
) -> Result<HashMap<String, Vec<String>>, ProvisionError> {
    let rows = sqlx::query(PICTURES).bind(schemas).fetch_all(connection).await?;
    let mut pictures: HashMap<String, Vec<String>> = HashMap::new();
    for row in rows {
        pictures
            .entry(row.try_get("schema")?)
            .or_default()
            .push(row.try_get("line")?);
    }
    Ok(pictures)
}

/// A house's lines without its names, in order.
fn picture(pictures: &mut HashMap<String, Vec<String>>, schema: &str, tenant: Option<TenantId>) -> Vec<String> {
    let mut lines = pictures.remove(schema).unwrap_or_default();
    let number = tenant.map(|tenant| tenant.uuid().to_string());
    for line in &mut lines {
        *line = line.replace(schema, HOUSE);
        if let Some(number) = &number {
            *line = line.replace(number, TENANT);
        }
    }
    lines.sort_unstable();
    lines
}

// === impl Kind ===

impl Kind {
    fn of(house: &House) -> Self {
        Self {
            shared: house.placement == Placement::Shared,
            version: house.version,
            deferred_version: house.deferred_version,
        }
    }
}

// === impl Drift ===

impl Drift {
    /// A house of which nothing was to be seen: what is missing says why, without the text of PostgreSQL.
    fn unreadable(house: &House, tenant: Option<TenantId>, error: &ProvisionError) -> Self {
        let code = match error {
            ProvisionError::Database(fault) => fault.as_database_error().and_then(|fault| fault.code()),
            _ => None,
        };
        let why = code.map_or_else(|| error.to_string(), |code| format!("SQLSTATE {code}"));
        Self {
            house: house.schema.clone(),
            tenant,
            version: house.version,
            missing: vec![format!("cannot be read: {why}")],
            surplus: Vec::new(),
        }
    }

    fn new(house: &House, tenant: Option<TenantId>, template: &[String], seen: &[String]) -> Self {
        let without = |of: &[String], other: &[String]| {
            let lines = of.iter().filter(|line| !other.contains(line)).take(LINES_MAX);
            lines.cloned().collect()
        };
        Self {
            house: house.schema.clone(),
            tenant,
            version: house.version,
            missing: without(template, seen),
            surplus: without(seen, template),
        }
    }
}
