//! Many houses brought to a version, by any number of processes at once.
//!
//! A call is one bounded batch: it takes houses one by one, each in a transaction of its own, and remembers none. What a
//! house's transaction leaves is either the old version or the new one, and the ledger says which.

mod all;
mod bound;
mod houses;
mod own;
mod reseal;

use std::time::Duration;

use rowhouse_types::{Placement, ServerName, TenantId};
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgDatabaseError};
use sqlx::{Postgres, Transaction};
use tokio::time::Instant;
use uuid::Uuid;

pub use self::houses::{HouseEntry, HousePage, HouseQuery};
pub use self::reseal::Resealed;
use super::house::Wall;
use super::ledger::{self, Binds};
use super::registry::{self, House};
use super::{ProvisionError, Provisioner, deferred, house};
use crate::error::is_servers;

/// How often a house is tried in one round, where waiting may help: its locks were not to be had.
pub(super) const ATTEMPTS_MAX: i32 = 8;

/// Longest wait for a lock in a wave, a table's or a tenant's. Whoever wants the same waits behind us, so it is tried again
/// rather than waited for.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long one call of [`Provisioner::migrate_all`] takes on houses before it counts again.
const BATCH_MAX: Duration = Duration::from_secs(30);

/// Faults that a batch answers with.
const FAULTS_MAX: i64 = 20;

/// Faults that a description holds.
const DESCRIBED_FAULTS_MAX: i64 = 100;

/// Tenants at most that are told to have an older home.
const OLDER_MAX: usize = 1_000;

/// Longest text of a fault, in characters.
const MESSAGE_CHARS_MAX: usize = 300;

/// Which houses are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cohort {
    /// Those of these tenants; a shared one as a whole.
    Tenants(Vec<TenantId>),
    /// So many of a hundred, always the same ones.
    Percent(u8),
}

/// What a batch is to do.
#[derive(Clone, Debug)]
pub struct BatchOrder {
    /// Which houses.
    pub cohort: Cohort,
    /// The version to bring them to.
    pub target: i32,
    /// Houses to take at most.
    pub houses_max: u32,
    /// Names a round of tries: what failed in another round is tried again.
    pub round: Uuid,
    /// Longest wait for a lock.
    pub lock_timeout: Duration,
    /// No house is begun later.
    pub until: Instant,
}

/// What a batch has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Houses that it has brought on.
    pub migrated: u32,
    /// What is behind now.
    pub census: Census,
    /// What could not be done in this round: 20 at most.
    pub faults: Vec<Fault>,
}

/// How many houses are behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    /// Of those asked for.
    pub behind: i64,
    /// Of these, those that failed and are not tried again in this round.
    pub given_up: i64,
    /// Of all.
    pub behind_in_all: i64,
    /// Of all, those that failed and are not tried again in this round, whichever wave they failed in.
    pub given_up_in_all: i64,
}

/// Why a house could not be brought on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its schema.
    pub house: String,
    /// The tenant whose own it is.
    pub tenant: Option<TenantId>,
    /// The version that it was to have.
    pub version: i32,
    /// What PostgreSQL answered; empty where it was not asked.
    pub sqlstate: String,
    /// Names of migrations, tables, columns and constraints; never a row's values.
    pub message: String,
    /// How often it was tried in the round.
    pub attempts: i32,
    /// Whether the round tries it no more.
    pub given_up: bool,
}

/// Houses of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetVersion {
    /// Of their tables.
    pub version: i32,
    /// Up to which deferred steps are done.
    pub deferred_version: i32,
    /// How many.
    pub houses: i64,
    /// Homes in them.
    pub homes: i64,
}

/// What goes into the ledger when a house fails.
#[derive(Debug)]
pub(super) struct Cause {
    pub(super) sqlstate: String,
    pub(super) message: String,
    /// Whether trying again may help.
    pub(super) may_pass: bool,
}

// === impl Census ===

impl Census {
    /// Whether the houses asked for are at the version, or have failed for good.
    #[must_use]
    pub fn is_through(&self) -> bool {
        self.behind <= self.given_up
    }
}

// === impl BatchOrder ===

impl BatchOrder {
    /// Every house, in a round of its own.
    #[must_use]
    pub fn all(target: i32) -> Self {
        Self {
            cohort: Cohort::Percent(100),
            target,
            houses_max: u32::MAX,
            round: Uuid::new_v4(),
            lock_timeout: LOCK_TIMEOUT,
            until: Instant::now() + BATCH_MAX,
        }
    }
}

// === impl Provisioner ===

impl Provisioner {
    /// The newest version that this code has.
    #[must_use]
    pub fn newest(&self) -> i32 {
        self.migrations.newest()
    }

    /// Houses of a server by version, and what could not be done, 100 at most.
    ///
    /// # Errors
    /// When the server is not known or does not answer.
    pub async fn describe_fleet(&self, server: &ServerName) -> Result<(Vec<FleetVersion>, Vec<Fault>), ProvisionError> {
        let mut connection = self.pool(server)?.acquire().await?;
        let versions = ledger::versions(&mut connection, self.participant).await?;
        let faults = ledger::faults(&mut connection, self.participant, None, DESCRIBED_FAULTS_MAX).await?;
        Ok((versions, faults))
    }

    /// The versions of this code that have deferred steps, the oldest first.
    #[must_use]
    pub fn deferred_versions(&self) -> Vec<i32> {
        self.migrations.deferred(self.newest()).collect()
    }

    /// Tenants of a server whose homes are older than a version, those of spares too; `None` where they are more than 1,000.
    ///
    /// # Errors
    /// When the server is not known or does not answer.
    pub async fn older_homes(
        &self,
        server: &ServerName,
        version: i32,
    ) -> Result<Option<Vec<TenantId>>, ProvisionError> {
        let mut connection = self.pool(server)?.acquire().await?;
        let limit = i64::try_from(OLDER_MAX + 1).unwrap_or(i64::MAX);
        let older = ledger::older(&mut connection, self.participant, version, limit).await?;
        Ok((older.len() <= OLDER_MAX).then_some(older))
    }

    /// Brings houses of a server that are behind to a version. A house that fails is recorded, and the next one taken.
    ///
    /// # Errors
    /// [`ProvisionError::TargetUnknown`]; and when the server itself fails. What was done stays done.
    pub async fn migrate_batch(&self, server: &ServerName, order: &BatchOrder) -> Result<Batch, ProvisionError> {
        let binds = self.binds(order)?;
        let (mut after, mut taken, mut migrated) = (Uuid::nil(), 0, 0);
        while taken < order.houses_max && Instant::now() < order.until {
            let mut tx = self.begin(server).await?;
            let Some(house) = ledger::claim(&mut tx, &binds, after).await? else {
                break;
            };
            after = house.house_id;
            taken += 1;
            let brought_on = match house.placement {
                Placement::Database => {
                    self.bring_own_on(tx, server, &house, order.target, order.lock_timeout)
                        .await
                }
                Placement::Schema | Placement::Shared => {
                    self.bring_on(tx, server, &house, order.target, order.lock_timeout)
                        .await
                }
            };
            match brought_on {
                Ok(true) => migrated += 1,
                Ok(false) => {}
                Err(error) => self.record(server, &binds, &house, error).await?,
            }
        }
        let mut connection = self.pool(server)?.acquire().await?;
        Ok(Batch {
            migrated,
            census: ledger::census(&mut connection, &binds).await?,
            faults: ledger::faults(&mut connection, self.participant, Some(order.round), FAULTS_MAX).await?,
        })
    }

    /// Brings one house to a version and does its deferred steps; false where another has to do those.
    ///
    /// `tx`: holds the house's line.
    pub(super) async fn bring_on(
        &self,
        tx: Transaction<'_, Postgres>,
        server: &ServerName,
        house: &House,
        target: i32,
        lock_timeout: Duration,
    ) -> Result<bool, ProvisionError> {
        self.bring_tables_on(tx, server, house, target, lock_timeout).await?;
        if house.deferred_version >= self.migrations.deferred_until(target) {
            return Ok(house.version < target);
        }
        let options = self.pool(server)?.connect_options();
        self.finish(&options, house, target, lock_timeout).await
    }

    /// Brings a house's tables to a version.
    ///
    /// `tx`: holds the house's line.
    pub(super) async fn bring_tables_on(
        &self,
        mut tx: Transaction<'_, Postgres>,
        server: &ServerName,
        house: &House,
        target: i32,
        lock_timeout: Duration,
    ) -> Result<(), ProvisionError> {
        if house.version >= target {
            tx.rollback().await?;
            return Ok(());
        }
        match self.change(&mut tx, house, target, lock_timeout).await {
            Ok(()) => tx.commit().await?,
            Err(error) => {
                // So that the house is free again when the fault is recorded.
                drop(tx.rollback().await);
                return Err(error);
            }
        }
        tracing::info!(house = house.schema, server = %server, from = house.version, to = target, "a house was migrated");
        Ok(())
    }

    /// Does a house's deferred steps up to a version; false where another has to.
    ///
    /// `options`: to the database where the house is.
    pub(super) async fn finish(
        &self,
        options: &PgConnectOptions,
        house: &House,
        target: i32,
        lock_timeout: Duration,
    ) -> Result<bool, ProvisionError> {
        let migrations = self.migrations.between(house.deferred_version, target);
        deferred::run(options, house, migrations, lock_timeout).await
    }

    async fn change(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        house: &House,
        target: i32,
        lock_timeout: Duration,
    ) -> Result<(), ProvisionError> {
        let wall = match house.placement {
            Placement::Shared => Wall::Policy,
            Placement::Schema | Placement::Database => match registry::tenant_of(tx, house.house_id).await? {
                Some(tenant) => Wall::Number(tenant),
                None => return Err(ProvisionError::Damaged("a house has no tenant".to_owned())),
            },
        };
        let migrations = self.migrations.between(house.version, target);
        house::migrate(tx, &house.schema, wall, lock_timeout, migrations).await?;
        ledger::set_version(tx, house.house_id, target).await?;
        if house.deferred_version >= self.migrations.deferred_until(target) {
            ledger::forget_fault(tx, house.house_id).await?;
        }
        Ok(())
    }

    /// Puts a house's fault into the ledger. One of the server is passed on: it is not the house's.
    async fn record(
        &self,
        server: &ServerName,
        binds: &Binds<'_>,
        house: &House,
        error: ProvisionError,
    ) -> Result<(), ProvisionError> {
        let names = self
            .migrations
            .between(house.version.min(house.deferred_version), binds.order.target);
        let names: Vec<&str> = names.map(|migration| migration.name).collect();
        let cause = Cause::of(&error, &names.join(", ")).ok_or(error)?;
        tracing::warn!(
            house = house.schema, server = %server, to = binds.order.target, sqlstate = cause.sqlstate,
            cause = cause.message, "a house was not migrated"
        );
        let mut connection = self.pool(server)?.acquire().await?;
        ledger::record(&mut connection, binds, house.house_id, &cause).await?;
        Ok(())
    }

    fn binds<'a>(&self, order: &'a BatchOrder) -> Result<Binds<'a>, ProvisionError> {
        if !(1..=self.newest()).contains(&order.target) {
            return Err(ProvisionError::TargetUnknown(order.target));
        }
        Ok(Binds {
            participant: self.participant,
            order,
            deferred: self.migrations.deferred_until(order.target),
        })
    }
}

// === impl Cause ===

impl Cause {
    /// What is wrong with the house; `None` where the server is at fault.
    ///
    /// `migrations`: names of those that were tried.
    fn of(error: &ProvisionError, migrations: &str) -> Option<Self> {
        let cause = |sqlstate: &str, what: &str, may_pass| {
            let message = format!("migrations {migrations}: {what}");
            Some(Self {
                sqlstate: sqlstate.to_owned(),
                message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
                may_pass,
            })
        };
        let fault = match error {
            ProvisionError::Busy => return cause("55P03", "a lock was not to be had", true),
            ProvisionError::Rule(_) | ProvisionError::Damaged(_) | ProvisionError::HomeAbsent => {
                return cause("", &error.to_string(), false);
            }
            ProvisionError::Database(fault)
            | ProvisionError::Platform(MigrateError::Execute(fault) | MigrateError::ExecuteMigration(fault, _)) => {
                fault
            }
            ProvisionError::Platform(ledger) => return cause("", &format!("schema rowhouse: {ledger}"), false),
            _ => return None,
        };
        let sqlx::Error::Database(fault) = fault else {
            return None;
        };
        let fault = fault.try_downcast_ref::<PgDatabaseError>()?;
        if is_servers(fault.code()) {
            return None;
        }
        cause(fault.code(), &names(fault), false)
    }
}

/// What the fault is about. PostgreSQL's own text may quote values of rows.
fn names(fault: &PgDatabaseError) -> String {
    let named = [
        ("constraint", fault.constraint()),
        ("table", fault.table()),
        ("column", fault.column()),
        ("in", fault.routine()),
    ];
    let named: Vec<String> = named
        .into_iter()
        .filter_map(|(kind, name)| name.map(|name| format!("{kind} {name}")))
        .collect();
    named.join(", ")
}
