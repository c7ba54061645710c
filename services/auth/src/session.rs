//! Log-ins and the refresh tokens that keep them alive.
//!
//! Refresh tokens form a family per session, each used once and naming its successor. Who uses a token again either has
//! lost the answer, or one of two who hold the token is a thief; which of the two, nobody can tell.
//!
//! - Within 30 s of the first use, and while the successor was never used, it was a lost answer: the successor is
//!   revoked and replaced. So of parallel refreshes with one token, exactly one result stays good.
//! - Otherwise, and for a token that was revoked, two parties hold tokens of one family: the session ends.
//!
//! That needs every token that was used for as long as its session may live, so a session is refreshed at most twice as often as
//! its access tokens need ([`REFRESH_EVERY_S`]), beside some in a row; and an account has at most 200 sessions ([`room`]).

pub(crate) mod actions;
pub(crate) mod ended;
mod failed;
pub(crate) mod manage;
pub(crate) mod refresh;
pub(crate) mod room;
mod rpc;
mod store;
mod wire;

use chrono::{DateTime, Utc};
use rowhouse_config::Secret;
use rowhouse_types::{Email, SessionId, TenantId, UserId};

use crate::attempt::device::DeviceSecret;
use crate::error::Error;
use crate::identity::OfferedPassword;
use crate::random;
use crate::second_factor::Code;
pub(crate) use ended::{Ended, end_of_account, end_of_member};
pub(crate) use rpc::AuthRpc;
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::{known_from, prune};
pub(crate) use wire::pair as to_message;

/// How long after its first use a refresh token may be used again, while its successor was not, in seconds.
pub(crate) const GRACE_S: f64 = 30.0;

/// How long a session lives without being refreshed, in days.
pub(crate) const IDLE_DAYS: i32 = 14;

/// How long a session lives, in days; then the person logs in again.
pub(crate) const LIFETIME_DAYS: i32 = 90;

/// How often a session may be refreshed as long as it lives, in seconds: half the time that an access token is valid.
const REFRESH_EVERY_S: f64 = 150.0;

/// How often beside that, whenever: nobody who uses a session as it is meant gets there. With the others it is 62,000 rows a
/// session at most. One that is opened from another goes on with that one's count: whoever has used up a session gets no second
/// allowance for the same time by going to another tenant.
const REFRESHES_FREE: f64 = 10_000.0;

/// What every refresh token begins with, so that scanners find leaked ones.
const REFRESH_PREFIX: &str = "rhr_";

/// Longest refresh token that is looked at, in bytes; ours have 47.
const REFRESH_BYTES_MAX: usize = 128;

/// An attempt to log in.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) email: Email,
    pub(crate) password: OfferedPassword,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) second_factor: Option<Code>,
    /// The secret of the device, where it has one.
    pub(crate) device: Option<DeviceSecret>,
}

/// A session, for whom and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) user: UserId,
    /// `None` for a platform operator.
    pub(crate) tenant: Option<TenantId>,
}

/// A session as its person sees it in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: SessionId,
    pub(crate) tenant: Option<TenantId>,
    /// Whether it is the one that asks.
    pub(crate) current: bool,
    /// Where it was opened from.
    pub(crate) address: Option<String>,
    pub(crate) created: DateTime<Utc>,
    pub(crate) refreshed: DateTime<Utc>,
    pub(crate) expires: DateTime<Utc>,
    /// Whether a platform operator has opened it, to act as the person.
    pub(crate) impersonated: bool,
}

/// A refresh token that was made, and what it keeps alive.
pub(crate) struct Kept {
    pub(crate) session: Session,
    /// When the session ends, however often it is refreshed.
    pub(crate) ends: DateTime<Utc>,
    pub(crate) refresh_token: RefreshToken,
}

/// What a log-in or a refresh gives.
pub(crate) struct Pair {
    pub(crate) session: Session,
    pub(crate) access_token: String,
    pub(crate) expires: DateTime<Utc>,
    pub(crate) refresh_token: RefreshToken,
    /// By a log-in: the secret by which the device is known at the next one.
    pub(crate) device: Option<DeviceSecret>,
}

/// A refresh token: opaque, 256 random bits.
#[derive(Clone, Debug)]
pub(crate) struct RefreshToken {
    text: Secret,
}

/// Which of an account's sessions are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All but the caller's.
    Others,
    All,
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    Logout,
    RefreshReuse,
    MemberDisabled,
    /// The membership has ended, whoever ended it: the audit log says who.
    MemberRemoved,
    /// The person ended it from another session.
    Revoked,
    PasswordChanged,
    /// The account has opened too many since.
    TooMany,
}

/// What the database says about a refresh token that is presented, read under the session's lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Presented {
    /// It was replaced after a lost answer.
    pub(crate) revoked: bool,
    pub(crate) expired: bool,
    /// SHA-256 of its successor, where it was used.
    pub(crate) successor: Option<Vec<u8>>,
    pub(crate) successor_used: bool,
    /// It was used for the first time less than [`GRACE_S`] ago.
    pub(crate) within_grace: bool,
}

/// What to do about a refresh token that is presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The first use: issue its successor.
    Rotate,
    /// The answer was lost: revoke this successor, and issue another.
    Replace(Vec<u8>),
    /// Two parties hold tokens of this family: end it.
    End,
    /// It is merely too old.
    Refuse,
}

// === impl Presented ===

impl Presented {
    pub(crate) fn verdict(&self) -> Verdict {
        match &self.successor {
            _ if self.revoked => Verdict::End,
            Some(successor) if self.within_grace && !self.successor_used => Verdict::Replace(successor.clone()),
            Some(_) => Verdict::End,
            None if self.expired => Verdict::Refuse,
            None => Verdict::Rotate,
        }
    }
}

// === impl Scope ===

impl Scope {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Others => "others",
            Self::All => "all",
        }
    }
}

// === impl EndReason ===

impl EndReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::RefreshReuse => "refresh_reuse",
            Self::MemberDisabled => "member_disabled",
            Self::MemberRemoved => "member_removed",
            Self::Revoked => "revoked",
            Self::PasswordChanged => "password_changed",
            Self::TooMany => "too_many",
        }
    }
}

// === impl RefreshToken ===

impl RefreshToken {
    pub(crate) fn generate() -> Result<Self, Error> {
        let secret = random::text().map_err(Error::fault)?;
        Ok(Self {
            text: Secret::new(format!("{REFRESH_PREFIX}{secret}")),
        })
    }

    /// Any text may be presented; one that cannot be ours is not looked up.
    pub(crate) fn presented(text: &str) -> Option<Self> {
        let ours = text.starts_with(REFRESH_PREFIX) && text.len() <= REFRESH_BYTES_MAX;
        ours.then(|| Self {
            text: Secret::new(text.to_owned()),
        })
    }

    /// The text for its holder. It goes nowhere else.
    pub(crate) fn expose(&self) -> &str {
        self.text.expose()
    }

    pub(crate) fn hash(&self) -> Vec<u8> {
        random::sha256(self.text.expose())
    }
}

#[cfg(test)]
mod rules {
    use super::*;

    fn used() -> Presented {
        Presented {
            revoked: false,
            expired: false,
            successor: Some(vec![1]),
            successor_used: false,
            within_grace: true,
        }
    }

    #[test]
    fn a_token_is_good_once_and_once_more_while_its_answer_may_be_lost() {
        let fresh = Presented {
            successor: None,
            ..used()
        };
        assert_eq!(fresh.verdict(), Verdict::Rotate);
        assert_eq!(used().verdict(), Verdict::Replace(vec![1]));
    }

    #[test]
    fn whatever_shows_two_holders_ends_the_family() {
        for presented in [
            Presented {
                successor_used: true,
                ..used()
            },
            Presented {
                within_grace: false,
                ..used()
            },
            Presented {
                revoked: true,
                successor: None,
                ..used()
            },
            Presented {
                expired: true,
                successor_used: true,
                ..used()
            },
        ] {
            assert_eq!(presented.verdict(), Verdict::End, "{presented:?}");
        }
    }

    #[test]
    fn age_alone_ends_nothing() {
        assert_eq!(
            Presented {
                expired: true,
                successor: None,
                ..used()
            }
            .verdict(),
            Verdict::Refuse
        );
    }

    #[test]
    fn a_token_does_not_print_and_foreign_texts_are_not_looked_up() {
        let token = RefreshToken::generate().unwrap();
        assert!(!format!("{token:?}").contains(token.expose()));
        assert!(RefreshToken::presented(token.expose()).is_some());
        assert!(RefreshToken::presented("").is_none());
        assert!(RefreshToken::presented(&format!("rhr_{}", "a".repeat(200))).is_none());
    }
}

#[cfg(test)]
mod tests;
