//! Programs that act in a tenant. A service account has a name and a role; API keys are exchanged for access tokens.
//!
//! To everybody else it is a user: its id, written as a user's, is the subject of its tokens, and the id of the key stands
//! where a session's would. So rights, their revocation and the audit log know it as they know people (`rights/store.rs`
//! looks into both tables); what is about a person's account finds none. It cannot be the last administrator.

pub(crate) mod actions;
pub(crate) mod keys;
mod rpc;
mod store;
#[cfg(test)]
mod tests;
mod wire;

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rowhouse_config::Secret;
use rowhouse_types::{ApiKeyId, Etag, IdempotencyKey, ServiceAccountId, SessionId, TenantId, Text, UserId};

use crate::error::Error;
use crate::random;
use crate::role::TenantRole;
pub(crate) use rpc::ServiceAccountRpc;
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::{
    counts, display_name, prune, revoke_all_keys_made_by, revoke_keys_made_by, revoke_keys_of_role, used_from,
    with_role,
};

/// Service accounts that a tenant can have.
pub(crate) const ACCOUNTS_MAX: u32 = 100;

/// Keys of one account that are good: two while one is replaced, and some to spare.
pub(crate) const KEYS_MAX: u32 = 10;

/// For how many days a key may be good, and for how many it is where nothing is said.
const LIFETIME_DAYS: std::ops::RangeInclusive<i32> = 1..=366;
const LIFETIME_DAYS_DEFAULT: i32 = 90;

/// What every key begins with, so that scanners find leaked ones.
const KEY_PREFIX: &str = "rhk_";

/// Longest key that is looked at, in bytes; ours have 47.
const KEY_BYTES_MAX: usize = 128;

/// First characters of a key that are shown in lists: the mark, and 48 of its 256 bits.
const SHOWN_CHARACTERS: usize = 12;

/// How exactly the last use of a key is known.
const USE_KNOWN: Duration = Duration::from_secs(60);

/// A service account's name.
pub(crate) type AccountName = Text<200>;

/// A program that acts in a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceAccount {
    pub(crate) id: ServiceAccountId,
    pub(crate) name: String,
    pub(crate) role: TenantRole,
    pub(crate) state: AccountState,
    pub(crate) created: DateTime<Utc>,
    pub(crate) updated: DateTime<Utc>,
    pub(crate) etag: Etag,
}

/// Whether a service account may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccountState {
    Active,
    Disabled,
}

/// The text is not the state of a service account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the state of a service account")]
pub(crate) struct ParseAccountStateError;

/// A service account that is to be added.
#[derive(Clone, Debug)]
pub(crate) struct NewAccount {
    pub(crate) name: AccountName,
    pub(crate) role: TenantRole,
    /// By what the call is recognised when it comes again.
    pub(crate) request: Option<IdempotencyKey>,
}

/// A change of a service account. What is `None` stays.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) id: ServiceAccountId,
    pub(crate) name: Option<AccountName>,
    pub(crate) role: Option<TenantRole>,
    pub(crate) state: Option<AccountState>,
    pub(crate) etag: Option<Etag>,
}

/// A key that is to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewKey {
    pub(crate) account: ServiceAccountId,
    /// For how many days it is good.
    pub(crate) days: i32,
    /// By what the call is recognised when it comes again.
    pub(crate) request: Option<IdempotencyKey>,
}

/// A key as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedKey {
    pub(crate) id: ApiKeyId,
    pub(crate) account: ServiceAccountId,
    pub(crate) prefix: String,
    pub(crate) created: DateTime<Utc>,
    pub(crate) expires: DateTime<Utc>,
    pub(crate) revoked: Option<DateTime<Utc>>,
    pub(crate) used: Option<DateTime<Utc>>,
}

/// An API key: opaque, 256 random bits.
#[derive(Clone, Debug)]
pub(crate) struct ApiKey {
    text: Secret,
}

/// Whose key was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyHolder {
    pub(crate) tenant: TenantId,
    pub(crate) account: ServiceAccountId,
    pub(crate) key: ApiKeyId,
    /// When the key ends.
    pub(crate) ends: DateTime<Utc>,
}

/// The subject of the tokens of a service account.
pub(crate) fn user_of(account: ServiceAccountId) -> UserId {
    UserId::from_uuid(account.uuid())
}

/// What stands for a session in the tokens that are issued for a key.
pub(crate) fn session_of(key: ApiKeyId) -> SessionId {
    SessionId::from_uuid(key.uuid())
}

// === impl AccountState ===

impl AccountState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
        }
    }
}

impl FromStr for AccountState {
    type Err = ParseAccountStateError;

    fn from_str(text: &str) -> Result<Self, ParseAccountStateError> {
        match text {
            "active" => Ok(Self::Active),
            "disabled" => Ok(Self::Disabled),
            _ => Err(ParseAccountStateError),
        }
    }
}

// === impl ApiKey ===

impl ApiKey {
    fn generate() -> Result<Self, Error> {
        let secret = random::text().map_err(Error::fault)?;
        Ok(Self {
            text: Secret::new(format!("{KEY_PREFIX}{secret}")),
        })
    }

    /// Any text may be presented; one that cannot be ours is not looked up.
    pub(crate) fn presented(text: &str) -> Option<Self> {
        let ours = text.starts_with(KEY_PREFIX) && text.len() <= KEY_BYTES_MAX;
        ours.then(|| Self {
            text: Secret::new(text.to_owned()),
        })
    }

    /// The text for its holder. It goes nowhere else.
    pub(crate) fn expose(&self) -> &str {
        self.text.expose()
    }

    fn shown(&self) -> String {
        self.text.expose().chars().take(SHOWN_CHARACTERS).collect()
    }

    fn hash(&self) -> Vec<u8> {
        random::sha256(self.text.expose())
    }
}

#[cfg(test)]
mod rules {
    use super::*;

    #[test]
    fn a_key_shows_its_first_characters_and_prints_nothing_more() {
        let key = ApiKey::generate().unwrap();
        assert_eq!((key.expose().len(), key.shown().len()), (47, SHOWN_CHARACTERS));
        assert!(key.expose().starts_with(&key.shown()));
        assert!(!format!("{key:?}").contains(&key.expose()[SHOWN_CHARACTERS..]));
        for foreign in ["", "rhr_abc", "RHK_abc", &format!("rhk_{}", "a".repeat(200))] {
            assert!(ApiKey::presented(foreign).is_none(), "{foreign:?}");
        }
    }
}
