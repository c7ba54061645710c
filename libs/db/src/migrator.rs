//! Tenants' homes: built, brought to the newest version, frozen, thawed and dropped, with the owner's credentials.
//!
//! - [`migrations`]: [`TenantMigrations`], what a participant's homes consist of.
//! - [`provisioner`]: [`Provisioner`], one participant's homes on all data servers.
//! - [`fleet`]: many houses brought to a version, by any number of processes at once.
//! - [`drift`]: whether houses still look as their migrations made them.
//! - `upkeep`: what homes forget by and by.
//! - [`error`]: why it could not be done, [`ProvisionError`].

pub mod drift;
pub mod error;
pub mod fleet;
pub mod migrations;
pub mod provisioner;

mod database;
mod deferred;
mod house;
mod ledger;
mod login;
mod registry;
mod rows;
mod upkeep;

pub use drift::{Drift, DriftPage};
pub use error::ProvisionError;
pub use fleet::{Batch, BatchOrder, Census, Cohort, Fault, FleetVersion, HouseEntry, HousePage, HouseQuery, Resealed};
pub(crate) use house::own_name;
pub use migrations::{Deferred, Migration, TenantMigrations};
pub use provisioner::Provisioner;
