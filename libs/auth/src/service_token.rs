//! Tokens by which services know each other on internal listeners.
//!
//! A token names one audience, so that a service that receives it cannot use it against a third. Each service holds its
//! own private key and everybody's public keys.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use jsonwebtoken::Validation;
use moka::sync::Cache;
use rowhouse_context::ServiceName;
use serde::{Deserialize, Serialize};

use crate::jws::{self, Times};
use crate::key::{KeyError, PublicKey, SigningKey};
use crate::token::{TokenError, seconds, sha256};

/// `typ` of a service's token.
pub const SERVICE_TOKEN_TYPE: &str = "svc+jwt";

/// How long a service's token is valid, in seconds.
pub const SERVICE_TOKEN_LIFETIME_S: u64 = 60;

/// Verified tokens remembered at once: callers times their tokens in a minute, with room to spare.
const REMEMBERED_MAX: u64 = 1_000;

/// Makes the tokens of one service. Cheap to clone; clones share what was signed.
#[derive(Clone)]
pub struct ServiceSigner {
    inner: Arc<Signer>,
}

struct Signer {
    name: ServiceName,
    key: SigningKey,
    /// By audience: the token and until when it is handed out, in seconds since 1970.
    signed: Mutex<BTreeMap<ServiceName, (String, u64)>>,
}

/// Verifies the tokens that other services send to this one.
pub struct ServiceVerifier {
    keys: BTreeMap<ServiceName, PublicKey>,
    own: ServiceName,
    remembered: Cache<[u8; 32], (ServiceName, Times)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: String,
}

// === impl ServiceSigner ===

impl ServiceSigner {
    /// The signer of service `name`. `seed`: 32 bytes, its Ed25519 seed.
    ///
    /// # Errors
    /// [`KeyError::Seed`] for another length.
    pub fn new(name: ServiceName, seed: &[u8]) -> Result<Self, KeyError> {
        Ok(Self {
            inner: Arc::new(Signer {
                name,
                key: SigningKey::from_seed(seed)?,
                signed: Mutex::default(),
            }),
        })
    }

    /// The service that signs.
    #[must_use]
    pub fn name(&self) -> ServiceName {
        self.inner.name
    }

    /// A token for `audience`, the same one until half its life is over.
    ///
    /// # Errors
    /// [`KeyError::Sign`].
    pub fn token(&self, audience: ServiceName) -> Result<String, KeyError> {
        self.token_at(audience, SystemTime::now())
    }

    /// As [`Self::token`], by the given clock.
    ///
    /// # Errors
    /// [`KeyError::Sign`].
    pub fn token_at(&self, audience: ServiceName, now: SystemTime) -> Result<String, KeyError> {
        let now = seconds(now);
        let mut signed = self.inner.signed.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock set back makes a kept token one of the future: neither end of its half-life may be passed.
        if let Some((token, until)) = signed.get(&audience)
            && now < *until
            && *until <= now.saturating_add(SERVICE_TOKEN_LIFETIME_S / 2)
        {
            return Ok(token.clone());
        }
        let name = self.inner.name.as_str();
        let claims = Claims {
            iss: name.to_owned(),
            sub: name.to_owned(),
            aud: audience.as_str().to_owned(),
            iat: now,
            nbf: now,
            exp: now.saturating_add(SERVICE_TOKEN_LIFETIME_S),
            jti: uuid::Uuid::now_v7().to_string(),
        };
        let token = self.inner.key.sign(SERVICE_TOKEN_TYPE, name, &claims)?;
        signed.insert(
            audience,
            (token.clone(), now.saturating_add(SERVICE_TOKEN_LIFETIME_S / 2)),
        );
        Ok(token)
    }
}

impl fmt::Debug for ServiceSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceSigner")
            .field("name", &self.inner.name)
            .finish_non_exhaustive()
    }
}

// === impl ServiceVerifier ===

impl ServiceVerifier {
    /// The verifier of service `own`. `keys`: public keys by service name, base64url without padding. With none at all it takes
    /// no token: where services show certificates.
    ///
    /// # Errors
    /// [`KeyError`] for a name that is no service's, a damaged key, or a service without a key.
    pub fn new(own: ServiceName, keys: &BTreeMap<String, String>) -> Result<Self, KeyError> {
        let mut known = BTreeMap::new();
        for (name, key) in keys {
            let name: ServiceName = name.parse().map_err(|_| KeyError::ServiceUnknown)?;
            known.insert(name, PublicKey::from_base64url(key)?);
        }
        if !known.is_empty() && ServiceName::ALL.iter().any(|name| !known.contains_key(name)) {
            return Err(KeyError::ServiceWithoutKey);
        }
        Ok(Self {
            keys: known,
            own,
            remembered: Cache::builder()
                .max_capacity(REMEMBERED_MAX)
                .time_to_live(Duration::from_secs(SERVICE_TOKEN_LIFETIME_S))
                .build(),
        })
    }

    /// Verifies a token by the system's clock and gives the service that sent it.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(&self, token: &str) -> Result<ServiceName, TokenError> {
        self.verify_at(token, SystemTime::now())
    }

    /// As [`Self::verify`], by the given clock.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify_at(&self, token: &str, now: SystemTime) -> Result<ServiceName, TokenError> {
        let now = seconds(now);
        let digest = sha256(token);
        if let Some((name, times)) = digest.and_then(|digest| self.remembered.get(&digest)) {
            times.check_expiry(now)?;
            return Ok(name);
        }
        let kid = jws::key_id(token, SERVICE_TOKEN_TYPE)?;
        let name: ServiceName = kid.as_str().parse().map_err(|_| TokenError::UnknownKey)?;
        let key = self.keys.get(&name).copied().ok_or(TokenError::UnknownKey)?;
        let claims: Claims = jws::open(token, key, &self.validation(name))?;
        if claims.sub != name.as_str() || claims.jti.is_empty() {
            return Err(TokenError::Invalid);
        }
        let times = Times {
            issued: claims.iat,
            not_before: claims.nbf,
            expires: claims.exp,
        };
        times.check(now, SERVICE_TOKEN_LIFETIME_S)?;
        if let Some(digest) = digest {
            self.remembered.insert(digest, (name, times));
        }
        Ok(name)
    }

    fn validation(&self, from: ServiceName) -> Validation {
        jws::validation(from.as_str(), self.own.as_str())
    }
}

impl fmt::Debug for ServiceVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceVerifier")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
