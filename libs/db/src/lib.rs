//! The only crate that opens a connection to PostgreSQL.
//!
//! Tenants' data, through `PgBouncer` in transaction mode:
//! - [`tenant`]: [`TenantDb`] and [`TenantTx`], the only way to tenants' data.
//! - [`statement`]: [`Statement`] and [`Sql`], what a store says.
//! - [`bind`], [`row`]: values on their way in and out.
//! - [`home`]: where a tenant lives, and the [`Directory`] that knows.
//!
//! Control data, direct: [`control`]; [`requests`]: calls that may be repeated.
//!
//! Schemas: [`platform`] (schema `rowhouse` of every data database) and [`migrator`] (tenants' homes), with the owner's
//! credentials, which no serving process has.
//!
//! Besides: [`paging`] (page tokens) and [`testing`] (what stores' tests check their statements and homes with).

pub mod bind;
pub mod control;
pub mod error;
pub mod home;
pub mod migrator;
pub mod paging;
pub mod platform;
pub mod requests;
pub mod row;
pub mod statement;
pub mod tenant;
pub mod testing;

mod login;
mod wire;

pub use bind::{Bind, Value};
pub use control::{ControlDb, database_beside, migrate_control};
pub use error::Error;
pub use home::{Directory, DirectoryError, Home};
pub use migrator::{
    Batch, BatchOrder, Census, Cohort, Deferred, Drift, DriftPage, Fault, FleetVersion, HouseEntry, HousePage,
    HouseQuery, Migration, ProvisionError, Provisioner, Resealed, TenantMigrations,
};
pub use platform::migrate_platform;
pub use row::{Field, FromRow, Row};
pub use rowhouse_seal::MasterKeys;
pub use statement::{AnyStatement, Sql, Statement, Variants};
pub use tenant::{Lanes, Mode, OwnDatabases, TenantDb, TenantDbConfig, TenantTx};
/// Built-in types of PostgreSQL: `Type::UUID`, `Type::TEXT`.
pub use tokio_postgres::types::Type;
