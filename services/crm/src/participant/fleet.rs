//! Orders for many homes at once: counted, migrated in batches, compared with the template.

pub(super) mod wire;

use rowhouse_context::Ctx;
use rowhouse_db::{Batch, BatchOrder, DriftPage, Fault, FleetVersion};
use rowhouse_types::ServerName;

use super::{Error, Homes};

/// A server's houses by version.
pub(super) struct Fleet {
    /// The newest version that this code has.
    pub(super) newest: i32,
    pub(super) versions: Vec<FleetVersion>,
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
        let (versions, faults) = self.provisioner().describe_fleet(server).await?;
        Ok(Fleet {
            newest: self.provisioner().newest(),
            versions,
            faults,
        })
    }

    /// Migrates some houses that are behind.
    pub(super) async fn migrate_batch(
        &self,
        ctx: &Ctx,
        server: &ServerName,
        order: &BatchOrder,
    ) -> Result<Batch, Error> {
        let _permit = self.permit(ctx).await?;
        Ok(self.provisioner().migrate_batch(server, order).await?)
    }

    /// Compares some houses with the template, which is built for it.
    pub(super) async fn check_drift(&self, ctx: &Ctx, query: &DriftQuery) -> Result<DriftPage, Error> {
        let _permit = self.permit(ctx).await?;
        let DriftQuery {
            server,
            after,
            houses_max,
        } = query;
        Ok(self
            .provisioner()
            .check_drift(server, after.as_deref(), *houses_max)
            .await?)
    }
}
