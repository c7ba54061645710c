//! One's own account: the password, the address, the log-ins, the tenants one belongs to.
//!
//! What is opened under a password (a log-in, an acceptance, a session in another tenant) holds the account's row in
//! share mode until it is committed. Who changes the password or ends the account's sessions locks that row, so they
//! wait for what is being opened and then see it; what begins later sees the new password.

pub(crate) mod actions;
pub(crate) mod email;
pub(crate) mod failed;
pub(crate) mod logs;
pub(crate) mod password;
mod rpc;
mod wire;

use rowhouse_types::Email;

use crate::identity::{NewPassword, OfferedPassword};
use crate::link::Token;
use crate::second_factor::Code;
pub(crate) use rpc::{AccountRpc, RecoveryRpc};

/// A change of one's password.
#[derive(Debug)]
pub(crate) struct PasswordChange {
    pub(crate) current: OfferedPassword,
    pub(crate) new: NewPassword,
}

/// The replacement of a password that was forgotten.
#[derive(Debug)]
pub(crate) struct Reset {
    pub(crate) token: Token,
    pub(crate) new: NewPassword,
}

/// A change of one's address.
#[derive(Debug)]
pub(crate) struct EmailChange {
    pub(crate) new: Email,
    pub(crate) current: OfferedPassword,
    /// Of the second factor, where one was sent.
    pub(crate) code: Option<Code>,
}

#[cfg(test)]
mod tests;
