//! The houses of a server with their versions, a page at a time.

use rowhouse_types::{Placement, ServerName, TenantId};

use crate::migrator::{ProvisionError, Provisioner, ledger};

/// Which houses to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HouseQuery {
    /// The last house of the page before.
    pub after: Option<String>,
    /// Houses to tell at most.
    pub houses_max: u32,
    /// The one where this tenant lives; all where there is none.
    pub tenant: Option<TenantId>,
    /// Those that are behind.
    pub behind_only: bool,
}

/// A house, as the ledger has it. Of one in a database of its own that holds a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HouseEntry {
    /// Its schema.
    pub house: String,
    /// How tenants are kept apart there.
    pub placement: Placement,
    /// The tenant whose own it is.
    pub tenant: Option<TenantId>,
    /// Whether it was built ahead, for an id that no tenant has yet.
    pub is_spare: bool,
    /// Homes in it.
    pub homes: i64,
    /// Version of its tables.
    pub version: i32,
    /// Up to which deferred steps are done.
    pub deferred_version: i32,
    /// Whether its tables, or its deferred steps, are older than this code's.
    pub is_behind: bool,
}

/// Some houses, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HousePage {
    /// The newest version that this code has.
    pub newest: i32,
    /// At most as many as were asked for.
    pub houses: Vec<HouseEntry>,
    /// The last of them, to go on after; `None` when there are no more.
    pub next: Option<String>,
}

// === impl Provisioner ===

impl Provisioner {
    /// Houses of a server by name, in one query, however many there are and wherever they stand.
    ///
    /// # Errors
    /// When the server is not known or does not answer.
    pub async fn list_houses(&self, server: &ServerName, query: &HouseQuery) -> Result<HousePage, ProvisionError> {
        let newest = self.newest();
        let versions = (newest, self.migrations.deferred_until(newest));
        let mut connection = self.pool(server)?.acquire().await?;
        let mut houses = ledger::list(&mut connection, self.participant, versions, query).await?;
        let size = usize::try_from(query.houses_max).unwrap_or(usize::MAX);
        let is_last = houses.len() <= size;
        houses.truncate(size);
        let next = houses.last().filter(|_| !is_last).map(|last| last.house.clone());
        Ok(HousePage { newest, houses, next })
    }
}
