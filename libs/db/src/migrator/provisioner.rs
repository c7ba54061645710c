//! One participant's homes on all data servers.

use std::collections::BTreeMap;
use std::time::Duration;

use rowhouse_config::Secret;
use rowhouse_context::ServiceName;
use rowhouse_types::{HomeState, OperationId, Placement, ServerName, TenantId};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::registry::{self, Entry, House};
use super::{ProvisionError, TenantMigrations, house};
use crate::control;
use crate::home::Home;

/// Homes that are built at once on one server. Four in parallel took 20-25 ms each on two cores.
const CONNECTIONS_MAX: u32 = 4;

/// Longest wait for one of them.
const ACQUIRE_MAX: Duration = Duration::from_secs(10);

/// Longest wait for older transactions, or for another that works on the same home; those who want to enter a home that is
/// being frozen wait behind us that long at most. And how long a process that hangs can keep everybody waiting.
const BOUNDS: &str = "SET LOCAL lock_timeout = '30s'; SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// Tenants read at once when all homes are migrated.
const BATCH: i64 = 500;

/// Builds and changes the homes of one participant. Every call is one transaction and may be repeated.
#[derive(Clone, Debug)]
pub struct Provisioner {
    participant: ServiceName,
    migrations: TenantMigrations,
    servers: BTreeMap<String, PgPool>,
}

// === impl Provisioner ===

impl Provisioner {
    /// A provisioner. Connections are opened when they are needed.
    ///
    /// `owner_urls`: the login `rowhouse_owner`, direct, by the data server's registered name.
    ///
    /// # Errors
    /// When a URL cannot be read; the error does not hold it.
    #[expect(
        clippy::unused_async,
        reason = "a pool belongs to a runtime, which an async function is sure to have"
    )]
    pub async fn connect(
        participant: ServiceName,
        owner_urls: &BTreeMap<String, Secret>,
        migrations: TenantMigrations,
    ) -> Result<Self, ProvisionError> {
        let mut servers = BTreeMap::new();
        for (name, url) in owner_urls {
            let pool = PgPoolOptions::new()
                .max_connections(CONNECTIONS_MAX)
                .acquire_timeout(ACQUIRE_MAX)
                .connect_lazy_with(control::options(url)?);
            servers.insert(name.clone(), pool);
        }
        Ok(Self {
            participant,
            migrations,
            servers,
        })
    }

    /// Makes the tenant's home ready, at the newest version: builds it where there is none. A repeated call with the same
    /// operation answers with the home that the first one built, in whatever state it is by now.
    ///
    /// # Errors
    /// [`ProvisionError::PlacementNotBuilt`] for all placements but `schema`; [`ProvisionError::HomeExists`] where another
    /// operation built the home; [`ProvisionError::HomeDropped`] where this operation's home was dropped since.
    pub async fn prepare(
        &self,
        tenant: TenantId,
        server: &ServerName,
        placement: Placement,
        operation: OperationId,
    ) -> Result<Home, ProvisionError> {
        if placement != Placement::Schema {
            return Err(ProvisionError::PlacementNotBuilt(placement));
        }
        let mut tx = self.begin(server).await?;
        registry::lock_work(&mut tx, tenant).await?;
        if let Some(entry) = registry::find(&mut tx, tenant, self.participant).await? {
            let own = entry.operation == operation.uuid();
            match entry.home(tenant, server) {
                Some(home) if own && home.placement == placement => return Ok(home),
                Some(_) => return Err(ProvisionError::HomeExists),
                None if own => return Err(ProvisionError::HomeDropped),
                None => {}
            }
        }
        let built = House {
            house_id: Uuid::now_v7(),
            schema: house::schema_name(tenant),
            placement,
            version: self.migrations.newest(),
            state: HomeState::Active,
        };
        house::create(&mut tx, &built.schema).await?;
        house::migrate(&mut tx, &built.schema, tenant, self.migrations.after(0)).await?;
        let generation = registry::insert(&mut tx, tenant, self.participant, &built, operation).await?;
        tx.commit().await?;
        tracing::info!(tenant = %tenant, server = %server, version = built.version, "a home was built");
        let entry = Entry {
            generation,
            operation: operation.uuid(),
            state_operation: None,
            house: Some(built),
        };
        entry.home(tenant, server).ok_or(ProvisionError::HomeAbsent)
    }

    /// Brings the tenant's home to the newest version.
    ///
    /// # Errors
    /// [`ProvisionError::VersionUnknown`] where newer code migrated it; [`ProvisionError::Busy`] where a table's lock was
    /// not to be had.
    pub async fn migrate(&self, tenant: TenantId, server: &ServerName) -> Result<Home, ProvisionError> {
        let mut tx = self.begin(server).await?;
        registry::lock_work(&mut tx, tenant).await?;
        let (entry, home) = self.find(&mut tx, tenant, server).await?;
        let newest = self.migrations.newest();
        if home.version > newest {
            return Err(ProvisionError::VersionUnknown(home.version));
        }
        let Some(house) = entry.house.filter(|house| house.version < newest) else {
            return Ok(home);
        };
        house::migrate(&mut tx, &house.schema, tenant, self.migrations.after(house.version)).await?;
        registry::set_version(&mut tx, house.house_id, newest).await?;
        tx.commit().await?;
        tracing::info!(tenant = %tenant, server = %server, from = house.version, to = newest, "a home was migrated");
        Ok(Home {
            version: newest,
            ..home
        })
    }

    /// Brings every home of the participant on every server to the newest version, one after the other. Returns how many
    /// were behind.
    ///
    /// # Errors
    /// The first home's that fails; those before it stay migrated.
    pub async fn migrate_all(&self) -> Result<usize, ProvisionError> {
        let mut migrated = 0;
        for (name, pool) in &self.servers {
            let server: ServerName = name.parse().map_err(|_| ProvisionError::ServerUnknown(name.clone()))?;
            let mut after = Uuid::nil();
            loop {
                let mut connection = pool.acquire().await?;
                let newest = self.migrations.newest();
                let tenants = registry::behind(&mut connection, self.participant, newest, after, BATCH).await?;
                drop(connection);
                let Some(last) = tenants.last() else { break };
                after = last.uuid();
                for tenant in tenants {
                    self.migrate(tenant, &server).await?;
                    migrated += 1;
                }
            }
        }
        Ok(migrated)
    }

    /// Forbids reads and writes. Returns only when no transaction that had entered the home before is left.
    ///
    /// # Errors
    /// [`ProvisionError::HomeAbsent`]; [`ProvisionError::Overtaken`] where a newer operation has frozen or thawed it; [`ProvisionError::Busy`] when an older transaction does not end within 30 s, and
    /// nothing has changed then.
    pub async fn freeze(
        &self,
        tenant: TenantId,
        server: &ServerName,
        operation: OperationId,
    ) -> Result<Home, ProvisionError> {
        self.set_state(tenant, server, HomeState::Frozen, operation).await
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

    /// Removes the home and everything in it. Answers false where it is gone already, or never was.
    ///
    /// # Errors
    /// [`ProvisionError::NotFrozen`].
    pub async fn drop(&self, tenant: TenantId, server: &ServerName) -> Result<bool, ProvisionError> {
        let mut tx = self.begin(server).await?;
        registry::lock_work(&mut tx, tenant).await?;
        let entry = registry::find(&mut tx, tenant, self.participant).await?;
        let Some(house) = entry.and_then(|entry| entry.house) else {
            return Ok(false);
        };
        if house.state != HomeState::Frozen {
            return Err(ProvisionError::NotFrozen);
        }
        house::drop(&mut tx, &house.schema).await?;
        registry::forget(&mut tx, tenant, self.participant, house.house_id).await?;
        tx.commit().await?;
        tracing::info!(tenant = %tenant, server = %server, "a home was dropped");
        Ok(true)
    }

    /// The home's state and version.
    ///
    /// # Errors
    /// [`ProvisionError::HomeAbsent`].
    pub async fn describe(&self, tenant: TenantId, server: &ServerName) -> Result<Home, ProvisionError> {
        let mut tx = self.begin(server).await?;
        Ok(self.find(&mut tx, tenant, server).await?.1)
    }

    /// Whether every data server answers, asked now.
    ///
    /// # Errors
    /// The first server's that does not.
    pub async fn ping(&self) -> Result<(), ProvisionError> {
        for pool in self.servers.values() {
            sqlx::query("SELECT 1").execute(pool).await?;
        }
        Ok(())
    }

    /// Ends all connections, after those in use have come back.
    pub async fn shutdown(self) {
        for pool in self.servers.into_values() {
            pool.close().await;
        }
    }

    async fn set_state(
        &self,
        tenant: TenantId,
        server: &ServerName,
        state: HomeState,
        operation: OperationId,
    ) -> Result<Home, ProvisionError> {
        let mut tx = self.begin(server).await?;
        registry::lock_work(&mut tx, tenant).await?;
        registry::lock_tenant(&mut tx, tenant).await?;
        let (entry, home) = self.find(&mut tx, tenant, server).await?;
        if entry.has_overtaken(operation) {
            return Err(ProvisionError::Overtaken);
        }
        registry::set_state(&mut tx, tenant, self.participant, state, operation).await?;
        tx.commit().await?;
        Ok(Home { state, ..home })
    }

    async fn find(
        &self,
        tx: &mut Transaction<'static, Postgres>,
        tenant: TenantId,
        server: &ServerName,
    ) -> Result<(Entry, Home), ProvisionError> {
        let entry = registry::find(tx, tenant, self.participant).await?;
        let entry = entry.ok_or(ProvisionError::HomeAbsent)?;
        let home = entry.home(tenant, server).ok_or(ProvisionError::HomeAbsent)?;
        Ok((entry, home))
    }

    async fn begin(&self, server: &ServerName) -> Result<Transaction<'static, Postgres>, ProvisionError> {
        let pool = self.servers.get(server.as_str());
        let pool = pool.ok_or_else(|| ProvisionError::ServerUnknown(server.to_string()))?;
        let mut tx = pool.begin().await?;
        sqlx::raw_sql(BOUNDS).execute(&mut *tx).await?;
        Ok(tx)
    }
}
