//! Why a secret could not be sealed or opened. Nothing here holds a secret or a key.

/// Why a secret could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The cryptographic library refused.
    #[error("a key cannot be derived")]
    Derivation,
    /// The cryptographic library refused, or has no random bytes.
    #[error("a secret cannot be sealed")]
    Sealing,
    /// It was sealed under another key, for another purpose or owner, or was changed since.
    #[error("a secret cannot be opened: was the master key changed?")]
    Opening,
}
