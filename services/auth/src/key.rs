//! The keys that sign access tokens: made at the first start, kept sealed, published for everyone who verifies.

mod actions;
mod own;
mod seal;
mod store;
mod wire;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use rowhouse_auth_kit::token::ACCESS_TOKEN_TYPE;
use rowhouse_auth_kit::{AccessClaims, PublicKey, SigningKey};
use rowhouse_config::secret::SecretKey;
use rowhouse_context::ServiceName;
use rowhouse_db::ControlDb;
use rowhouse_types::{SessionId, TenantId, UserId};
use tokio::sync::OnceCell;

use crate::error::Error;
pub(crate) use actions::published;
pub(crate) use own::OwnKeys;
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use wire::to_jwks;

/// How long an access token is valid.
pub(crate) const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(300);

/// A public key as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublishedKey {
    pub(crate) kid: String,
    pub(crate) key: PublicKey,
}

/// Signs access tokens.
#[derive(Debug)]
pub(crate) struct Signer {
    kid: String,
    key: SigningKey,
    issuer: String,
}

/// The signer, opened when it is first needed: the process starts without its database.
#[derive(Debug)]
pub(crate) struct Signing {
    master: SecretKey,
    issuer: String,
    signer: OnceCell<Signer>,
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
    pub(crate) fn new(master: SecretKey, issuer: String) -> Self {
        Self {
            master,
            issuer,
            signer: OnceCell::new(),
        }
    }

    /// The signer; its key is made where there is none yet.
    pub(crate) async fn signer(&self, db: &ControlDb) -> Result<&Signer, Error> {
        let open = || async {
            let mut conn = db.pool().acquire().await?;
            actions::open_or_create(&mut conn, &self.master, self.issuer.clone()).await
        };
        self.signer.get_or_try_init(open).await
    }
}

// === impl Signer ===

impl Signer {
    pub(crate) fn new(key: SigningKey, issuer: String) -> Self {
        let kid = key_id(key.public());
        Self { kid, key, issuer }
    }

    /// A token for a session: of a member where `tenant` is given, else of a platform operator.
    pub(crate) fn session_token(
        &self,
        user: UserId,
        session: SessionId,
        tenant: Option<TenantId>,
    ) -> Result<AccessToken, Error> {
        let now = now_s()?;
        let lifetime = ACCESS_TOKEN_LIFETIME.as_secs();
        self.sign(&AccessClaims::for_session(
            &self.issuer,
            user,
            session,
            tenant,
            now,
            lifetime,
        ))
    }

    /// A token for a service that works for a user (RFC 8693: `sub` the user, `act` the service).
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
            .sign(ACCESS_TOKEN_TYPE, &self.kid, claims)
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
}

#[cfg(test)]
mod tests;
