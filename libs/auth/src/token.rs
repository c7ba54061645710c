//! Users' access tokens: signed by auth, verified by every service (RFC 7519, RFC 9068, RFC 8693 for delegated ones).

pub mod claims;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use jsonwebtoken::Validation;
use moka::sync::Cache;
use rowhouse_context::Principal;

pub use crate::token::claims::{AccessClaims, Actor};

use crate::jws::{self, Times};
use crate::key::PublicKey;
use crate::key_id::KeyId;

/// `typ` of an access token (RFC 9068, section 2.1). A refresh token or a service's token never has it.
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// `aud` of an access token.
pub const ACCESS_TOKEN_AUDIENCE: &str = "rowhouse";

/// Longest lifetime that an access token may claim, in seconds: three times what auth gives.
pub const ACCESS_TOKEN_LIFETIME_MAX_S: u64 = 900;

/// Verified tokens remembered at once. An entry is about 300 bytes, so 10,000 are 3 MB.
const REMEMBERED_MAX: u64 = 10_000;

/// Verifies access tokens. Shared by all calls of a process.
pub struct AccessTokenVerifier {
    validation: Validation,
    keys: RwLock<Arc<HashMap<String, PublicKey>>>,
    /// By SHA-256 of the whole token, so that the memory holds no token that could be used.
    remembered: Cache<[u8; 32], Arc<Remembered>>,
}

/// A token that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    /// Whom it speaks for.
    pub principal: Principal,
    /// When it expires, in seconds since 1970.
    pub expires_at_s: u64,
    /// Its id (`jti`), for logs.
    pub id: String,
    /// The key that has signed it: rights that it gives end with the key.
    pub key: KeyId,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not a token at all.
    #[error("not a token")]
    Malformed,
    /// Its signature, type, issuer, audience or claims do not hold.
    #[error("the token does not hold")]
    Invalid,
    /// It was valid and has expired.
    #[error("the token has expired")]
    Expired,
    /// It names a key that is not known (yet): ask for the keys once, then refuse.
    #[error("the token names an unknown key")]
    UnknownKey,
}

struct Remembered {
    key: PublicKey,
    times: Times,
    token: VerifiedToken,
}

// === impl AccessTokenVerifier ===

impl AccessTokenVerifier {
    /// A verifier that knows no keys yet. `issuer`: the `iss` that tokens must have.
    #[must_use]
    pub fn new(issuer: &str) -> Self {
        Self {
            validation: jws::validation(issuer, ACCESS_TOKEN_AUDIENCE),
            keys: RwLock::default(),
            remembered: Cache::builder()
                .max_capacity(REMEMBERED_MAX)
                .time_to_live(Duration::from_secs(ACCESS_TOKEN_LIFETIME_MAX_S))
                .build(),
        }
    }

    /// Replaces all keys. Tokens of a key that is not among them are refused from now on, remembered or not.
    pub fn set_keys(&self, keys: impl IntoIterator<Item = (String, PublicKey)>) {
        let keys = Arc::new(keys.into_iter().collect());
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// How many keys are known.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Verifies a token (without `Bearer `) by the system's clock.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(&self, token: &str) -> Result<VerifiedToken, TokenError> {
        self.verify_at(token, SystemTime::now())
    }

    /// Verifies a token (without `Bearer `) by the given clock.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify_at(&self, token: &str, now: SystemTime) -> Result<VerifiedToken, TokenError> {
        let now = seconds(now);
        let digest = sha256(token);
        if let Some(known) = digest.and_then(|digest| self.remembered.get(&digest))
            && self.key(&known.token.key) == Some(known.key)
        {
            known.times.check_expiry(now)?;
            return Ok(known.token.clone());
        }
        let verified = self.verify_anew(token, now)?;
        if let Some(digest) = digest {
            self.remembered.insert(digest, Arc::clone(&verified));
        }
        Ok(verified.token.clone())
    }

    fn verify_anew(&self, token: &str, now: u64) -> Result<Arc<Remembered>, TokenError> {
        let kid = jws::key_id(token, ACCESS_TOKEN_TYPE)?;
        let key = self.key(&kid).ok_or(TokenError::UnknownKey)?;
        let claims: AccessClaims = jws::open(token, key, &self.validation)?;
        let times = claims.times();
        times.check(now, ACCESS_TOKEN_LIFETIME_MAX_S)?;
        let token = VerifiedToken {
            principal: claims.principal().ok_or(TokenError::Invalid)?,
            expires_at_s: claims.exp,
            id: claims.jti,
            key: kid,
        };
        Ok(Arc::new(Remembered { key, times, token }))
    }

    fn key(&self, kid: &KeyId) -> Option<PublicKey> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(kid.as_str()).copied()
    }
}

impl fmt::Debug for AccessTokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTokenVerifier")
            .field("key_count", &self.key_count())
            .finish_non_exhaustive()
    }
}

/// SHA-256 of a token.
pub(crate) fn sha256(token: &str) -> Option<[u8; 32]> {
    digest::digest(&digest::SHA256, token.as_bytes())
        .as_ref()
        .try_into()
        .ok()
}

/// Seconds since 1970. A clock before that refuses everything as not begun.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
