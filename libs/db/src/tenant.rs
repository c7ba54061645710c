//! The only way to tenants' data.
//!
//! - [`db`]: [`TenantDb`], the pools of the data servers.
//! - [`tx`]: [`TenantTx`], a transaction inside one tenant's home.

pub mod db;
pub mod tx;

mod exchange;
mod flight;
mod tidy;

pub use db::{Mode, TenantDb, TenantDbConfig};
pub use tx::TenantTx;
