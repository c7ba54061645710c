//! Every house on every server brought to the newest version, or schema `rowhouse` of tenants' own databases alone.
//!
//! Servers go side by side: one that hangs keeps no other waiting, only whoever waits for all of them.

use std::error::Error as _;
use std::iter::{once, successors};
use std::time::Duration;

use futures_util::future::join_all;
use rowhouse_types::ServerName;
use tokio::time::{Instant, sleep};

use super::{BATCH_MAX, BatchOrder, Census, Fault};
use crate::migrator::provisioner::server_named;
use crate::migrator::{ProvisionError, Provisioner, ledger};

/// Houses that are migrated at once on one server when all are: as many connections of the pool are the fleet's.
const WORKERS: usize = 3;

/// Pause where others have the houses that are left, or their pauses after a failure are not over.
const LOOK_EVERY: Duration = Duration::from_millis(100);

// === impl Provisioner ===

impl Provisioner {
    /// Brings every house of the participant on every server to the newest version. Returns how many this call has brought
    /// on. Where no house is behind, it is two queries for each server, however many homes are there: one for all houses, and one
    /// for schema `rowhouse` in all databases of tenants' own. A server that fails keeps no other from it.
    ///
    /// # Errors
    /// The first server's, by name: [`ProvisionError::HousesFailed`] where some could not be migrated; all others of the server
    /// are. [`ProvisionError::ServerFailed`] where the server did not answer, or something else failed there. Those of other
    /// servers are logged.
    pub async fn migrate_all(&self) -> Result<usize, ProvisionError> {
        let order = &BatchOrder::all(self.newest());
        if order.target == 0 {
            return Ok(0);
        }
        let names: Vec<String> = self.servers.keys().cloned().collect();
        let servers = names.into_iter().map(|name| async move {
            let migrated = self.migrate_server(&name, order).await;
            (name, migrated)
        });
        of_all(join_all(servers).await, "homes were not migrated")
    }

    /// Brings schema `rowhouse` in every database of a tenant's own to the newest version, as [`Self::migrate_all`] does, and no
    /// house. Where none is behind, it is one query for each server.
    ///
    /// # Errors
    /// [`ProvisionError::ServerFailed`], of the first server by name. Those of other servers are logged.
    pub async fn migrate_platforms(&self) -> Result<(), ProvisionError> {
        let names: Vec<String> = self.servers.keys().cloned().collect();
        let servers = names.into_iter().map(|name| async move {
            let migrated = self.migrate_platforms_of(&name).await;
            (name, migrated.map(|()| 0))
        });
        let failure = "schema rowhouse was not migrated in every database of a tenant's own";
        of_all(join_all(servers).await, failure).map(drop)
    }

    async fn migrate_platforms_of(&self, name: &str) -> Result<(), ProvisionError> {
        self.migrate_own_platforms(&server_named(name)?).await
    }

    async fn migrate_server(&self, name: &str, order: &BatchOrder) -> Result<usize, ProvisionError> {
        let server = server_named(name)?;
        let platforms = self.migrate_own_platforms(&server).await;
        let workers = (0..WORKERS).map(|_| self.work(&server, order.clone()));
        let (mut migrated, mut census) = (0, self.census(&server, order).await?);
        if census.behind > 0 {
            for worked in join_all(workers).await {
                migrated += worked?;
            }
            census = self.census(&server, order).await?;
        }
        if census.behind > 0 {
            return Err(self.houses_failed(&server, order, census).await?);
        }
        platforms?;
        Ok(migrated)
    }

    /// Takes houses until none is left that can be migrated.
    async fn work(&self, server: &ServerName, mut order: BatchOrder) -> Result<usize, ProvisionError> {
        let mut migrated = 0;
        loop {
            order.until = Instant::now() + BATCH_MAX;
            let batch = self.migrate_batch(server, &order).await?;
            migrated += usize::try_from(batch.migrated).unwrap_or(usize::MAX);
            if batch.census.is_through() {
                return Ok(migrated);
            }
            if batch.migrated == 0 {
                sleep(LOOK_EVERY).await;
            }
        }
    }

    async fn census(&self, server: &ServerName, order: &BatchOrder) -> Result<Census, ProvisionError> {
        let binds = self.binds(order)?;
        let mut connection = self.pool(server)?.acquire().await?;
        ledger::census(&mut connection, &binds).await
    }

    async fn houses_failed(
        &self,
        server: &ServerName,
        order: &BatchOrder,
        census: Census,
    ) -> Result<ProvisionError, ProvisionError> {
        let mut connection = self.pool(server)?.acquire().await?;
        let faults = ledger::faults(&mut connection, self.participant, Some(order.round), 1).await?;
        let first = faults.first().map(|fault| {
            let Fault {
                house,
                sqlstate,
                message,
                ..
            } = fault;
            format!("{house} on {server}: SQLSTATE {sqlstate}, {message}")
        });
        Ok(ProvisionError::HousesFailed {
            count: census.behind,
            first: first.unwrap_or_default(),
        })
    }
}

/// What servers have come to, in the order of their names: how many houses were brought on, or the first failure. The log has the
/// others.
///
/// `failure`: what the log says of those.
fn of_all(
    servers: Vec<(String, Result<usize, ProvisionError>)>,
    failure: &'static str,
) -> Result<usize, ProvisionError> {
    let (mut migrated, mut failed) = (0, None);
    for (server, outcome) in servers {
        let error = match outcome {
            Ok(brought_on) => {
                migrated += brought_on;
                continue;
            }
            Err(error @ ProvisionError::HousesFailed { .. }) => error,
            Err(error) => ProvisionError::ServerFailed {
                server: server.clone(),
                source: Box::new(error),
            },
        };
        if failed.is_some() {
            tracing::error!(server, error = with_sources(&error), "{failure}");
        } else {
            failed = Some(error);
        }
    }
    failed.map_or(Ok(migrated), Err)
}

/// An error with what it comes from, on one line.
fn with_sources(error: &ProvisionError) -> String {
    let sources = successors(error.source(), |source| (*source).source());
    let texts = once(error.to_string()).chain(sources.map(ToString::to_string));
    texts.collect::<Vec<_>>().join(": ")
}
