//! Logs, traces and metrics: set up once, carried through gRPC and AMQP.
//!
//! - [`init`] and [`Guard`]: logs to stderr, traces to a collector where one is configured.
//! - [`trace`]: W3C trace context in and out.
//! - [`metrics`]: the recorder, its buckets, and the text that Prometheus scrapes.
//!
//! Secrets, tokens, bodies and mail addresses are never logged. Other people's crates print some of those when asked for
//! details, so they say no more than `info`, whatever the filter asks for.

mod fields;
mod filter;
mod guard;
pub mod metrics;
pub mod trace;

pub use guard::{Error, Guard, init};
