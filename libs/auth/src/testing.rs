//! Hostile tokens, for tests of whatever verifies tokens (T10).
//!
//! To add one: a line in `testing/header.rs`, `testing/claims.rs` or `testing/shape.rs`. Each must be refused; why it
//! is hostile is its name.

mod claims;
mod header;
mod shape;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rowhouse_types::{SessionId, TenantId, UserId};
use serde_json::{Value, json};

use crate::key::{KeyError, SigningKey};
use crate::token::{ACCESS_TOKEN_TYPE, AccessClaims};

/// Makes tokens, good and hostile, with a key that the verifier under test knows.
#[derive(Debug)]
pub struct Forge {
    issuer: String,
    kid: String,
    key: SigningKey,
    /// A key that the verifier does not know.
    stranger: SigningKey,
    now_s: u64,
    member: (UserId, SessionId, TenantId),
}

/// A token that must be refused.
#[derive(Clone, Debug)]
pub struct Hostile {
    /// What is wrong with it.
    pub name: String,
    /// The token.
    pub token: String,
}

type Made = Result<String, KeyError>;

// === impl Forge ===

impl Forge {
    /// A forge.
    ///
    /// `issuer`: the `iss` that the verifier expects. `kid` and `seed` (32 bytes): of a key that it knows. `now_s`:
    /// its clock, in seconds since 1970.
    ///
    /// # Errors
    /// [`KeyError`] for a seed of another length.
    pub fn new(issuer: &str, kid: &str, seed: &[u8], now_s: u64) -> Result<Self, KeyError> {
        let strange: Vec<u8> = seed.iter().map(|byte| !byte).collect();
        Ok(Self {
            issuer: issuer.to_owned(),
            kid: kid.to_owned(),
            key: SigningKey::from_seed(seed)?,
            stranger: SigningKey::from_seed(&strange)?,
            now_s,
            member: (UserId::generate(), SessionId::generate(), TenantId::generate()),
        })
    }

    /// Whom its tokens are of, where somebody asks for their rights.
    #[must_use]
    pub fn of_member(self, user: UserId, session: SessionId, tenant: TenantId) -> Self {
        Self {
            member: (user, session, tenant),
            ..self
        }
    }

    /// The key that the verifier must know.
    #[must_use]
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Claims of the member that hold now.
    #[must_use]
    pub fn member(&self) -> AccessClaims {
        let (user, session, tenant) = self.member;
        let issued_at_s = self.now_s.saturating_sub(10);
        AccessClaims::for_session(&self.issuer, user, session, Some(tenant), issued_at_s, 300)
    }

    /// A token with these claims, signed as auth signs.
    ///
    /// # Errors
    /// [`KeyError::Sign`].
    pub fn sign(&self, claims: &AccessClaims) -> Result<String, KeyError> {
        self.key.sign(ACCESS_TOKEN_TYPE, &self.kid, claims)
    }

    /// All hostile tokens.
    ///
    /// # Errors
    /// [`KeyError::Sign`].
    pub fn hostile(&self) -> Result<Vec<Hostile>, KeyError> {
        let made = [header::hostile(self), claims::hostile(self), shape::hostile(self)];
        made.into_iter()
            .flatten()
            .map(|(name, token)| {
                token.map(|token| Hostile {
                    name: name.to_owned(),
                    token,
                })
            })
            .collect()
    }

    /// A signed token of any two JSON texts.
    fn raw(&self, header: &str, payload: &str) -> Made {
        let message = message(header, payload);
        Ok(format!("{message}.{}", self.key.signature(&message)?))
    }

    fn payload(&self) -> Value {
        json!(self.member())
    }

    /// A token with a good header.
    fn with_payload(&self, payload: &Value) -> Made {
        self.raw(&self.good_header().to_string(), &payload.to_string())
    }

    /// A token with good claims.
    fn with_header(&self, header: &Value) -> Made {
        self.raw(&header.to_string(), &self.payload().to_string())
    }

    fn good_header(&self) -> Value {
        json!({"alg": "EdDSA", "typ": ACCESS_TOKEN_TYPE, "kid": self.kid})
    }
}

fn message(header: &str, payload: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
}

/// `object` with one member changed, or removed for `None`.
fn changed(mut object: Value, key: &str, value: Option<Value>) -> Value {
    if let Some(members) = object.as_object_mut() {
        match value {
            Some(value) => members.insert(key.to_owned(), value),
            None => members.remove(key),
        };
    }
    object
}
