//! Homes that are built ahead, each for a tenant's id that nobody has yet: claiming one is an update.

use rowhouse_types::{HomeState, OperationId, Placement, ServerName, TenantId};
use sqlx::PgConnection;

use super::Provisioner;
use crate::home::Home;
use crate::migrator::house::Wall;
use crate::migrator::registry::{self, House};
use crate::migrator::{ProvisionError, house, ledger};

// === impl Provisioner ===

impl Provisioner {
    /// Builds a home ahead, at the newest version. Nobody enters it before [`Provisioner::prepare`] or
    /// [`Provisioner::claim`] put it into use. A repeated call answers with the spare that the first one built.
    ///
    /// # Errors
    /// [`ProvisionError::NoSpares`] for a placement in which no home is built ahead; [`ProvisionError::HomeExists`] and
    /// [`ProvisionError::HomeDropped`] where the tenant has come, or gone, since.
    pub async fn prepare_spare(
        &self,
        tenant: TenantId,
        server: &ServerName,
        placement: Placement,
    ) -> Result<Home, ProvisionError> {
        if placement != Placement::Schema {
            return Err(ProvisionError::NoSpares(placement));
        }
        let mut tx = self.begin(server).await?;
        registry::lock_work(&mut tx, tenant).await?;
        if let Some(entry) = registry::find(&mut tx, tenant, self.participant).await? {
            return match entry.home(tenant, server) {
                Some(home) if home.state == HomeState::Spare => Ok(home),
                Some(_) => Err(ProvisionError::HomeExists),
                None => Err(ProvisionError::HomeDropped),
            };
        }
        let (schema, wall) = (house::own_name(tenant), Wall::Number(tenant));
        let house = self.build(&mut tx, schema, placement, wall).await?;
        let generation = registry::insert_home(&mut tx, tenant, self.participant, &house, None).await?;
        tx.commit().await?;
        tracing::info!(tenant = %tenant, server = %server, version = house.version, "a spare home is ready");
        Ok(Home {
            tenant,
            server: server.clone(),
            placement,
            generation,
            version: house.version,
            state: HomeState::Spare,
            transactions_max: None,
        })
    }

    /// The part of [`Provisioner::prepare`] that makes and changes no table: answers the home that the operation has
    /// already, or claims the spare. `None` where only `prepare` can do it: there is no home, or the spare is behind.
    ///
    /// # Errors
    /// As [`Provisioner::prepare`].
    pub async fn claim(
        &self,
        tenant: TenantId,
        server: &ServerName,
        placement: Placement,
        operation: OperationId,
    ) -> Result<Option<Home>, ProvisionError> {
        let mut tx = self.begin(server).await?;
        registry::lock_work(&mut tx, tenant).await?;
        let Some(entry) = registry::find(&mut tx, tenant, self.participant).await? else {
            return Ok(None);
        };
        let own = entry.operation == Some(operation.uuid());
        match entry.home(tenant, server) {
            Some(home) if own && home.placement == placement => Ok(Some(home)),
            Some(home) if home.state == HomeState::Spare && home.placement == placement => {
                if home.version < self.migrations.newest() {
                    return Ok(None);
                }
                let claimed = self.claim_in(&mut tx, home, entry.place, operation).await?;
                tx.commit().await?;
                Ok(Some(claimed))
            }
            // What is to be refused is refused in one place.
            Some(_) | None => Ok(None),
        }
    }

    /// Puts a spare into use, and brings it to the newest version first where it is behind.
    pub(super) async fn claim_in(
        &self,
        tx: &mut PgConnection,
        spare: Home,
        place: Option<(House, HomeState)>,
        operation: OperationId,
    ) -> Result<Home, ProvisionError> {
        let newest = self.migrations.newest();
        let mut version = spare.version;
        if version < newest {
            let (house, _) = place.ok_or(ProvisionError::HomeAbsent)?;
            // Whoever migrates every house may be at it.
            let house = registry::lock_house(tx, house.house_id).await?;
            let house = house.ok_or(ProvisionError::HomeAbsent)?;
            let wall = Wall::Number(spare.tenant);
            let migrations = self.migrations.between(house.version, newest);
            house::migrate(tx, &house.schema, wall, house::LOCK_TIMEOUT, migrations).await?;
            version = house.version.max(newest);
            ledger::set_version(tx, house.house_id, version).await?;
        }
        registry::claim_home(tx, spare.tenant, self.participant, operation).await?;
        tracing::info!(tenant = %spare.tenant, server = %spare.server, version, "a spare home was claimed");
        let state = HomeState::Active;
        Ok(Home {
            state,
            version,
            ..spare
        })
    }
}
