//! What a mail needs and no message may carry: addresses, and the secret of an invitation's link.

pub(crate) mod actions;
mod rpc;
mod wire;

use chrono::{DateTime, Utc};
use rowhouse_types::{TenantId, UserId};

use crate::link::Token;

pub(crate) use rpc::MailDataRpc;

/// What the mail of an invitation needs.
#[derive(Debug)]
pub(crate) struct InvitationMail {
    pub(crate) email: String,
    pub(crate) tenant_name: String,
    pub(crate) token: Token,
    pub(crate) expires: DateTime<Utc>,
}

/// To whom a mail about something in a tenant goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addressee {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    /// Whether it is a platform operator who acted there.
    pub(crate) platform: bool,
}

#[cfg(test)]
mod tests;
