//! libs/db on a real PostgreSQL behind a real PgBouncer in transaction mode.
//!
//! - [`bench`]: what a test owns. [`notes`]: the tenant tables and statements that the tests use.
//! - `homes`: building, migrating, freezing, dropping. `catalogue`: the audit of a home (T08), statements against it.
//! - `enter`: who gets in. `transactions`: what TenantTx promises. `deadlines`. `drops`: T02. `walls`: T05. `fence`.
//! - `shared`: houses of many tenants. `database`: tenants with a database of their own. `spares`: homes built ahead.
//! - `lanes`: two choices, permits, slots. `bulk`: back ends that everybody meets. `neighbours`: T30. `pings`: which data servers
//!   answer.
//! - `fleet`: houses migrated in waves, with faults. `houses`: listed with their versions. `drift`: compared with the template.
//!   `wave`: T25.
//! - `tls`: towards PgBouncer, and from there on, as `deploy/` has it.
//! - `upkeep`: what homes forget.
//! - `metrics`. `round_trips`. `torture`: T01. `control`: the services' own schemas. `requests`: calls that are repeated there.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test that calls them"
)]

mod bench;
mod bulk;
mod catalogue;
mod control;
mod database;
mod deadlines;
mod drift;
mod drops;
mod enter;
mod fence;
mod fleet;
mod homes;
mod houses;
mod lanes;
mod metrics;
mod neighbours;
mod notes;
mod pings;
mod requests;
mod round_trips;
mod shared;
mod spares;
mod tls;
mod torture;
mod transactions;
mod upkeep;
mod walls;
mod wave;
