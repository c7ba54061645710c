//! Real servers for development and tests.
//!
//! - [`servers`]: finds, installs, starts and stops private PostgreSQL, PgBouncer, Redis and RabbitMQ.
//! - [`suite`]: starts the suite's own processes and can kill them.
//! - [`fixture`]: what one test owns: a pair of databases, a virtual host, a Redis prefix.
//! - [`smtp`]: a mail server that accepts everything and lets it be read.
//!
//! A dev-dependency of tests and the floor that `cargo xtask` stands on; no service depends on it.

pub mod fixture;
pub mod servers;
pub mod smtp;
pub mod suite;
