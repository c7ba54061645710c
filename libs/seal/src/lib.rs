//! Secrets at rest.
//!
//! - [`sealer`]: [`Sealer`], secrets that are read again: sealed under a key derived from the master key.
//! - [`keys`]: [`MasterKeys`], one that takes another's place; [`Sealers`], sealed by the one and opened by any.
//! - [`scram`]: what PostgreSQL and `PgBouncer` keep instead of a password.
//! - [`error`]: why it could not be done, [`Error`].

pub mod error;
pub mod keys;
pub mod scram;
pub mod sealer;

pub use error::Error;
pub use keys::{MasterKeys, Sealers};
pub use sealer::{Sealer, derive};
