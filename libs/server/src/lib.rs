//! What every serving process needs around its services.
//!
//! - [`Server`]: listeners, health, reflection, admin port, drain.
//! - [`Services`]: the gRPC services of one listener.
//! - [`cli`]: a service's `main`: subcommands, configuration, exit codes.
//! - [`signal`]: SIGTERM and SIGINT.
//! - [`provider`]: the one TLS provider of the process.

mod admin;
pub mod cli;
mod health;
mod listener;
pub mod provider;
mod readiness;
mod reflection;
mod server;
mod services;
pub mod signal;
#[cfg(test)]
mod tests;

pub use rowhouse_middleware::{Limits, Security, ctx, rights};
pub use server::{Error, Server};
pub use services::{MESSAGE_BYTES_MAX, Services};
pub use signal::shutdown_signal;
