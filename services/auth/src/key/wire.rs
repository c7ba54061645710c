//! Keys as messages (RFC 7517, RFC 8037).

use rowhouse_proto::auth::v1::{GetJwksResponse, Jwk};

use super::PublishedKey;

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
