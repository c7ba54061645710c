//! One participant's homes on all data servers.
//!
//! [`own`]: those in a database of the tenant's own. `spare`: those that are built ahead.

pub(super) mod own;
mod spare;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_ok;
use rowhouse_config::Secret;
use rowhouse_context::ServiceName;
use rowhouse_seal::MasterKeys;
use rowhouse_types::{HomeState, OperationId, Placement, ServerName, TenantId};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::house::Wall;
use super::registry::{self, Entry, House, databases};
use super::{ProvisionError, TenantMigrations, house, login, rows};
use crate::home::Home;
use crate::login::OwnLogins;
use crate::{control, platform};

/// Connections to one server: three for homes that are built, three for batches of the fleet, so that neither waits for the
/// other, and one for what is short, as a freeze. Four builds in parallel took 20-25 ms each on two cores.
const CONNECTIONS_MAX: u32 = 7;

/// Longest wait for one of them.
const ACQUIRE_MAX: Duration = Duration::from_secs(10);

/// Longest wait for older transactions, or for another that works on the same home; those who want to enter a home that is
/// being frozen wait behind us that long at most. And how long a process that hangs can keep everybody waiting.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '30s'; SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// Homes of one shared house. A house is migrated in one transaction that keeps all its tenants waiting, so there shall be
/// many houses rather than large ones.
const SHARED_HOMES_MAX: i64 = 1_000;

/// Rows of a shared house that one transaction deletes: a few hundred milliseconds.
const DROPPED_ROWS_MAX: u64 = 10_000;

/// Tables of an own house that one transaction drops: some hundred locks of the several thousand that a server has.
const DROPPED_TABLES_MAX: i64 = 16;

/// Builds and changes the homes of one participant. Every call may be repeated, and is one transaction; only homes are
/// dropped in several, and databases are made and dropped outside of any.
#[derive(Clone, Debug)]
pub struct Provisioner {
    pub(super) participant: ServiceName,
    pub(super) migrations: TenantMigrations,
    pub(super) servers: BTreeMap<String, PgPool>,
    pub(super) logins: Arc<OwnLogins>,
    /// Sessions of each of these logins.
    pub(super) login_connections_max: u16,
}

// === impl Provisioner ===

impl Provisioner {
    /// A provisioner. Connections are opened when they are needed.
    ///
    /// `owner_urls`: the login `rowhouse_owner`, direct, by the data server's registered name. `master_keys`: seal the
    /// passwords of tenants' own databases; [`crate::TenantDb`] has the same.
    ///
    /// # Errors
    /// When a URL or the key cannot be used; the error does not hold it.
    #[expect(
        clippy::unused_async,
        reason = "a pool belongs to a runtime, which an async function is sure to have"
    )]
    pub async fn connect(
        participant: ServiceName,
        owner_urls: &BTreeMap<String, Secret>,
        migrations: TenantMigrations,
        master_keys: &MasterKeys,
    ) -> Result<Self, ProvisionError> {
        let mut servers = BTreeMap::new();
        for (name, url) in owner_urls {
            let pool = control::pool_options()
                .max_connections(CONNECTIONS_MAX)
                .acquire_timeout(ACQUIRE_MAX)
                .connect_lazy_with(control::options(url)?);
            servers.insert(name.clone(), pool);
        }
        Ok(Self {
            participant,
            migrations,
            servers,
            logins: Arc::new(OwnLogins::new(master_keys)?),
            login_connections_max: login::CONNECTIONS_MAX,
        })
    }

    /// The same, with another bound on the sessions that each login of a tenant's own database may have at once: of those that it
    /// makes, and of all by [`Provisioner::bound_logins`].
    #[must_use]
    pub fn with_login_connections_max(self, login_connections_max: u16) -> Self {
        Self {
            login_connections_max: login_connections_max.max(1),
            ..self
        }
    }

    /// The data servers that it has a URL for, by name.
    pub fn server_names(&self) -> impl Iterator<Item = &str> {
        self.servers.keys().map(String::as_str)
    }

    /// Makes the tenant's home ready, at the newest version: claims the spare, or builds a home where there is none. A repeated
    /// call with the same operation answers with the home that the first one built, in whatever state it is by now.
    ///
    /// # Errors
    /// [`ProvisionError::HomeExists`] where another operation built the home, or is building it in a database of its own;
    /// [`ProvisionError::HomeDropped`] where this operation's home was dropped since.
    pub async fn prepare(
        &self,
        tenant: TenantId,
        server: &ServerName,
        placement: Placement,
        operation: OperationId,
    ) -> Result<Home, ProvisionError> {
        if placement == Placement::Database {
            return self.prepare_own(tenant, server, Some(operation)).await;
        }
        let mut tx = self.begin(server).await?;
        registry::lock_work(&mut tx, tenant).await?;
        if databases::state_of(&mut tx, tenant, self.participant).await?.is_some() {
            return Err(ProvisionError::HomeExists);
        }
        if let Some(entry) = registry::find(&mut tx, tenant, self.participant).await? {
            let own = entry.operation == Some(operation.uuid());
            match entry.home(tenant, server) {
                Some(home) if own && home.placement == placement => return Ok(home),
                Some(home) if home.state == HomeState::Spare && home.placement == placement => {
                    let claimed = self.claim_in(&mut tx, home, entry.place, operation).await?;
                    tx.commit().await?;
                    return Ok(claimed);
                }
                Some(_) => return Err(ProvisionError::HomeExists),
                None if own => return Err(ProvisionError::HomeDropped),
                None => {}
            }
        }
        let house = match placement {
            Placement::Shared => self.shared(&mut tx).await?,
            Placement::Schema | Placement::Database => {
                let schema = house::own_name(tenant);
                self.build(&mut tx, schema, placement, Wall::Number(tenant)).await?
            }
        };
        let generation = registry::insert_home(&mut tx, tenant, self.participant, &house, Some(operation)).await?;
        tx.commit().await?;
        tracing::info!(tenant = %tenant, server = %server, version = house.version, "a home is ready");
        Ok(Home {
            tenant,
            server: server.clone(),
            placement,
            generation,
            version: house.version,
            state: HomeState::Active,
            transactions_max: None,
        })
    }

    /// Brings the tenant's home to the newest version.
    ///
    /// # Errors
    /// [`ProvisionError::VersionUnknown`] where newer code migrated it; [`ProvisionError::Busy`] where a table's lock was
    /// not to be had.
    pub async fn migrate(&self, tenant: TenantId, server: &ServerName) -> Result<Home, ProvisionError> {
        if let Some(home) = self.migrate_own(tenant, server).await? {
            return Ok(home);
        }
        let mut tx = self.begin(server).await?;
        let (entry, home) = self.find(&mut tx, tenant, server).await?;
        let Some((house, _)) = entry.place else {
            return Err(ProvisionError::HomeAbsent);
        };
        let house = registry::lock_house(&mut tx, house.house_id).await?;
        let house = house.ok_or(ProvisionError::HomeAbsent)?;
        let newest = self.migrations.newest();
        if house.version > newest {
            return Err(ProvisionError::VersionUnknown(house.version));
        }
        self.bring_on(tx, server, &house, newest, house::LOCK_TIMEOUT).await?;
        Ok(Home {
            version: newest,
            ..home
        })
    }

    /// Forbids reads and writes. Returns only when no transaction that had entered the home before is left.
    ///
    /// # Errors
    /// [`ProvisionError::HomeAbsent`]; [`ProvisionError::Overtaken`] where a newer operation has frozen or thawed it;
    /// [`ProvisionError::Busy`] when an older transaction does not end within 30 s, and nothing has changed then.
    pub async fn freeze(
        &self,
        tenant: TenantId,
        server: &ServerName,
        operation: OperationId,
    ) -> Result<Home, ProvisionError> {
        self.set_state(tenant, server, HomeState::Frozen, operation).await
    }

    /// Allows reads and forbids writes. Returns only when no transaction that had entered the home before is left.
    ///
    /// # Errors
    /// As of [`Self::freeze`].
    pub async fn restrict(
        &self,
        tenant: TenantId,
        server: &ServerName,
        operation: OperationId,
    ) -> Result<Home, ProvisionError> {
        self.set_state(tenant, server, HomeState::ReadOnly, operation).await
    }

    /// Allows reads and writes again.
    ///
    /// # Errors
    /// [`ProvisionError::HomeAbsent`]; [`ProvisionError::Overtaken`] where a newer operation has frozen or thawed it.
    pub async fn thaw(
        &self,
        tenant: TenantId,
        server: &ServerName,
        operation: OperationId,
    ) -> Result<Home, ProvisionError> {
        self.set_state(tenant, server, HomeState::Active, operation).await
    }

    /// Removes the home and everything in it, in bounded transactions; where it fails in the middle, the rest is left for the
    /// next call. Answers false where the home is gone already, or never was.
    ///
    /// # Errors
    /// [`ProvisionError::NotFrozen`].
    pub async fn drop(&self, tenant: TenantId, server: &ServerName) -> Result<bool, ProvisionError> {
        if self.drop_own(tenant, server).await?.is_some() {
            return Ok(true);
        }
        loop {
            let mut tx = self.begin(server).await?;
            registry::lock_work(&mut tx, tenant).await?;
            let entry = registry::find(&mut tx, tenant, self.participant).await?;
            let Some((house, state)) = entry.and_then(|entry| entry.place) else {
                return Ok(false);
            };
            if state != HomeState::Frozen {
                return Err(ProvisionError::NotFrozen);
            }
            let dropped = self.drop_some(&mut tx, tenant, &house).await?;
            tx.commit().await?;
            if dropped {
                tracing::info!(tenant = %tenant, server = %server, "a home was dropped");
                return Ok(true);
            }
        }
    }

    /// The home's state and version.
    ///
    /// # Errors
    /// [`ProvisionError::HomeAbsent`].
    pub async fn describe(&self, tenant: TenantId, server: &ServerName) -> Result<Home, ProvisionError> {
        let mut own = self.own(tenant, server).await?;
        let mut tx = self.begin_at(&mut own, server).await?;
        Ok(self.find(&mut tx, tenant, server).await?.1)
    }

    /// Whether a data server answers, asked now. One is enough: those that are away must not take the others from whoever
    /// asks for homes there.
    ///
    /// # Errors
    /// When none answers.
    pub async fn ping(&self) -> Result<(), ProvisionError> {
        let asked = self.servers.values();
        let asked: Vec<_> = asked
            .map(|pool| Box::pin(sqlx::query("SELECT 1").execute(pool)))
            .collect();
        if !asked.is_empty() {
            select_ok(asked).await?;
        }
        Ok(())
    }

    /// Ends all connections, after those in use have come back.
    pub async fn shutdown(self) {
        for pool in self.servers.into_values() {
            pool.close().await;
        }
    }

    /// A shared house with room, which is built where there is none.
    async fn shared(&self, tx: &mut Transaction<'static, Postgres>) -> Result<House, ProvisionError> {
        if let Some(house) = registry::shared_with_room(tx, self.participant, SHARED_HOMES_MAX).await? {
            return Ok(house);
        }
        registry::lock_shared(tx).await?;
        // Another may have built one while we waited.
        if let Some(house) = registry::shared_with_room(tx, self.participant, SHARED_HOMES_MAX).await? {
            return Ok(house);
        }
        let number = registry::shared_newest(tx).await? + 1;
        self.build(tx, house::pooled_name(number), Placement::Shared, Wall::Policy)
            .await
    }

    /// Builds a house at the newest version.
    async fn build(
        &self,
        tx: &mut PgConnection,
        schema: String,
        placement: Placement,
        wall: Wall,
    ) -> Result<House, ProvisionError> {
        let newest = self.migrations.newest();
        let built = House {
            house_id: Uuid::now_v7(),
            schema,
            placement,
            version: newest,
            deferred_version: self.migrations.deferred_until(newest),
        };
        let migrations = || self.migrations.after(0);
        house::build(tx, &built.schema, wall, migrations(), migrations()).await?;
        registry::insert_house(tx, self.participant, &built).await?;
        Ok(built)
    }

    /// Removes of a frozen home a bounded number of tables where the house is the tenant's own, else of rows. Whether nothing
    /// is left.
    async fn drop_some(
        &self,
        tx: &mut Transaction<'static, Postgres>,
        tenant: TenantId,
        house: &House,
    ) -> Result<bool, ProvisionError> {
        if house.placement == Placement::Shared {
            // Before the tables: who migrates the house takes them in this order too.
            registry::lock_tenant(tx, tenant).await?;
            if rows::clear(tx, &house.schema, tenant, DROPPED_ROWS_MAX).await? > 0 {
                return Ok(false);
            }
            registry::forget_home(tx, tenant, self.participant).await?;
            return Ok(true);
        }
        // Before its tables: who migrates the house takes them in this order too.
        registry::lock_house(tx, house.house_id).await?;
        if house::drop_tables(tx, &house.schema, DROPPED_TABLES_MAX).await? > 0 {
            return Ok(false);
        }
        house::drop(tx, &house.schema).await?;
        registry::forget_home(tx, tenant, self.participant).await?;
        registry::forget_house(tx, house.house_id).await?;
        Ok(true)
    }

    async fn set_state(
        &self,
        tenant: TenantId,
        server: &ServerName,
        state: HomeState,
        operation: OperationId,
    ) -> Result<Home, ProvisionError> {
        let mut own = self.own(tenant, server).await?;
        let mut tx = self.begin_at(&mut own, server).await?;
        registry::lock_work(&mut tx, tenant).await?;
        registry::lock_tenant(&mut tx, tenant).await?;
        let (entry, home) = self.find(&mut tx, tenant, server).await?;
        if home.state == HomeState::Spare {
            return Err(ProvisionError::HomeAbsent);
        }
        if entry.has_overtaken(operation) {
            return Err(ProvisionError::Overtaken);
        }
        registry::set_state(&mut tx, tenant, self.participant, state, operation).await?;
        tx.commit().await?;
        Ok(Home { state, ..home })
    }

    async fn find(
        &self,
        tx: &mut PgConnection,
        tenant: TenantId,
        server: &ServerName,
    ) -> Result<(Entry, Home), ProvisionError> {
        let entry = registry::find(tx, tenant, self.participant).await?;
        let entry = entry.ok_or(ProvisionError::HomeAbsent)?;
        let home = entry.home(tenant, server).ok_or(ProvisionError::HomeAbsent)?;
        Ok((entry, home))
    }

    /// Bounds the transactions that enter a home from now on. An order older than the last one changes nothing.
    ///
    /// `statement_timeout_ms`: longest time for one statement; the deadline alone bounds it where absent.
    ///
    /// # Errors
    /// [`ProvisionError::HomeAbsent`].
    pub async fn set_limits(
        &self,
        tenant: TenantId,
        server: &ServerName,
        order: OperationId,
        statement_timeout_ms: Option<i32>,
    ) -> Result<Home, ProvisionError> {
        let mut own = self.own(tenant, server).await?;
        let mut tx = self.begin_at(&mut own, server).await?;
        let (_, home) = self.find(&mut tx, tenant, server).await?;
        registry::set_limits(&mut tx, tenant, self.participant, order, statement_timeout_ms).await?;
        tx.commit().await?;
        Ok(home)
    }

    /// Whether homes can be built on a data server, asked now.
    ///
    /// # Errors
    /// [`ProvisionError::ServerNotMigrated`] where schema `rowhouse` is not at the version of this code.
    pub async fn check(&self, server: &ServerName) -> Result<(), ProvisionError> {
        let mut tx = self.begin(server).await?;
        if platform::is_current(&mut tx).await? {
            Ok(())
        } else {
            Err(ProvisionError::ServerNotMigrated(server.to_string()))
        }
    }

    pub(super) fn pool(&self, server: &ServerName) -> Result<&PgPool, ProvisionError> {
        let pool = self.servers.get(server.as_str());
        pool.ok_or_else(|| ProvisionError::ServerUnknown(server.to_string()))
    }

    pub(super) async fn begin(&self, server: &ServerName) -> Result<Transaction<'static, Postgres>, ProvisionError> {
        Ok(self.pool(server)?.begin_with(BEGIN).await?)
    }
}

/// A key of [`Provisioner::servers`] as calls name the server.
pub(super) fn server_named(name: &str) -> Result<ServerName, ProvisionError> {
    name.parse().map_err(|_| ProvisionError::ServerUnknown(name.to_owned()))
}
