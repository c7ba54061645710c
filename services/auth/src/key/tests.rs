//! Signing keys on a real database.

use std::sync::Arc;

use rowhouse_auth_kit::AccessTokenVerifier;
use rowhouse_client::KeysSource as _;
use rowhouse_types::{SessionId, UserId};

use super::{OwnKeys, published, to_jwks};
use crate::error::Error;
use crate::tests::bench::Bench;

#[tokio::test]
async fn processes_that_start_together_sign_with_one_key() {
    let bench = Bench::start("key_first").await;
    let replicas = [bench.replica().await, bench.replica().await, bench.state.clone()];
    let starts = replicas.map(|state| {
        tokio::spawn(async move {
            let token = state
                .signer()
                .await
                .unwrap()
                .session_token(UserId::generate(), SessionId::generate(), None);
            token.unwrap().text
        })
    });
    let verifier = Arc::new(AccessTokenVerifier::new("rowhouse"));
    let mut tokens = Vec::new();
    for start in starts {
        tokens.push(start.await.unwrap());
    }
    OwnKeys::new(bench.state.clone(), verifier.clone()).refresh().await;
    assert_eq!(verifier.key_count(), 1);
    for token in tokens {
        assert!(verifier.verify(&token).is_ok());
    }
}

#[tokio::test]
async fn the_published_set_is_a_jwks_of_the_keys_that_verify() {
    let bench = Bench::start("key_jwks").await;
    bench.state.signer().await.unwrap();
    bench
        .execute(
            "INSERT INTO auth.signing_keys (kid, public_key, sealed_private_key, state) VALUES \
             ('next', decode(repeat('07', 32), 'hex'), '', 'published'), \
             ('gone', decode(repeat('08', 32), 'hex'), '', 'retired')",
        )
        .await;
    let set = to_jwks(published(&bench.state).await.unwrap());
    assert_eq!(set.keys.len(), 2);
    for key in &set.keys {
        assert_eq!((key.kty.as_str(), key.crv.as_str()), ("OKP", "Ed25519"));
        assert_eq!((key.alg.as_str(), key.r#use.as_str()), ("EdDSA", "sig"));
        assert_eq!(key.x.len(), 43);
        assert_ne!(key.kid, "gone");
    }
}

#[tokio::test]
async fn another_master_key_opens_nothing_and_makes_no_key() {
    let bench = Bench::start("key_master").await;
    bench.state.signer().await.unwrap();
    let other = bench.with_another_master_key().await;
    assert!(matches!(other.signer().await, Err(Error::Fault(_))));
    assert_eq!(bench.count("SELECT count(*) FROM auth.signing_keys").await, 1);
}
