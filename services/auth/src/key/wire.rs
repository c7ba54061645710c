//! Keys as messages (RFC 7517, RFC 8037).

use rowhouse_auth_kit::KeyId;
use rowhouse_proto::auth::v1::{GetJwksResponse, Jwk, RevokeSigningKeyRequest, SigningKey, SigningKeyState};
use rowhouse_proto::timestamp;
use rowhouse_status::{Failure, Violations};

use super::{KeyState, KnownKey, PublishedKey, Reason};

/// The key set.
pub(crate) fn to_jwks(keys: Vec<PublishedKey>) -> GetJwksResponse {
    let keys = keys.into_iter().map(|published| Jwk {
        kty: "OKP".to_owned(),
        crv: "Ed25519".to_owned(),
        kid: published.kid,
        x: published.key.to_base64url(),
        alg: "EdDSA".to_owned(),
        r#use: "sig".to_owned(),
    });
    GetJwksResponse { keys: keys.collect() }
}

/// Which key to revoke, and why.
pub(super) fn revocation(request: &RevokeSigningKeyRequest) -> Result<(KeyId, Reason), Failure> {
    let mut violations = Violations::default();
    let id = violations.take("id", request.id.parse());
    let reason = violations.take("reason", Reason::parse_required(&request.reason));
    violations.finish(id.zip(reason))
}

pub(super) fn key(key: &KnownKey) -> SigningKey {
    let state = match key.state {
        KeyState::Pending => SigningKeyState::Pending,
        KeyState::Active => SigningKeyState::Active,
        KeyState::Published => SigningKeyState::Published,
        KeyState::Retired => SigningKeyState::Retired,
        KeyState::Revoked => SigningKeyState::Revoked,
    };
    SigningKey {
        id: key.id.to_string(),
        state: state.into(),
        create_time: Some(timestamp(key.created)),
        activate_time: Some(timestamp(key.activates)),
        retire_time: key.retires.map(timestamp),
    }
}
