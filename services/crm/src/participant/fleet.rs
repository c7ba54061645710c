//! Orders for many homes at once: counted, listed, migrated in batches, compared with the template.

pub(super) mod wire;

use rowhouse_context::Ctx;
use rowhouse_db::{Batch, BatchOrder, DriftPage, Fault, FleetVersion, HousePage, HouseQuery, ProvisionError};
use rowhouse_types::{ServerName, TenantId};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::{Error, Homes};

/// Batches and comparisons on one data server at once. Each holds one connection of the provisioner's pool, and as many
/// there are not for builds: a run may ask for more at once, and those wait in turn.
pub(super) const FLEET_MAX: usize = 3;

/// A server's houses by version.
pub(super) struct Fleet {
    /// The newest version that this code has.
    pub(super) newest: i32,
    /// The versions of this code that have deferred steps, the oldest first.
    pub(super) deferred: Vec<i32>,
    pub(super) versions: Vec<FleetVersion>,
    /// Whose homes are older than the newest of `versions`; `None` where they are too many to be told.
    pub(super) older: Option<Vec<TenantId>>,
    pub(super) faults: Vec<Fault>,
}

/// Which houses to compare.
pub(super) struct DriftQuery {
    pub(super) server: ServerName,
    /// The last house of the page before.
    pub(super) after: Option<String>,
    pub(super) houses_max: u32,
}

// === impl Homes ===

impl Homes {
    /// Counts a server's houses by version.
    pub(super) async fn describe_fleet(&self, server: &ServerName) -> Result<Fleet, Error> {
        let provisioner = self.provisioner();
        let (versions, faults) = provisioner.describe_fleet(server).await?;
        // Asked afterwards: houses only get newer, so whoever is not named has that version.
        let older = match versions.iter().map(|houses| houses.version).max() {
            Some(newest) => provisioner.older_homes(server, newest).await?,
            None => Some(Vec::new()),
        };
        Ok(Fleet {
            newest: provisioner.newest(),
            deferred: provisioner.deferred_versions(),
            versions,
            older,
            faults,
        })
    }

    /// Tells some houses with their versions.
    pub(super) async fn list_houses(&self, server: &ServerName, query: &HouseQuery) -> Result<HousePage, Error> {
        Ok(self.provisioner().list_houses(server, query).await?)
    }

    /// Migrates some houses that are behind.
    pub(super) async fn migrate_batch(&self, server: &ServerName, order: &BatchOrder) -> Result<Batch, Error> {
        // Later than this it would begin no house.
        let _permit = self.fleet_permit(server, order.until).await?;
        Ok(self.provisioner().migrate_batch(server, order).await?)
    }

    /// Compares some houses with the template, which is built for it.
    pub(super) async fn check_drift(&self, ctx: &Ctx, query: &DriftQuery) -> Result<DriftPage, Error> {
        let DriftQuery {
            server,
            after,
            houses_max,
        } = query;
        // The other half is for the comparison.
        let _permit = self.fleet_permit(server, Instant::now() + ctx.time_left() / 2).await?;
        // The rest is for the house that was begun last.
        let until = Instant::now() + ctx.time_left() / 2;
        Ok(self
            .provisioner()
            .check_drift(server, after.as_deref(), *houses_max, until)
            .await?)
    }

    /// Waits for those who work on the server's homes, until a moment.
    async fn fleet_permit(&self, server: &ServerName, until: Instant) -> Result<SemaphorePermit<'_>, Error> {
        let permits = self.fleets.get(server.as_str());
        let permits = permits.ok_or_else(|| ProvisionError::ServerUnknown(server.to_string()))?;
        let busy = || Error::FleetBusy { server: server.clone() };
        let permit = timeout_at(until, permits.acquire()).await;
        permit.map_err(|_| busy())?.map_err(|_| busy())
    }
}
