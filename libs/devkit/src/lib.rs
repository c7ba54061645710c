//! Real servers for development and tests.
//!
//! - [`servers`]: finds, installs, starts and stops private PostgreSQL, PgBouncer, Redis and RabbitMQ.
//! - [`suite`]: starts the suite's own processes for a test and can kill them.
//! - [`resident`]: the same processes for `cargo xtask up`, which outlive whoever started them.
//! - [`fixture`]: what one test owns: a pair of databases, a virtual host, a Redis prefix.
//! - [`pooler`]: a PgBouncer of one test, with lanes for its database. [`own_server`]: a data server of one test, with both.
//! - [`gate`]: a way to a server that can be slowed down or closed, or on which connections are cut.
//! - [`template`]: the migrated databases that tests clone.
//! - [`smtp`]: a mail server that accepts everything and lets it be read.
//! - [`caller`], [`journey`]: typed clients of the suite, and its main job step by step.
//! - [`authority`]: certificates for tests of TLS. [`volume`]: files as a pod has them. [`clock`]: clocks that differ.
//! - [`log`]: what a test's thread logs. [`hostile`]: texts that no field may stumble over.
//! - [`torture`]: the frame of a torture test: seed, rounds, its line of result.
//! - [`checkout`], [`stack`], [`port`], [`mark`], [`spawn`], [`wait`], [`secrets`]: what these stand on.
//!
//! A dev-dependency of tests and the floor that `cargo xtask` stands on; no service depends on it.

pub mod authority;
pub mod caller;
pub mod checkout;
pub mod clock;
pub mod cluster;
pub mod fixture;
pub mod gate;
pub mod hostile;
pub mod http;
pub mod journey;
pub mod log;
pub mod mark;
pub mod migrate;
pub mod own_server;
pub mod pooler;
pub mod port;
pub mod resident;
mod scram;
pub mod secrets;
pub mod servers;
pub mod settings;
pub mod smtp;
pub mod spawn;
pub mod stack;
pub mod suite;
pub mod template;
pub mod torture;
pub mod volume;
pub mod wait;
