//! Why a home could not be built or changed.

use rowhouse_types::Placement;

/// Why a home could not be built or changed. Nothing of the failed call stays: each is one transaction. Only of a tenant's
/// own database something may stay, and the next call goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// No URL is configured for this data server.
    #[error("data server {0} is not configured")]
    ServerUnknown(String),
    /// Schema `rowhouse` is not there, or not at the newest version.
    #[error("data server {0} is not migrated")]
    ServerNotMigrated(String),
    /// In placement `shared` a home is a line, and none is built ahead.
    #[error("placement {} has no spare homes", .0.as_str())]
    NoSpares(Placement),
    /// The tenant has no home of this participant here.
    #[error("the tenant has no home here")]
    HomeAbsent,
    /// The operation's home was dropped since; only another operation builds a new one.
    #[error("the operation's home has been dropped")]
    HomeDropped,
    /// The tenant has a home here that another operation built, or in another placement.
    #[error("the tenant has a home here already")]
    HomeExists,
    /// A newer operation has ordered the home's state; the ids of a tenant's operations only grow.
    #[error("a newer operation has changed the home's state")]
    Overtaken,
    /// Only a frozen home is dropped.
    #[error("the home is not frozen")]
    NotFrozen,
    /// The home was migrated by a newer version of the code.
    #[error("the home has version {0}, which this code does not know")]
    VersionUnknown(i32),
    /// The code has no migration of this version.
    #[error("there is no version {0} to migrate to")]
    TargetUnknown(i32),
    /// Houses could not be migrated; the others are.
    #[error("{count} houses could not be migrated, the first of them: {first}")]
    HousesFailed {
        /// How many.
        count: i64,
        /// Which, and what PostgreSQL answered.
        first: String,
    },
    /// A server failed while those of others were seen to.
    #[error("data server {server} was not migrated to the end")]
    ServerFailed {
        /// Its registered name.
        server: String,
        /// What failed there first.
        source: Box<ProvisionError>,
    },
    /// A transaction held the tenant, or a migration's lock was not to be had, for too long. Trying again may help.
    #[error("the home is busy")]
    Busy,
    /// A migration of the participant does not keep the rules of tenants' tables.
    #[error("migration rule broken: {0}")]
    Rule(String),
    /// Schema `rowhouse` of the tenant's own database could not be brought to the newest version.
    #[error("schema rowhouse of the tenant's database was not migrated")]
    Platform(#[source] sqlx::migrate::MigrateError),
    /// The cluster lacks the functions that make the logins of tenants' own databases.
    #[error("the data server's cluster is older than cluster/roles.sql: run what it lacks of it")]
    ClusterOutdated,
    /// A login's password could not be sealed.
    #[error("a login's password was not sealed")]
    Seal(#[source] rowhouse_seal::Error),
    /// Some passwords of logins are not sealed by any of the master keys.
    #[error("the passwords of {count} databases are sealed by none of the master keys, {first} the first of them")]
    Unopened {
        /// How many.
        count: usize,
        /// The name of one of the databases, and of its login.
        first: String,
    },
    /// What the registry says makes no sense.
    #[error("the registry of homes is damaged: {0}")]
    Damaged(String),
    /// The server refused or did not answer.
    #[error("the data server failed")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::migrate::MigrateError> for ProvisionError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::Platform(error)
    }
}

impl From<rowhouse_seal::Error> for ProvisionError {
    fn from(error: rowhouse_seal::Error) -> Self {
        Self::Seal(error)
    }
}

impl From<sqlx::Error> for ProvisionError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code());
        match code.as_deref() {
            // lock_not_available, deadlock_detected, object_in_use.
            Some("55P03" | "40P01" | "55006") => Self::Busy,
            // duplicate_database: a dead process's CREATE DATABASE has ended while ours waited for it.
            Some("42P04") => Self::Busy,
            _ => Self::Database(error),
        }
    }
}
