//! Mails about accounts: links that replace a forgotten password or prove a new address, and notices of what was
//! changed (NIST SP 800-63B-4, section 4.6, asks for notices).
//!
//! A mail is a row and an event, written in the transaction of what it is about. The worker asks for the rest when it
//! writes the mail; the link's token is derived at that moment.

mod actions;
pub(crate) mod store;

use std::str::FromStr;

use chrono::{DateTime, Utc};
use rowhouse_types::{AccountMailId, UserId};

use crate::link::Token;
pub(crate) use actions::{for_mail, notify, notify_of_operator, request_reset, send_link};

/// The event that a mail is to be sent. It carries the id alone.
pub(crate) const WANTED: &str = "auth.account_mail.v1";

/// Mails that one address, or one account, is sent of one kind within an hour.
pub(crate) const PER_HOUR_MAX: i64 = 5;

/// What a mail is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    PasswordReset,
    EmailChange,
    PasswordChanged,
    EmailChanged,
    SecondFactorOn,
    SecondFactorOff,
    OperatorMade,
    OperatorUnmade,
}

/// A change of who is a platform operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OperatorChange {
    /// Whose role it is.
    pub(crate) operator: UserId,
    /// The operator who has made the change; `None` where a command has.
    pub(crate) actor: Option<UserId>,
}

/// The same, for those who read of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OperatorNews {
    pub(crate) operator: UserId,
    pub(crate) email: String,
    /// The address of the operator who has made the change, or their id where they have no account any more; `None` where a command
    /// has.
    pub(crate) actor: Option<String>,
}

/// The text is not a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of mail")]
pub(crate) struct ParseKindError;

/// What a mail needs.
#[derive(Debug)]
pub(crate) struct AccountMail {
    pub(crate) kind: Kind,
    pub(crate) email: String,
    pub(crate) display_name: String,
    /// For those that hold a link.
    pub(crate) token: Option<Token>,
    /// For those about operators.
    pub(crate) news: Option<OperatorNews>,
    pub(crate) created: DateTime<Utc>,
    pub(crate) expires: DateTime<Utc>,
}

/// A link that somebody has followed.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    pub(crate) id: AccountMailId,
    /// Whose account it is about.
    pub(crate) user: UserId,
    /// The address that it was sent to: the account's own for a reset, however it was typed.
    pub(crate) email: String,
}

// === impl Kind ===

impl Kind {
    const ALL: [Self; 8] = [
        Self::PasswordReset,
        Self::EmailChange,
        Self::PasswordChanged,
        Self::EmailChanged,
        Self::SecondFactorOn,
        Self::SecondFactorOff,
        Self::OperatorMade,
        Self::OperatorUnmade,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::PasswordReset => "password_reset",
            Self::EmailChange => "email_change",
            Self::PasswordChanged => "password_changed",
            Self::EmailChanged => "email_changed",
            Self::SecondFactorOn => "second_factor_on",
            Self::SecondFactorOff => "second_factor_off",
            Self::OperatorMade => "operator_made",
            Self::OperatorUnmade => "operator_unmade",
        }
    }

    /// How long the link is good, or the notice worth sending, in hours. A reset gives the account to whoever reads
    /// the mail, so it is short (OWASP, Forgot Password Cheat Sheet).
    pub(crate) fn lifetime_hours(self) -> i32 {
        match self {
            Self::PasswordReset => 1,
            Self::EmailChange
            | Self::PasswordChanged
            | Self::EmailChanged
            | Self::SecondFactorOn
            | Self::SecondFactorOff
            | Self::OperatorMade
            | Self::OperatorUnmade => 24,
        }
    }
}

impl FromStr for Kind {
    type Err = ParseKindError;

    fn from_str(text: &str) -> Result<Self, ParseKindError> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or(ParseKindError)
    }
}
