//! Tokens verified, permissions compared: pure rules of who may do what. No I/O.
//!
//! - [`token`]: users' access tokens.
//! - [`service_token`]: tokens by which services know each other.
//! - [`key`]: Ed25519 keys, and signing. [`key_id`]: which of them has signed.
//! - [`permission`]: permissions, grants with wildcards, and when one set covers another.
//! - [`role`]: the built-in roles.
//! - [`scope`]: how far a grant reaches.
//! - [`testing`]: hostile tokens, for tests of whatever verifies tokens.

mod jws;
pub mod key;
pub mod key_id;
pub mod permission;
pub mod role;
pub mod scope;
pub mod service_token;
pub mod testing;
pub mod token;

pub use key::{KeyError, PublicKey, SigningKey};
pub use key_id::KeyId;
pub use permission::{Grant, Grants, Permission};
pub use role::Role;
pub use scope::Scope;
pub use service_token::{ServiceSigner, ServiceVerifier};
pub use token::{AccessClaims, AccessTokenVerifier, TokenError, VerifiedToken};
