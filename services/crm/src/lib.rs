//! crm: contacts, in each tenant's own home.
//!
//! - [`app`]: wiring of the subcommands. [`config`]: their variables.
//! - `contact`: contacts over gRPC. `export`: all of them in a stream, for the worker.
//! - `audit`: the log in each home: read, sealed, told of refusals and of operators who were let in.
//! - `request`: calls that may be repeated, for whatever creates something.
//! - `participant`: builds, migrates, freezes and drops homes for the tenant service; in the process `provision` alone.
//! - `error`: what can go wrong, and what the caller hears of it.

pub mod app;
mod audit;
pub mod config;
mod contact;
mod error;
mod export;
mod migrations;
mod participant;
mod request;

pub use app::App;
pub use migrations::MIGRATIONS;
