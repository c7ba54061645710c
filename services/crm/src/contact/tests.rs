//! Store and actions against real homes, through `PgBouncer` in transaction mode.

mod audit;
mod bench;
mod catalogue;
mod change;
mod create;
mod isolation;
mod list;
mod quota;
mod reach;
mod reassign;
mod rpc;
mod stream;
