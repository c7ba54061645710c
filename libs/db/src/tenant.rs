//! The only way to tenants' data.
//!
//! - [`db`]: [`TenantDb`], the data servers.
//! - [`databases`]: pools of the databases that are one tenant's alone.
//! - [`lane`]: [`Lanes`], how a server's connections are divided among tenants.
//! - [`tx`]: [`TenantTx`], a transaction inside one tenant's home.

pub mod databases;
pub mod db;
pub mod lane;
pub mod tx;

mod bound;
mod exchange;
mod flight;
mod permit;
mod ping;
mod server;
mod tidy;
mod wait;

pub(crate) mod homes;
pub(crate) mod login;
pub(crate) mod own_place;

pub use databases::OwnDatabases;
pub use db::{Mode, TenantDb, TenantDbConfig};
pub use lane::Lanes;
pub use tx::TenantTx;
