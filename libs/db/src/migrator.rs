//! Tenants' homes: built, brought to the newest version, frozen, thawed and dropped, with the owner's credentials.
//!
//! - [`migrations`]: [`TenantMigrations`], what a participant's homes consist of.
//! - [`provisioner`]: [`Provisioner`], one participant's homes on all data servers.
//! - [`error`]: why it could not be done, [`ProvisionError`].

pub mod error;
pub mod migrations;
pub mod provisioner;

mod database;
mod house;
mod registry;
mod rows;

pub use error::ProvisionError;
pub(crate) use house::own_name;
pub use migrations::{Migration, TenantMigrations};
pub use provisioner::Provisioner;
