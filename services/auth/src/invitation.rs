//! Invitations: a link by mail that makes somebody a member, once.

mod actions;
mod store;

use chrono::{DateTime, Utc};
use rowhouse_types::{Email, InvitationId, OperationId, TenantId, UserId};

use crate::attempt::device::DeviceSecret;
use crate::identity::OfferedPassword;
use crate::link::Token;
use crate::role::TenantRole;
pub(crate) use actions::{accept, issue};
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::{
    find, find_open, for_mail, of_operation, open_page, prune, revoke, revoke_all_of_sender, revoke_of_role,
    revoke_of_sender, sent_within_a_day,
};

/// How long an invitation can be accepted, in days.
pub(crate) const LIFETIME_DAYS: i32 = 7;

/// The event that an invitation was created. It carries the id alone: the link is derived when the mail is written.
pub(crate) const CREATED: &str = "auth.invitation_created.v1";

/// An invitation as its sender sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invitation {
    pub(crate) id: InvitationId,
    pub(crate) email: String,
    pub(crate) role: TenantRole,
    pub(crate) created: DateTime<Utc>,
    pub(crate) expires: DateTime<Utc>,
}

/// An invitation that is to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) id: InvitationId,
    pub(crate) tenant: TenantId,
    pub(crate) email: &'a Email,
    pub(crate) role: &'a TenantRole,
    /// The member who sends it: it is good only as long as they may give its role.
    pub(crate) invited_by: Option<UserId>,
    /// The provisioning operation, for a tenant's first administrator.
    pub(crate) operation: Option<OperationId>,
}

/// Where a page of invitations begins: after this one.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Cursor {
    pub(crate) created: DateTime<Utc>,
    pub(crate) id: InvitationId,
}

/// An acceptance, as it comes in.
#[derive(Debug)]
pub(crate) struct Acceptance {
    pub(crate) token: Token,
    pub(crate) display_name: crate::identity::DisplayName,
    /// The account's, however short it is; of a new account, the one that it gets.
    pub(crate) password: OfferedPassword,
    /// The secret of the device, where it has one.
    pub(crate) device: Option<DeviceSecret>,
}

/// Who joined what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) user: UserId,
    pub(crate) tenant: TenantId,
}

#[cfg(test)]
mod tests;
