//! The keys of access tokens, as auth publishes them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rowhouse_auth_kit::{AccessTokenVerifier, PublicKey};
use rowhouse_context::ServiceName;
use rowhouse_proto::auth::v1::auth_service_client::AuthServiceClient;
use rowhouse_proto::auth::v1::{GetJwksRequest, Jwk};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::outage::Outage;
use crate::peer::{IdentifiedChannel, Peer};
use crate::request::{own_ctx, request};

/// How often keys are read without being asked to, so that a withdrawn one goes.
const READ_EVERY: Duration = Duration::from_secs(30);

/// How soon to try again where there are no keys yet.
const RETRY_EVERY: Duration = Duration::from_millis(250);

/// Shortest time between two readings: tokens with invented key ids must not become load on auth.
const READ_PAUSE: Duration = Duration::from_millis(250);

/// Longest time for one reading.
const READ_MAX: Duration = Duration::from_secs(2);

/// Keys taken at most, as many as auth publishes. Usually they are two or three.
const KEYS_MAX: usize = 64;

/// Brings the keys of a verifier up to date.
#[async_trait]
pub trait KeysSource: Send + Sync {
    /// Called where a token names an unknown key, before it is verified once more. Returns when the keys are as they
    /// were at this moment or newer, or when they could not be read.
    async fn refresh(&self);
}

/// Reads the keys from auth's `GetJwks` into a verifier. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeysClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    auth: AuthServiceClient<IdentifiedChannel>,
    own_name: ServiceName,
    verifier: Arc<AccessTokenVerifier>,
    /// When the last reading began. Locked while one runs: callers who come meanwhile wait for it.
    last: Mutex<Option<Instant>>,
    /// Readings that brought no keys.
    unread: Outage,
}

// === impl KeysClient ===

impl KeysClient {
    /// A client that keeps `verifier`'s keys.
    #[must_use]
    pub fn new(auth: &Peer, verifier: Arc<AccessTokenVerifier>) -> Self {
        Self {
            inner: Arc::new(Inner {
                auth: AuthServiceClient::new(auth.channel()),
                own_name: auth.own_name(),
                verifier,
                last: Mutex::default(),
                unread: Outage::new("keys_readings_failed_total"),
            }),
        }
    }

    /// Reads the keys at the start and from time to time, until `stop` is cancelled.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            let pause = async {
                self.refresh().await;
                let empty = self.inner.verifier.key_count() == 0;
                tokio::time::sleep(if empty { RETRY_EVERY } else { READ_EVERY }).await;
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = pause => {}
            }
        }
    }
}

#[async_trait]
impl KeysSource for KeysClient {
    async fn refresh(&self) {
        let wanted = Instant::now();
        let mut last = self.inner.last.lock().await;
        if let Some(last) = *last {
            if last >= wanted {
                return;
            }
            // Waiting, not refusing: a key may have been published since.
            tokio::time::sleep_until(last + READ_PAUSE).await;
        }
        *last = Some(Instant::now());
        self.inner.read().await;
    }
}

// === impl Inner ===

impl Inner {
    async fn read(&self) {
        let ctx = own_ctx(self.own_name, READ_MAX);
        let mut auth = self.auth.clone();
        match tokio::time::timeout(READ_MAX, auth.get_jwks(request(&ctx, GetJwksRequest {}))).await {
            Ok(Ok(answer)) => {
                let keys: Vec<_> = answer
                    .get_ref()
                    .keys
                    .iter()
                    .take(KEYS_MAX)
                    .filter_map(read_key)
                    .collect();
                if keys.is_empty() {
                    // Auth without keys is auth with a fault; what we know is better than nothing.
                    if self.unread.begins("none") {
                        tracing::warn!("auth publishes no usable keys of access tokens; those that are known stay");
                    }
                } else {
                    self.verifier.set_keys(keys);
                    if self.unread.ends() {
                        tracing::info!("the keys of access tokens are read again");
                    }
                }
            }
            Ok(Err(status)) => {
                if self.unread.begins("refused") {
                    tracing::warn!(code = ?status.code(), "the keys of access tokens are not read");
                }
            }
            Err(_) => {
                if self.unread.begins("late") {
                    tracing::warn!("the keys of access tokens are not read in time");
                }
            }
        }
    }
}

/// A key for Ed25519 signatures (RFC 8037); others are not ours.
fn read_key(jwk: &Jwk) -> Option<(String, PublicKey)> {
    let ours = jwk.kty == "OKP" && jwk.crv == "Ed25519" && jwk.alg == "EdDSA" && jwk.r#use == "sig";
    let key = PublicKey::from_base64url(&jwk.x).ok()?;
    (ours && !jwk.kid.is_empty()).then(|| (jwk.kid.clone(), key))
}

#[cfg(test)]
mod tests;
