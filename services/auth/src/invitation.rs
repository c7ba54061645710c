//! Invitations: a link by mail that makes somebody a member, once.

mod actions;
mod store;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use rowhouse_auth_kit::Role;
use rowhouse_config::Secret;
use rowhouse_config::secret::SecretKey;
use rowhouse_types::{Email, InvitationId, OperationId, TenantId, UserId};

use crate::error::Error;
use crate::identity::NewPassword;
use crate::master::{self, Purpose};
pub(crate) use actions::{accept, issue};
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::{
    find, find_open, for_mail, of_operation, open_page, revoke, revoke_of_sender, revoke_to, sent_within_a_day,
};

/// How long an invitation can be accepted, in days.
pub(crate) const LIFETIME_DAYS: i32 = 7;

/// Longest token that is looked at, in bytes; ours have 43.
const TOKEN_BYTES_MAX: usize = 128;

/// The event that an invitation was created. It carries the id alone: the link is derived when the mail is written.
pub(crate) const CREATED: &str = "auth.invitation_created.v1";

/// An invitation as its sender sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invitation {
    pub(crate) id: InvitationId,
    pub(crate) email: String,
    pub(crate) role: Role,
    pub(crate) created: DateTime<Utc>,
    pub(crate) expires: DateTime<Utc>,
}

/// An invitation that is to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) id: InvitationId,
    pub(crate) tenant: TenantId,
    pub(crate) email: &'a Email,
    pub(crate) role: Role,
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
    pub(crate) password: NewPassword,
}

/// Who joined what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) user: UserId,
    pub(crate) tenant: TenantId,
}

/// The secret of a link.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    text: Secret,
}

/// The text cannot be a token of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the token from the invitation's link")]
pub(crate) struct ParseTokenError;

/// Derives the tokens of links.
#[derive(Debug)]
pub(crate) struct InvitationTokens {
    key: hmac::Key,
}

// === impl InvitationTokens ===

impl InvitationTokens {
    pub(crate) fn new(master: &SecretKey) -> Result<Self, Error> {
        let key = master::derive(master, Purpose::Invitations)?;
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
        })
    }

    /// The token of an invitation: HMAC of its id and nonce. Nobody stores it; whoever holds the key and the row can
    /// make it again.
    pub(crate) fn token(&self, id: InvitationId, nonce: &[u8]) -> Token {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(id.uuid().as_bytes());
        context.update(nonce);
        Token {
            text: Secret::new(URL_SAFE_NO_PAD.encode(context.sign())),
        }
    }
}

// === impl Token ===

impl Token {
    pub(crate) fn parse(text: &str) -> Result<Self, ParseTokenError> {
        if text.is_empty() || text.len() > TOKEN_BYTES_MAX {
            return Err(ParseTokenError);
        }
        Ok(Self {
            text: Secret::new(text.to_owned()),
        })
    }

    /// The text for the link. It goes nowhere else.
    pub(crate) fn expose(&self) -> &str {
        self.text.expose()
    }

    pub(crate) fn hash(&self) -> Vec<u8> {
        crate::random::sha256(self.text.expose())
    }
}

#[cfg(test)]
mod rules {
    use super::*;

    #[test]
    fn a_token_follows_from_key_id_and_nonce_and_from_nothing_less() {
        let tokens = |first: &str| {
            let master = SecretKey::from_base64(&format!("{first}{}=", "A".repeat(42))).unwrap();
            InvitationTokens::new(&master).unwrap()
        };
        let (one, other) = (InvitationId::generate(), InvitationId::generate());
        let token = |first, id, nonce: &[u8]| tokens(first).token(id, nonce).expose().to_owned();
        assert_eq!(token("A", one, &[1; 32]), token("A", one, &[1; 32]));
        assert_ne!(token("A", one, &[1; 32]), token("B", one, &[1; 32]));
        assert_ne!(token("A", one, &[1; 32]), token("A", other, &[1; 32]));
        assert_ne!(token("A", one, &[1; 32]), token("A", one, &[2; 32]));
        assert_eq!(token("A", one, &[1; 32]).len(), 43);
    }

    #[test]
    fn a_token_does_not_print() {
        assert!(!format!("{:?}", Token::parse("hunter2").unwrap()).contains("hunter2"));
        assert!(Token::parse("").is_err() && Token::parse(&"a".repeat(129)).is_err());
    }
}

#[cfg(test)]
mod tests;
