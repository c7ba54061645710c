//! One's own account: the password, the log-ins, the tenants one belongs to.
//!
//! What is opened under a password (a log-in, an acceptance, a session in another tenant) holds the account's row in
//! share mode until it is committed. Who changes the password or ends the account's sessions locks that row, so they
//! wait for what is being opened and then see it; what begins later sees the new password.

pub(crate) mod actions;
mod rpc;
mod wire;

use crate::identity::{NewPassword, OfferedPassword};
pub(crate) use rpc::AccountRpc;

/// A change of one's password.
#[derive(Debug)]
pub(crate) struct PasswordChange {
    pub(crate) current: OfferedPassword,
    pub(crate) new: NewPassword,
}

#[cfg(test)]
mod tests;
