//! The only way to tenants' data.
//!
//! - [`db`]: [`TenantDb`], the pools of the data servers.
//! - [`databases`]: pools of the databases that are one tenant's alone.
//! - [`tx`]: [`TenantTx`], a transaction inside one tenant's home.

pub mod databases;
pub mod db;
pub mod tx;

mod exchange;
mod flight;
mod tidy;

pub use databases::OwnDatabases;
pub use db::{Mode, TenantDb, TenantDbConfig};
pub use tx::TenantTx;
