//! How many sessions the logins of tenants' own databases may have, when that is another number than it was.

use rowhouse_types::{ServerName, TenantId};
use uuid::Uuid;

use crate::migrator::login::CLUSTER_DATABASE;
use crate::migrator::provisioner::server_named;
use crate::migrator::registry::databases;
use crate::migrator::{ProvisionError, Provisioner, house, login};

/// Tenants read at once.
const PAGE: i64 = 500;

// === impl Provisioner ===

impl Provisioner {
    /// Gives every login of a tenant's own database, on every server, the bound that this provisioner has. One that fails keeps no
    /// other from it. Sessions that are open stay.
    ///
    /// Returns how many had another, or none.
    ///
    /// # Errors
    /// The first that failed; [`ProvisionError::ClusterOutdated`] where the cluster has no function for it.
    pub async fn bound_logins(&self) -> Result<usize, ProvisionError> {
        let (mut bounded, mut failed) = (0, Ok(()));
        for name in self.servers.keys() {
            failed = failed.and(self.bound_logins_of(name, &mut bounded).await);
        }
        failed.map(|()| bounded)
    }

    async fn bound_logins_of(&self, name: &str, bounded: &mut usize) -> Result<(), ProvisionError> {
        let server = server_named(name)?;
        let (mut after, mut failed) = (Uuid::nil(), Ok(()));
        loop {
            let mut main = self.pool(&server)?.acquire().await?;
            let most = i32::from(self.login_connections_max);
            let tenants = databases::bounded_otherwise(&mut main, self.participant, most, after, PAGE).await?;
            drop(main);
            let Some(last) = tenants.last() else {
                return failed;
            };
            after = last.uuid();
            for tenant in tenants {
                let bound = self.bound_login(tenant, &server).await;
                failed = failed.and(bound.map(|bound| *bounded += usize::from(bound)));
            }
        }
    }

    /// False where the login has gone.
    async fn bound_login(&self, tenant: TenantId, server: &ServerName) -> Result<bool, ProvisionError> {
        let name = house::own_name(tenant);
        let mut shared = self.open(server, Some(CLUSTER_DATABASE)).await?;
        // Of two that change one role at once the second fails, and who drops it is waited for.
        let mut alone = self.alone_with(&mut shared, tenant).await?;
        let is_there = login::exists(&mut alone, &name).await?;
        if is_there {
            login::bound(&mut alone, &name, self.login_connections_max).await?;
        }
        alone.commit().await?;
        Ok(is_there)
    }
}
