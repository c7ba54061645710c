//! The keys that sign access tokens: made at the first start, kept sealed, published for everyone who verifies, replaced in
//! time, and revoked when one is lost.
//!
//! A key is `pending` first: whoever verifies reads it with the others, at the latest after half a minute, before anything is
//! signed with it. Then it is `active`, the only one that signs; the one before is `published` until the last token that
//! it signed has expired, then `retired`. `rotation` moves keys on; any number of processes may.
//!
//! What a `revoked` key has signed gives no rights. That is a change of rights whose subject is the key: services ask for
//! rights with the token's key, so a revocation reaches them, and is acknowledged, as every other one.

pub(crate) mod actions;
mod own;
mod rotation;
mod rpc;
mod store;
mod wire;

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use rowhouse_auth_kit::token::ACCESS_TOKEN_TYPE;
use rowhouse_auth_kit::{AccessClaims, KeyId, PublicKey, SigningKey};
use rowhouse_context::ServiceName;
use rowhouse_seal::{MasterKeys, Sealers};
use rowhouse_types::{SessionId, TenantId, Text, UserId};
use sqlx::PgConnection;
use tokio::sync::Mutex;

use crate::error::Error;
use crate::impersonation::Opened;
use crate::master::{self, Purpose};
pub(crate) use actions::published;
pub(crate) use own::OwnKeys;
pub(crate) use rotation::run;
pub(crate) use rpc::KeyRpc;
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use wire::to_jwks;

/// How long an access token is valid, where what it stands on does not end earlier.
pub(crate) const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(300);

/// How long what a replaced key has signed is honoured: the lifetime of a token, and a minute for clocks that differ and
/// for a process that read the active key just before.
const HONOURED: Duration = Duration::from_secs(300 + 60);

/// Keys that are published at once. Whoever verifies takes as many (`libs/client`), so more would be honoured by nobody.
const PUBLISHED_MAX: i64 = 64;

/// When keys are replaced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// How long a key is published before it signs. Whoever verifies reads the keys twice a minute.
    pub(crate) published: Duration,
    /// Age at which the key that signs is replaced; `None` where only operators do that.
    pub(crate) replaced: Option<Duration>,
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyState {
    Pending,
    Active,
    Published,
    Retired,
    Revoked,
}

/// The text is not the state of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the state of a key")]
pub(crate) struct ParseKeyStateError;

/// A key, without its private half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownKey {
    pub(crate) id: KeyId,
    pub(crate) state: KeyState,
    pub(crate) created: DateTime<Utc>,
    pub(crate) activates: DateTime<Utc>,
    pub(crate) retires: Option<DateTime<Utc>>,
}

/// Why a key is revoked.
pub(crate) type Reason = Text<500>;

/// A public key as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublishedKey {
    pub(crate) kid: String,
    pub(crate) key: PublicKey,
}

/// Signs access tokens.
#[derive(Debug)]
pub(crate) struct Signer {
    id: KeyId,
    key: SigningKey,
    issuer: String,
}

/// The signer, opened when it is first needed: the process starts without its database.
#[derive(Debug)]
pub(crate) struct Signing {
    sealers: Sealers,
    issuer: String,
    schedule: Schedule,
    /// The one that was opened last. Whether it still signs is asked each time.
    opened: Mutex<Option<Arc<Signer>>>,
}

/// A signed access token and when it expires.
pub(crate) struct AccessToken {
    pub(crate) text: String,
    pub(crate) expires: DateTime<Utc>,
}

/// Work that a service does for a user.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) service: ServiceName,
    pub(crate) user: UserId,
    pub(crate) tenant: TenantId,
    /// Whether the user is a platform operator.
    pub(crate) platform: bool,
}

// === impl Signing ===

impl Signing {
    pub(crate) fn new(master: &MasterKeys, issuer: String, schedule: Schedule) -> Result<Self, Error> {
        Ok(Self {
            sealers: master::sealers(master, Purpose::SigningKeys)?,
            issuer,
            schedule,
            opened: Mutex::default(),
        })
    }

    /// The signer of the key that is active now; one is made where there is none yet.
    pub(crate) async fn signer(&self, conn: &mut PgConnection) -> Result<Arc<Signer>, Error> {
        let sealed = actions::active_or_first(conn, &self.sealers).await?;
        let mut opened = self.opened.lock().await;
        if let Some(known) = opened.as_ref().filter(|known| known.id == sealed.id) {
            return Ok(Arc::clone(known));
        }
        let signer = Arc::new(actions::open(&sealed, &self.sealers, self.issuer.clone())?);
        *opened = Some(Arc::clone(&signer));
        Ok(signer)
    }

    /// As [`Self::signer`], where it was asked just before, within a transaction, which key is active: nothing is asked again where
    /// that one was opened last. [`HONOURED`] allows for the time between.
    pub(crate) async fn signer_of(&self, active: Option<KeyId>, conn: &mut PgConnection) -> Result<Arc<Signer>, Error> {
        let opened = self.opened.lock().await.clone();
        match opened.filter(|known| Some(known.id) == active) {
            Some(known) => Ok(known),
            None => self.signer(conn).await,
        }
    }
}

// === impl Signer ===

impl Signer {
    fn new(id: KeyId, key: SigningKey, issuer: String) -> Self {
        Self { id, key, issuer }
    }

    /// A token for a session or an API key: of a member where `tenant` is given, else of a platform operator. It does not
    /// outlast `ends`, when the session or the key ends; `None` where nothing is left of that.
    pub(crate) fn session_token(
        &self,
        user: UserId,
        session: SessionId,
        tenant: Option<TenantId>,
        ends: DateTime<Utc>,
    ) -> Result<Option<AccessToken>, Error> {
        let now = now_s()?;
        let claims = lifetime_s(now, ends)
            .map(|lifetime| AccessClaims::for_session(&self.issuer, user, session, tenant, now, lifetime));
        claims.map(|claims| self.sign(&claims)).transpose()
    }

    /// A token for an operator who acts as a member (RFC 8693: `sub` the member, `act` the operator). It does not outlast the
    /// session; `None` where nothing is left of that.
    pub(crate) fn impersonation_token(&self, opened: &Opened) -> Result<Option<AccessToken>, Error> {
        let now = now_s()?;
        let claims = lifetime_s(now, opened.ends).map(|lifetime| {
            let whose = (opened.user, opened.session);
            AccessClaims::for_impersonation(&self.issuer, whose, opened.tenant, opened.by, now, lifetime)
        });
        claims.map(|claims| self.sign(&claims)).transpose()
    }

    /// A token for a service that works for a user (RFC 8693: `sub` the user, `act` the service). It stands on no session:
    /// the work goes on after the log-in in which it was asked for.
    pub(crate) fn job_token(&self, job: &Job) -> Result<AccessToken, Error> {
        let now = now_s()?;
        let lifetime = ACCESS_TOKEN_LIFETIME.as_secs();
        let claims = AccessClaims::for_job(
            &self.issuer,
            (job.user, job.platform),
            job.tenant,
            (job.service, &job.id),
            now,
            lifetime,
        );
        self.sign(&claims)
    }

    fn sign(&self, claims: &AccessClaims) -> Result<AccessToken, Error> {
        let text = self
            .key
            .sign(ACCESS_TOKEN_TYPE, self.id.as_str(), claims)
            .map_err(Error::fault)?;
        let expires = i64::try_from(claims.exp)
            .ok()
            .and_then(|at| DateTime::from_timestamp(at, 0));
        let expires = expires.ok_or_else(|| Error::fault("an expiry is out of range"))?;
        Ok(AccessToken { text, expires })
    }
}

/// The id of a key: its thumbprint (RFC 7638), so that it follows from the key and cannot be given twice.
pub(crate) fn key_id(key: PublicKey) -> String {
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, key.to_base64url());
    URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes()))
}

// === impl KeyState ===

impl KeyState {
    const ALL: [Self; 5] = [
        Self::Pending,
        Self::Active,
        Self::Published,
        Self::Retired,
        Self::Revoked,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Published => "published",
            Self::Retired => "retired",
            Self::Revoked => "revoked",
        }
    }
}

impl FromStr for KeyState {
    type Err = ParseKeyStateError;

    fn from_str(text: &str) -> Result<Self, ParseKeyStateError> {
        let mut states = Self::ALL.into_iter();
        states.find(|state| state.as_str() == text).ok_or(ParseKeyStateError)
    }
}

/// How long a token is valid that must not outlast `ends`, in seconds; `None` where not one is left. Services remember for
/// minutes that a session is good: what ends it by time is no change that they are told of, so its tokens end with it.
fn lifetime_s(now_s: u64, ends: DateTime<Utc>) -> Option<u64> {
    // Tokens count whole seconds; the last one, which is not whole, is left out.
    let left = u64::try_from(ends.timestamp()).unwrap_or(0).saturating_sub(now_s);
    (left > 0).then(|| left.min(ACCESS_TOKEN_LIFETIME.as_secs()))
}

fn now_s() -> Result<u64, Error> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Error::fault)?;
    Ok(since.as_secs())
}

#[cfg(test)]
mod rules {
    use super::*;

    /// RFC 8037, appendix A.3.
    #[test]
    fn a_key_id_is_the_thumbprint_of_the_key() {
        let key = PublicKey::from_base64url("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        assert_eq!(key_id(key), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_token_does_not_outlast_what_it_stands_on() {
        let now = 1_700_000_000;
        let at = |seconds: i64, nanos: u32| DateTime::from_timestamp(1_700_000_000 + seconds, nanos).unwrap();
        for (ends, lifetime) in [
            (at(90 * 86_400, 0), Some(300)),
            (at(301, 0), Some(300)),
            (at(299, 999_999_999), Some(299)),
            (at(1, 0), Some(1)),
            (at(0, 999_999_999), None),
            (at(0, 0), None),
            (at(-1, 0), None),
            (DateTime::<Utc>::MIN_UTC, None),
        ] {
            assert_eq!(lifetime_s(now, ends), lifetime, "{ends}");
        }
    }
}

#[cfg(test)]
mod tests;
