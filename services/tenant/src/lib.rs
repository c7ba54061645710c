//! The directory: tenants, where they live, and the operations that lead them through their life.
//!
//! - [`config`]: the variables of each subcommand.
//! - [`App`]: the wiring of the process.
//! - `tenant`: the resource: create, read, change, suspend, resume.
//! - `operation`: sagas; their steps, their state in the database, the runner that resumes them.
//! - `spare`: ids issued ahead, with homes that stand already.
//! - `directory`: where a tenant's home is, for the other services.
//! - `error`: what can go wrong, as facts.

mod app;
pub mod config;
mod directory;
mod error;
mod operation;
mod spare;
mod tenant;

pub use app::App;

/// The migrations of schema `tenant` in the control database.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/control");
