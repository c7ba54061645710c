//! Configuration from the environment (twelve-factor): every fault is reported at once, by variable name, and never a
//! value.
//!
//! - [`env`]: [`Env`], the reader.
//! - [`secret`]: secrets that do not print.
//! - [`section`]: sections that several services share.

pub mod env;
pub mod secret;
pub mod section;

pub use env::{Env, Faults, Variable};
pub use secret::Secret;
