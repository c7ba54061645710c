//! Houses in a database of the tenant's own, as the fleet sees them.
//!
//! The ledger of the main database holds a copy of each one's line. Whoever migrates the house holds the copy, changes the
//! house where it is, and copies what stands there then. A process that dies in between leaves a copy that is behind, and
//! the next one finds nothing to do but to copy.

use std::time::Duration;

use rowhouse_types::{Placement, ServerName, TenantId};
use sqlx::{Connection as _, PgConnection, Postgres, Transaction};
use uuid::Uuid;

use crate::home::Home;
use crate::migrator::provisioner::own::bounded;
use crate::migrator::registry::{self, House, databases};
use crate::migrator::{ProvisionError, Provisioner, house, ledger, login};
use crate::platform;

/// Tenants read at once.
const PAGE: i64 = 500;

/// How long the line's transaction may stand idle while the house is changed. Its tables are changed by additions, which
/// take no time; what reads whole tables is deferred, and the line is not held then.
const HOLD: &str = "SET LOCAL idle_in_transaction_session_timeout = '10min'";

// === impl Provisioner ===

impl Provisioner {
    /// Brings a house in a database of its own, and schema `rowhouse` there, to a version, and does the deferred steps; false
    /// where another has to do those, or has done it.
    ///
    /// `main`: holds `line`, the copy in the ledger.
    ///
    /// # Errors
    /// [`ProvisionError::HomeAbsent`] where the home is half dropped: whoever dropped it goes on, and its line with it.
    pub(super) async fn bring_own_on(
        &self,
        mut main: Transaction<'_, Postgres>,
        server: &ServerName,
        line: &House,
        target: i32,
        lock_timeout: Duration,
    ) -> Result<bool, ProvisionError> {
        let Some(tenant) = registry::tenant_of(&mut main, line.house_id).await? else {
            return Err(ProvisionError::Damaged("a house has no tenant".to_owned()));
        };
        house::run(&mut main, HOLD.to_owned()).await?;
        let name = house::own_name(tenant);
        let mut own = self.open(server, Some(&name)).await?;
        self.migrate_platform(&mut own, &name).await?;
        databases::set_platform_version(&mut main, tenant, platform::newest()).await?;
        let mut tx = bounded(&mut own).await?;
        let house = self.lock_own(&mut tx, tenant).await?;
        let house = house.ok_or(ProvisionError::HomeAbsent)?;
        self.bring_tables_on(tx, server, &house, target, lock_timeout).await?;
        let was_behind = house.version < target;
        let changed = House {
            version: house.version.max(target),
            ..house
        };
        databases::copy_versions(&mut main, line.house_id, &changed).await?;
        let needed = self.migrations.deferred_until(target);
        if changed.deferred_version >= needed {
            ledger::forget_fault(&mut main, line.house_id).await?;
        }
        main.commit().await?;
        own.close().await?;
        if changed.deferred_version >= needed {
            return Ok(was_behind);
        }
        let options = (*self.pool(server)?.connect_options()).clone().database(&name);
        let done = self.finish(&options, &changed, target, lock_timeout).await?;
        if done {
            let mut main = self.pool(server)?.acquire().await?;
            ledger::set_deferred_version(&mut main, line.house_id, needed).await?;
            ledger::forget_fault(&mut main, line.house_id).await?;
        }
        Ok(done)
    }

    /// Brings the tenant's own house to the newest version; `None` where the tenant has no database.
    pub(in crate::migrator) async fn migrate_own(
        &self,
        tenant: TenantId,
        server: &ServerName,
    ) -> Result<Option<Home>, ProvisionError> {
        let newest = self.migrations.newest();
        let mut main = self.begin(server).await?;
        let Some(line) = databases::line_of(&mut main, tenant, self.participant).await? else {
            return Ok(None);
        };
        let line = registry::lock_house(&mut main, line).await?;
        let line = line.ok_or(ProvisionError::HomeAbsent)?;
        self.bring_own_on(main, server, &line, newest, house::LOCK_TIMEOUT)
            .await?;
        let home = self.describe(tenant, server).await?;
        if home.version > newest {
            return Err(ProvisionError::VersionUnknown(home.version));
        }
        Ok(Some(home))
    }

    /// Brings schema `rowhouse` in every such database of the server to the newest version, and gives those a login of their own
    /// that were made without; where none is behind, it is one query. One that fails keeps no other from it.
    ///
    /// # Errors
    /// The first that failed.
    pub(super) async fn migrate_own_platforms(&self, server: &ServerName) -> Result<(), ProvisionError> {
        self.migrate_own_platforms_by(server, PAGE).await
    }

    /// `page`: tenants read at once.
    pub(crate) async fn migrate_own_platforms_by(&self, server: &ServerName, page: i64) -> Result<(), ProvisionError> {
        let (mut after, mut failed) = (Uuid::nil(), Ok(()));
        loop {
            let mut main = self.pool(server)?.acquire().await?;
            let tenants = databases::behind(&mut main, self.participant, platform::newest(), after, page).await?;
            drop(main);
            let Some(last) = tenants.last() else {
                return failed;
            };
            after = last.uuid();
            for tenant in tenants {
                failed = failed.and(self.migrate_own_platform(tenant, server).await);
            }
        }
    }

    async fn migrate_own_platform(&self, tenant: TenantId, server: &ServerName) -> Result<(), ProvisionError> {
        let mut own = match self.own(tenant, server).await {
            Ok(Some(own)) => own,
            // It has been dropped since.
            Ok(None) | Err(ProvisionError::HomeAbsent) => return Ok(()),
            Err(error) => return Err(error),
        };
        self.migrate_platform(&mut own, &house::own_name(tenant)).await?;
        self.give_login(&mut own, tenant, server).await?;
        own.close().await?;
        let mut main = self.pool(server)?.acquire().await?;
        databases::set_platform_version(&mut main, tenant, platform::newest()).await?;
        Ok(())
    }

    /// Brings schema `rowhouse` to the newest version, of which the login may do what `rowhouse_app` may.
    async fn migrate_platform(&self, own: &mut PgConnection, name: &str) -> Result<(), ProvisionError> {
        platform::migrate(own).await?;
        let mut tx = bounded(own).await?;
        login::admit(&mut tx, name).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Gives a database a login of its own that was made without. `rowhouse_app` may go on connecting to it: older processes
    /// may be serving still.
    async fn give_login(
        &self,
        own: &mut PgConnection,
        tenant: TenantId,
        server: &ServerName,
    ) -> Result<(), ProvisionError> {
        let mut main = self.begin(server).await?;
        registry::lock_work(&mut main, tenant).await?;
        // Another may have been quicker.
        if databases::lacks_login(&mut main, tenant).await? {
            let mut tx = bounded(own).await?;
            let sealed = self.make_login((&mut main, tenant), &mut tx, server).await?;
            tx.commit().await?;
            databases::set_sealed_password(&mut main, tenant, &sealed).await?;
            main.commit().await?;
            tracing::info!(tenant = %tenant, server = %server, "a database was given a login of its own");
        }
        Ok(())
    }

    /// The house in the tenant's own database, which nobody else changes before the end of the transaction; `None` where the
    /// home was taken out of it already.
    async fn lock_own(&self, own: &mut PgConnection, tenant: TenantId) -> Result<Option<House>, ProvisionError> {
        let entry = registry::find(own, tenant, self.participant).await?;
        match entry.and_then(|entry| entry.place) {
            Some((house, _)) if house.placement == Placement::Database => {
                registry::lock_house(own, house.house_id).await
            }
            Some(_) | None => Ok(None),
        }
    }
}
