//! Homes, as the tenant service orders them: built, migrated, frozen, thawed, dropped. Only the process `provision` has
//! the credentials for it.

pub(crate) mod fleet;
pub(crate) mod rpc;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rowhouse_context::Ctx;
use rowhouse_db::{Home, ProvisionError, Provisioner};
use rowhouse_status::{Failure, Reason};
use rowhouse_types::{OperationId, Placement, ServerName, TenantId};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Builds and changes homes. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Homes {
    provisioner: Provisioner,
    /// Bounds the work that makes or changes tables, by data server: one that is away, for which each order waits, keeps no
    /// other waiting. Freezing is not bounded by it: a tenant must be shut out however many homes are being built.
    builds: Arc<Permits>,
    /// Bounds the work for many homes at once, likewise: whoever signs up does not wait for it.
    fleets: Arc<Permits>,
}

/// Permits by data server.
type Permits = BTreeMap<String, Semaphore>;

/// One tenant's home on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) tenant: TenantId,
    pub(crate) server: ServerName,
}

/// A home to make ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) place: Place,
    pub(crate) placement: Placement,
    pub(crate) operation: OperationId,
}

/// What has come of an order to drop a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Whether there was one.
    pub(crate) home: bool,
    /// Whether the login of its own database is left.
    pub(crate) login_left: bool,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The home is not there, or not in the state for it, or the server failed.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// Homes cannot be built on this server yet.
    #[error("data server {server} is not ready: {why}")]
    ServerNotReady {
        /// Its name.
        server: ServerName,
        /// What to do first.
        why: &'static str,
    },
    /// The deadline came while others were building.
    #[error("too many homes are being built")]
    TooMany,
    /// Others work on as many homes of the server as may be worked on at once.
    #[error("enough is being done on data server {server}")]
    FleetBusy {
        /// Its name.
        server: ServerName,
    },
}

/// When to ask a server again whose homes others work on: a batch is rarely done sooner.
const FLEET_RETRY: Duration = Duration::from_secs(1);

// === impl Homes ===

impl Homes {
    /// `builds_max`: homes that are built, migrated or dropped one by one at the same time on each data server; at least 1.
    pub(crate) fn new(provisioner: Provisioner, builds_max: usize) -> Self {
        let builds_max = builds_max.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            builds: Arc::new(permits(&provisioner, builds_max)),
            fleets: Arc::new(permits(&provisioner, fleet::FLEET_MAX)),
            provisioner,
        }
    }

    /// Builds a home ahead.
    pub(crate) async fn prepare_spare(&self, ctx: &Ctx, place: &Place, placement: Placement) -> Result<Home, Error> {
        let _permit = self.permit(ctx, &place.server).await?;
        let spare = self.provisioner.prepare_spare(place.tenant, &place.server, placement);
        Ok(spare.await?)
    }

    /// Makes a home ready: the one that the operation built or claimed before, the spare, or a new one.
    pub(crate) async fn prepare(&self, ctx: &Ctx, order: &Order) -> Result<Home, Error> {
        let Place { tenant, server } = &order.place;
        if order.placement != Placement::Shared {
            // Whoever signs up waits for no home that is being built ahead for somebody else.
            let claim = self
                .provisioner
                .claim(*tenant, server, order.placement, order.operation);
            if let Some(home) = claim.await? {
                return Ok(home);
            }
        }
        let _permit = self.permit(ctx, server).await?;
        let home = self
            .provisioner
            .prepare(*tenant, server, order.placement, order.operation)
            .await?;
        Ok(home)
    }

    /// Brings a home to the newest version.
    pub(crate) async fn migrate(&self, ctx: &Ctx, place: &Place) -> Result<Home, Error> {
        let _permit = self.permit(ctx, &place.server).await?;
        Ok(self.provisioner.migrate(place.tenant, &place.server).await?)
    }

    /// Forbids reads and writes; answers when no older transaction is left.
    pub(crate) async fn freeze(&self, place: &Place, operation: OperationId) -> Result<Home, Error> {
        Ok(self.provisioner.freeze(place.tenant, &place.server, operation).await?)
    }

    /// Allows reads and forbids writes; answers when no older transaction is left.
    pub(crate) async fn restrict(&self, place: &Place, operation: OperationId) -> Result<Home, Error> {
        Ok(self
            .provisioner
            .restrict(place.tenant, &place.server, operation)
            .await?)
    }

    /// Allows reads and writes again.
    pub(crate) async fn thaw(&self, place: &Place, operation: OperationId) -> Result<Home, Error> {
        Ok(self.provisioner.thaw(place.tenant, &place.server, operation).await?)
    }

    /// Removes a frozen home.
    pub(crate) async fn drop(&self, ctx: &Ctx, place: &Place) -> Result<Dropped, Error> {
        let _permit = self.permit(ctx, &place.server).await?;
        let home = self.provisioner.drop(place.tenant, &place.server).await?;
        // Asked and not remembered, so that a repeated order is answered alike.
        let login_left = self.provisioner.has_login(place.tenant, &place.server).await?;
        Ok(Dropped { home, login_left })
    }

    /// A home's state and version.
    pub(crate) async fn describe(&self, place: &Place) -> Result<Home, Error> {
        Ok(self.provisioner.describe(place.tenant, &place.server).await?)
    }

    /// Bounds the transactions that enter a home from now on.
    pub(crate) async fn set_limits(
        &self,
        place: &Place,
        order: OperationId,
        statement_timeout_ms: Option<i32>,
    ) -> Result<Home, Error> {
        let Place { tenant, server } = place;
        let set = self
            .provisioner
            .set_limits(*tenant, server, order, statement_timeout_ms);
        Ok(set.await?)
    }

    /// Whether homes can be built on a data server.
    pub(crate) async fn check_server(&self, server: &ServerName) -> Result<(), Error> {
        let why = match self.provisioner.check(server).await {
            Ok(()) => return Ok(()),
            Err(ProvisionError::ServerUnknown(_)) => "it has no URL in ROWHOUSE_DATA_OWNER_URLS",
            Err(ProvisionError::ServerNotMigrated(_)) => "run `migrate` on it",
            Err(error) => return Err(error.into()),
        };
        let server = server.clone();
        Err(Error::ServerNotReady { server, why })
    }

    /// What is done for many homes at once.
    pub(crate) fn provisioner(&self) -> &Provisioner {
        &self.provisioner
    }

    async fn permit(&self, ctx: &Ctx, server: &ServerName) -> Result<SemaphorePermit<'_>, Error> {
        let permits = self.builds.get(server.as_str());
        let permits = permits.ok_or_else(|| ProvisionError::ServerUnknown(server.to_string()))?;
        let permit = tokio::time::timeout_at(ctx.deadline(), permits.acquire()).await;
        permit.map_err(|_| Error::TooMany)?.map_err(|_| Error::TooMany)
    }
}

/// So many permits for each data server.
fn permits(provisioner: &Provisioner, each: usize) -> Permits {
    let names = provisioner.server_names();
    names.map(|name| (name.to_owned(), Semaphore::new(each))).collect()
}

// === impl Error ===

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let error = match error {
            Error::TooMany => return Self::new(Reason::DeadlineExceeded, "too many homes are being built"),
            Error::ServerNotReady { ref server, .. } => {
                return Self::new(Reason::ServerNotReady, error.to_string()).about("server", server);
            }
            Error::FleetBusy { ref server } => {
                let failure = Self::new(Reason::Overloaded, error.to_string()).about("server", server);
                return failure.retry_after(FLEET_RETRY);
            }
            Error::Provision(error) => error,
        };
        let text = error.to_string();
        match error {
            ProvisionError::ServerUnknown(_) => Self::field("server", "is not a data server of this participant"),
            ProvisionError::NoSpares(_) => Self::field("placement", "is not built ahead"),
            ProvisionError::TargetUnknown(version) => Self::new(Reason::MigrationVersionUnknown, text)
                .with("version", version)
                .in_field("target_version", "must be a version that the participant's code has"),
            ProvisionError::HomeAbsent => Self::new(Reason::ResourceNotFound, "home not found"),
            ProvisionError::HomeDropped
            | ProvisionError::HomeExists
            | ProvisionError::Overtaken
            | ProvisionError::NotFrozen => Self::new(Reason::StateForbids, text),
            ProvisionError::Busy => Self::unavailable("data server", text),
            ProvisionError::Database(fault) => from_database(&fault),
            ProvisionError::Platform(fault) => from_database(&fault),
            ProvisionError::ServerNotMigrated(_)
            | ProvisionError::VersionUnknown(_)
            | ProvisionError::HousesFailed { .. }
            | ProvisionError::ServerFailed { .. }
            | ProvisionError::Rule(_)
            | ProvisionError::ClusterOutdated
            | ProvisionError::Seal(_)
            | ProvisionError::Unopened { .. }
            | ProvisionError::Damaged(_) => Self::internal(text),
        }
    }
}

/// The tenant service repeats an order until it is carried out, so a server's fault is always worth another try; a
/// mistake of ours shows in the logs each time.
fn from_database(fault: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::unavailable("data server", fault)
}
