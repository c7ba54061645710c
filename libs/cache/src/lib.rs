//! Redis under tenant-prefixed keys: it saves work and never decides anything.
//!
//! - [`key`]: [`Key`], which always names its owner: one tenant, or the platform.
//! - [`cache`]: [`Cache`], whose every operation is bounded in time and cannot fail.
//! - [`envelope`]: what is stored around a value, so that an answer for another key is recognised.

pub mod cache;
pub mod envelope;
pub mod key;
mod manager;
mod switch;

pub use cache::{Cache, ConnectError};
pub use key::Key;
