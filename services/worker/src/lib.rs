//! What goes on after the call: reports and e-mails.
//!
//! - [`config`]: the variables of each subcommand.
//! - `app`: [`App`], the wiring.
//! - `report`: the resource: run, look, download; and the files themselves, one module a kind.
//! - `job`: what is done with messages, one module a queue.
//! - `email`: texts, and the way to the mail server.
//! - `files`: where reports are kept.
//! - `peer`: what auth and crm are asked.
//! - `audit`: the record of changes.
//! - `request`: calls that are repeated.
//! - `error`: what can go wrong, as facts.

mod app;
mod audit;
pub mod config;
mod email;
mod error;
mod files;
mod job;
mod peer;
mod purge;
mod report;
mod request;
#[cfg(test)]
mod testing;

pub use app::App;

/// The migrations of schema `worker` in the control database.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/control");
