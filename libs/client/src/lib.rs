//! Calls to the other services of the suite.
//!
//! - [`peer`]: [`Peer`], a channel to one service that shows who calls. [`identity`]: what it shows.
//! - [`mod@request`]: requests with request id, deadline and trace; on behalf of a user where there is one.
//! - [`mod@failure`]: what a peer's status means for our own caller.
//! - [`rights`]: what a principal may do, cached under a lease that auth grants.
//! - [`keys`]: the keys of access tokens.
//! - [`directory`]: where tenants live.
//! - [`limits`]: what tenants may use. [`quota`]: permits for their calls.

pub mod directory;
pub mod failure;
pub mod identity;
pub mod keys;
pub mod limits;
pub mod peer;
pub mod quota;
pub mod request;
pub mod rights;

mod outage;

#[cfg(test)]
mod fake;

pub use directory::DirectoryClient;
pub use failure::failure;
pub use identity::{Identity, IdentityError};
pub use keys::{KeysClient, KeysSource};
pub use limits::LimitsClient;
pub use peer::{IdentifiedChannel, Peer, PeerError};
pub use quota::{Quotas, RateExceeded};
pub use request::{request, request_as_user};
pub use rights::authority::RightsAuthority;
pub use rights::client::RightsClient;
pub use rights::{Rights, RightsError, RightsQuery, RightsSource, Standing, reach, reaches};
