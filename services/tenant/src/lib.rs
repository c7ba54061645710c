//! The directory: tenants, where they live, and the operations that lead them through their life.
//!
//! - [`config`]: the variables of each subcommand.
//! - [`App`]: the wiring of the process.
//! - `tenant`: the resource: create, read, change, suspend, resume.
//! - `operation`: sagas; their steps, their state in the database, the runner that resumes them.
//! - `server`: data servers: which there are, and which take new tenants.
//! - `migration`: runs of migrations over the homes of a participant: waves, budget, drift.
//! - `plan`: what tenants may use.
//! - `purge`: the end of a deleted tenant, and the record of what was removed.
//! - `spare`: ids issued ahead, with homes that stand already.
//! - `directory`: where a tenant's home is, for the other services.
//! - `audit`: who changed what, and why.
//! - `error`: what can go wrong, as facts.

mod app;
mod audit;
pub mod config;
mod directory;
mod error;
mod migration;
mod operation;
mod plan;
mod purge;
mod request;
mod server;
mod spare;
mod tenant;

pub use app::App;

/// The migrations of schema `tenant` in the control database.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/control");
