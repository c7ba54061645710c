//! The stack every call passes before it reaches a service, one layer per file.
//!
//! - [`stack`]: THE order, and why each layer stands where it stands.
//! - [`security`]: what the stack needs to know callers and their rights.
//! - [`extract`]: what it hands to the services: [`ctx`] and [`rights`].

mod answer;
mod body;
mod credentials;
pub mod extract;
mod layer;
mod rpc;
pub mod security;
pub mod stack;
#[cfg(test)]
mod tests;

pub use extract::{ctx, rights};
pub use security::{Access, Limits, Refusal, RefusalLog, Security};
