//! Homes that are built ahead, each for a tenant's id that nobody has yet: claiming one is an update.
//!
//! In a database of its own a spare is claimed twice, since no transaction spans two databases: first in the main one, where
//! calls about a tenant wait for each other and the first operation wins, then in its own, where that opens it. Between the two
//! it belongs to that operation and nobody enters it; the same operation, repeated, goes on from there.

use rowhouse_types::{HomeState, OperationId, Placement, ServerName, TenantId};
use sqlx::{Connection as _, PgConnection, Postgres, Transaction};

use super::Provisioner;
use crate::home::Home;
use crate::migrator::house::Wall;
use crate::migrator::provisioner::own::bounded;
use crate::migrator::registry::databases::{self, State};
use crate::migrator::registry::{self, House};
use crate::migrator::{ProvisionError, house, ledger};
use crate::platform;

// === impl Provisioner ===

impl Provisioner {
    /// Builds a home ahead, at the newest version. Nobody enters it before [`Provisioner::prepare`] or
    /// [`Provisioner::claim`] put it into use. A repeated call answers with the spare that the first one built, and brings it to
    /// the newest version first where it is behind, so that whoever claims it need not.
    ///
    /// # Errors
    /// [`ProvisionError::NoSpares`] for a placement in which no home is built ahead; [`ProvisionError::HomeExists`] and
    /// [`ProvisionError::HomeDropped`] where the tenant has come, or gone, since; [`ProvisionError::Busy`] where the lock of a
    /// spare that is behind was not to be had.
    pub async fn prepare_spare(
        &self,
        tenant: TenantId,
        server: &ServerName,
        placement: Placement,
    ) -> Result<Home, ProvisionError> {
        match placement {
            Placement::Schema => {}
            Placement::Shared => return Err(ProvisionError::NoSpares(placement)),
            Placement::Database => return self.prepare_own(tenant, server, None).await,
        }
        let mut tx = self.begin(server).await?;
        registry::lock_work(&mut tx, tenant).await?;
        if let Some(entry) = registry::find(&mut tx, tenant, self.participant).await? {
            return match entry.home(tenant, server) {
                Some(home) if home.state == HomeState::Spare => self.refresh(tx, home, entry.place).await,
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

    /// The spare at the newest version, to which it is brought where it is behind.
    ///
    /// `tx`: keeps others from working on the tenant.
    async fn refresh(
        &self,
        mut tx: Transaction<'_, Postgres>,
        spare: Home,
        place: Option<(House, HomeState)>,
    ) -> Result<Home, ProvisionError> {
        let (house, _) = place.ok_or(ProvisionError::HomeAbsent)?;
        if !self.is_behind(&house) {
            return Ok(spare);
        }
        // Whoever migrates every house may be at it.
        let house = registry::lock_house(&mut tx, house.house_id).await?;
        let house = house.ok_or(ProvisionError::HomeAbsent)?;
        let newest = self.migrations.newest();
        self.bring_on(tx, &spare.server, &house, newest, house::LOCK_TIMEOUT)
            .await?;
        let version = house.version.max(newest);
        Ok(Home { version, ..spare })
    }

    /// The same of a spare in a database of its own, whose schema `rowhouse` counts as well.
    pub(super) async fn refresh_own(&self, tenant: TenantId, server: &ServerName) -> Result<Home, ProvisionError> {
        let mut own = self.own(tenant, server).await?;
        let mut tx = self.begin_at(&mut own, server).await?;
        let (entry, home) = self.find(&mut tx, tenant, server).await?;
        let is_behind = match &entry.place {
            Some((house, HomeState::Spare)) => self.is_behind(house) || !platform::is_current(&mut tx).await?,
            // Claimed since the main database was asked.
            Some(_) => return Err(ProvisionError::HomeExists),
            None => false,
        };
        tx.rollback().await?;
        drop(own);
        if !is_behind {
            return Ok(home);
        }
        let migrated = self.migrate_own(tenant, server).await?;
        migrated.ok_or(ProvisionError::HomeAbsent)
    }

    fn is_behind(&self, house: &House) -> bool {
        let newest = self.migrations.newest();
        house.version < newest || house.deferred_version < self.migrations.deferred_until(newest)
    }

    /// The part of [`Provisioner::prepare`] that makes and changes no table: answers the home that the operation has
    /// already, or claims the spare. `None` where only `prepare` can do it: there is no home, the spare is behind, or
    /// somebody works on a database of its own.
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
        if placement == Placement::Database {
            return self.claim_own(tenant, server, operation).await;
        }
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

    /// [`Self::claim`] of a spare in a database of its own. One that is behind is the operation's from now on all the same. Where
    /// somebody works on the tenant, so that a database may be under construction, it is left to `prepare` to wait for that.
    async fn claim_own(
        &self,
        tenant: TenantId,
        server: &ServerName,
        operation: OperationId,
    ) -> Result<Option<Home>, ProvisionError> {
        let mut main = self.begin(server).await?;
        if !registry::try_lock_work(&mut main, tenant).await? {
            return Ok(None);
        }
        databases::claim_spare(&mut main, tenant, self.participant, operation).await?;
        let generation = match self.look(&mut main, tenant, Some(operation)).await {
            Ok(Some((State::Ready, generation))) => generation,
            // What is to be refused is refused in one place.
            Ok(_) | Err(ProvisionError::HomeExists | ProvisionError::HomeDropped) => return Ok(None),
            Err(error) => return Err(error),
        };
        main.commit().await?;
        self.open_spare(tenant, server, (operation, generation)).await
    }

    /// The home in the database that the operation has claimed, or built, in the main one; a spare is put into use, and brought
    /// to the newest version first where it is behind.
    pub(super) async fn use_own(
        &self,
        tenant: TenantId,
        server: &ServerName,
        claim: (OperationId, i64),
    ) -> Result<Home, ProvisionError> {
        if let Some(home) = self.open_spare(tenant, server, claim).await? {
            return Ok(home);
        }
        self.migrate_own(tenant, server).await?;
        self.open_spare(tenant, server, claim)
            .await?
            .ok_or(ProvisionError::Busy)
    }

    /// Puts the spare into use that the operation has claimed in the main database, or answers the home as it is by now. `None`
    /// where the spare is behind.
    async fn open_spare(
        &self,
        tenant: TenantId,
        server: &ServerName,
        (operation, generation): (OperationId, i64),
    ) -> Result<Option<Home>, ProvisionError> {
        let mut own = self.open(server, Some(&house::own_name(tenant))).await?;
        let mut tx = bounded(&mut own).await?;
        registry::lock_work(&mut tx, tenant).await?;
        let entry = registry::find(&mut tx, tenant, self.participant).await?;
        // What comes after this home has another generation.
        let entry = entry.filter(|entry| entry.generation == generation);
        let entry = entry.ok_or(ProvisionError::HomeDropped)?;
        let home = entry.home(tenant, server).ok_or(ProvisionError::HomeDropped)?;
        if entry.operation == Some(operation.uuid()) {
            return Ok(Some(home));
        }
        if home.state != HomeState::Spare {
            return Err(ProvisionError::HomeExists);
        }
        if home.version < self.migrations.newest() || !platform::is_current(&mut tx).await? {
            return Ok(None);
        }
        registry::claim_home(&mut tx, tenant, self.participant, operation).await?;
        tx.commit().await?;
        own.close().await?;
        tracing::info!(tenant = %tenant, server = %server, version = home.version, "a spare database was claimed");
        let state = HomeState::Active;
        Ok(Some(Home { state, ..home }))
    }
}
