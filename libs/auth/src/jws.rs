//! What all our tokens have in common: compact JWS (RFC 7515) with exactly the header that we write.
//!
//! jsonwebtoken checks the signature. Its reading of headers is generous (extra fields kept, `typ` not compared, a key
//! in the header tolerated) and its reading of times rounds; so the header is read here first, strictly, and times are
//! compared by the callers as whole seconds.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::key::PublicKey;
use crate::key_id::KeyId;
use crate::token::TokenError;

/// Longest token that is looked at, in bytes. Ours are about 600; the bound keeps a refusal cheap.
const TOKEN_BYTES_MAX: usize = 4_096;

/// How far two clocks of the suite may differ, in seconds.
pub(crate) const LEEWAY_S: u64 = 5;

/// The header that our tokens have. Anything else in it (`jwk`, `jku`, `x5u`, `crit`, `b64`, `zip`) is refused, as is
/// a key given twice.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

/// The times of a token, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) issued: u64,
    pub(crate) not_before: u64,
    pub(crate) expires: u64,
}

/// The rules for jsonwebtoken: one algorithm, one issuer, one audience, all claims there.
pub(crate) fn validation(issuer: &str, audience: &str) -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.algorithms = vec![Algorithm::EdDSA];
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["iss", "aud", "sub", "exp", "nbf"]);
    validation.leeway = LEEWAY_S;
    // It rounds fractions and asks the system's clock; `Times::check` does neither.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation
}

/// Reads the header and gives the id of the key that is said to have signed. Nothing is verified yet.
pub(crate) fn key_id(token: &str, typ: &str) -> Result<KeyId, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::Malformed);
    }
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(TokenError::Malformed);
    };
    let header = object(header)?;
    // serde would read a struct from an array too.
    object(payload)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| TokenError::Invalid)?;
    if header.alg != "EdDSA" || header.typ != typ {
        return Err(TokenError::Invalid);
    }
    header.kid.parse().map_err(|_| TokenError::Invalid)
}

/// Verifies the signature with `key`, issuer and audience, and reads the claims.
pub(crate) fn open<C: DeserializeOwned>(token: &str, key: PublicKey, validation: &Validation) -> Result<C, TokenError> {
    jsonwebtoken::decode(token, &key.decoding_key(), validation)
        .map(|data| data.claims)
        .map_err(|_| TokenError::Invalid)
}

fn object(part: &str) -> Result<Vec<u8>, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    if bytes.first() == Some(&b'{') {
        Ok(bytes)
    } else {
        Err(TokenError::Malformed)
    }
}

// === impl Times ===

impl Times {
    /// Compares with the clock.
    ///
    /// `now`: in seconds since 1970. `lifetime_max`: longest time between issue and expiry, in seconds; a token that
    /// claims more was not made by us.
    pub(crate) fn check(self, now: u64, lifetime_max: u64) -> Result<(), TokenError> {
        let begun = |time: u64| time <= now.saturating_add(LEEWAY_S);
        if self.expires <= self.issued
            || self.expires.saturating_sub(self.issued) > lifetime_max
            || self.expires <= self.not_before
            || !begun(self.issued)
            || !begun(self.not_before)
        {
            return Err(TokenError::Invalid);
        }
        self.check_expiry(now)
    }

    /// Compares only the end with the clock: what changes for a token that was accepted before.
    pub(crate) fn check_expiry(self, now: u64) -> Result<(), TokenError> {
        if self.expires.saturating_add(LEEWAY_S) <= now {
            return Err(TokenError::Expired);
        }
        Ok(())
    }
}
