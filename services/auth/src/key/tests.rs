//! Signing keys on a real database.

mod schedule;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rowhouse_auth_kit::{AccessTokenVerifier, KeyId};
use rowhouse_client::KeysSource as _;
use rowhouse_context::Ctx;
use rowhouse_types::{SessionId, UserId};

use super::actions::{list, revoke, revoke_all, rotate};
use super::{AccessToken, KeyState, KnownKey, OwnKeys, Reason, Schedule, Signer, published, rotation, to_jwks};
use crate::error::Error;
use crate::master::{self, Purpose, master_keys};
use crate::rights::{Query, Standing};
use crate::tests::bench::{Bench, House, service_ctx};

/// A token for anybody's session, where something is left of it.
fn token_until(signer: &Signer, ends: DateTime<Utc>) -> Option<AccessToken> {
    let token = signer.session_token(UserId::generate(), SessionId::generate(), None, ends);
    token.unwrap()
}

fn token(signer: &Signer) -> String {
    token_until(signer, Utc::now() + TimeDelta::days(1)).unwrap().text
}

#[tokio::test]
async fn processes_that_start_together_sign_with_one_key() {
    let bench = Bench::start("key_first").await;
    let replicas = [bench.replica().await, bench.replica().await, bench.state.clone()];
    let starts = replicas.map(|state| tokio::spawn(async move { token(&state.signer().await.unwrap()) }));
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
             ('next', decode(repeat('07', 32), 'hex'), '', 'pending'), \
             ('before', decode(repeat('09', 32), 'hex'), '', 'published'), \
             ('lost', decode(repeat('06', 32), 'hex'), '', 'revoked'), \
             ('gone', decode(repeat('08', 32), 'hex'), '', 'retired')",
        )
        .await;
    let set = to_jwks(published(&bench.state).await.unwrap());
    assert_eq!(set.keys.len(), 3);
    for key in &set.keys {
        assert_eq!((key.kty.as_str(), key.crv.as_str()), ("OKP", "Ed25519"));
        assert_eq!((key.alg.as_str(), key.r#use.as_str()), ("EdDSA", "sig"));
        assert_eq!(key.x.len(), 43);
        assert!(!["gone", "lost"].contains(&key.kid.as_str()));
    }
}

#[tokio::test]
async fn what_has_ended_gets_no_token_and_what_ends_soon_a_short_one() {
    let bench = Bench::start("key_short").await;
    let signer = bench.state.signer().await.unwrap();
    let now = Utc::now();
    for ended in [now, now - TimeDelta::days(1)] {
        assert!(token_until(&signer, ended).is_none(), "{ended}");
    }
    let soon = now + TimeDelta::minutes(4);
    let short = token_until(&signer, soon).unwrap();
    assert_eq!(short.expires.timestamp(), soon.timestamp());
    let verifier = AccessTokenVerifier::new("rowhouse");
    let keys = published(&bench.state).await.unwrap();
    verifier.set_keys(keys.into_iter().map(|published| (published.kid, published.key)));
    let verified = verifier.verify(&short.text).unwrap();
    assert_eq!(i64::try_from(verified.expires_at_s).unwrap(), soon.timestamp());
}

#[tokio::test]
async fn another_master_key_opens_nothing_and_makes_no_key() {
    let bench = Bench::start("key_master").await;
    bench.state.signer().await.unwrap();
    let other = bench.with_master_keys("B").await;
    assert!(matches!(other.signer().await, Err(Error::Fault(_))));
    assert_eq!(bench.count("SELECT count(*) FROM auth.signing_keys").await, 1);
}

/// The master key is replaced, and everything goes on.
#[tokio::test]
async fn a_key_that_a_previous_master_key_has_sealed_signs_on_and_is_sealed_by_the_present_one() {
    let bench = Bench::start("key_reseal").await;
    let (_, id) = signed(&bench).await;
    let [both, alone] = ["BA", "B"].map(|keys| bench.with_master_keys(keys));
    let (both, alone) = (both.await, alone.await);
    assert_eq!(both.signer().await.unwrap().id, id);
    assert!(
        alone.signer().await.is_err(),
        "the control: without the previous one it is not opened"
    );

    let reseal = async |keys| master::reseal(&bench.state.db, &master_keys(keys)).await.unwrap();
    let lost = reseal("C").await;
    assert_eq!((lost.secrets, lost.resealed, lost.unopened), (1, 0, 1));
    assert_eq!(lost.examples, [format!("signing key {id}")]);
    for resealed in [1, 0] {
        let done = reseal("BA").await;
        assert_eq!((done.secrets, done.resealed, done.unopened), (1, resealed, 0));
    }
    assert_eq!(alone.signer().await.unwrap().id, id);
}

#[tokio::test]
async fn where_the_master_key_is_lost_all_keys_end_and_a_new_one_signs() {
    let bench = Bench::start("key_lost").await;
    let (old, id) = signed(&bench).await;
    let other = bench.with_master_keys("B").await;
    assert!(other.signer().await.is_err());
    let sealers = master::sealers(&master_keys("B"), Purpose::SigningKeys).unwrap();
    assert_eq!(revoke_all(&other.db, &sealers, &why()).await.unwrap(), 1);
    let signer = other.signer().await.unwrap();
    assert_ne!(signer.id, id);
    assert_eq!(states(&bench).await, [KeyState::Active, KeyState::Revoked]);
    assert!(!verifies(&bench, &old).await && verifies(&bench, &token(&signer)).await);
    let told = "SELECT count(*) FROM auth.audit WHERE action = 'signing_key.revoke' AND after->>'reason' <> ''";
    assert_eq!(bench.count(told).await, 1);
}

fn why() -> Reason {
    Reason::parse_required("a laptop was lost").unwrap()
}

fn operator() -> Ctx {
    service_ctx()
}

/// The state of each key, the newest first.
async fn states(bench: &Bench) -> Vec<KeyState> {
    let keys = list(&operator(), &bench.state).await.unwrap();
    keys.iter().map(|key| key.state).collect()
}

/// A token that is signed now, and the key that signed it.
async fn signed(bench: &Bench) -> (String, KeyId) {
    let signer = bench.state.signer().await.unwrap();
    (token(&signer), signer.id)
}

/// Whether a service that reads the published keys now takes a token.
async fn verifies(bench: &Bench, token: &str) -> bool {
    let verifier = Arc::new(AccessTokenVerifier::new("rowhouse"));
    OwnKeys::new(bench.state.clone(), verifier.clone()).refresh().await;
    verifier.verify(token).is_ok()
}

async fn pass(bench: &Bench, column: &str) {
    bench
        .execute(&format!(
            "UPDATE auth.signing_keys SET {column} = now() WHERE {column} > now()"
        ))
        .await;
    rotation::look(&bench.state).await.unwrap();
}

#[tokio::test]
async fn a_key_is_published_before_it_signs_and_honoured_until_its_last_token_has_expired() {
    let bench = Bench::start("key_rotate").await;
    let (before, old) = signed(&bench).await;
    let next = rotate(&operator(), &bench.state).await.unwrap();
    assert_eq!(next.state, KeyState::Pending);
    assert_eq!(states(&bench).await, [KeyState::Pending, KeyState::Active]);
    rotation::look(&bench.state).await.unwrap();
    assert_eq!(signed(&bench).await.1, old, "its time has not come");
    let known = to_jwks(published(&bench.state).await.unwrap()).keys;
    assert!(
        known.iter().any(|key| key.kid == next.id.as_str()),
        "but everybody may know it"
    );
    let again = rotate(&operator(), &bench.state).await.unwrap();
    assert_eq!(again.id, next.id, "one next key is enough");

    pass(&bench, "activates_at").await;
    let (after, new) = signed(&bench).await;
    assert_eq!(new, next.id);
    assert_eq!(states(&bench).await, [KeyState::Active, KeyState::Published]);
    assert!(verifies(&bench, &before).await && verifies(&bench, &after).await);

    pass(&bench, "retires_at").await;
    assert_eq!(states(&bench).await, [KeyState::Active, KeyState::Retired]);
    assert!(!verifies(&bench, &before).await && verifies(&bench, &after).await);
    let kept = "SELECT count(*) FROM auth.signing_keys WHERE state = 'retired' AND sealed_private_key <> ''";
    assert_eq!(
        bench.count(kept).await,
        0,
        "a private key that signs nothing is not kept"
    );
    let audited = "SELECT count(*) FROM auth.audit WHERE action = 'signing_key.rotate'";
    assert_eq!(bench.count(audited).await, 1);
}

#[tokio::test]
async fn processes_that_rotate_together_make_one_key_and_all_sign_with_it() {
    let bench = Bench::start("key_race").await;
    signed(&bench).await;
    let replicas = [bench.replica().await, bench.replica().await, bench.state.clone()];
    let rotations = replicas.clone().map(|state| {
        tokio::spawn(async move {
            let next = rotate(&operator(), &state).await.unwrap();
            rotation::look(&state).await.unwrap();
            next.id
        })
    });
    let mut made = Vec::new();
    for rotation in rotations {
        made.push(rotation.await.unwrap());
    }
    made.dedup();
    assert_eq!(made.len(), 1);
    pass(&bench, "activates_at").await;
    for state in replicas {
        assert_eq!(state.signer().await.unwrap().id, made[0]);
    }
}

#[tokio::test]
async fn an_old_key_is_replaced_without_anybody_asking() {
    let bench = Bench::start("key_old").await;
    signed(&bench).await;
    rotation::look(&bench.state).await.unwrap();
    assert_eq!(states(&bench).await, [KeyState::Active]);
    bench
        .execute("UPDATE auth.signing_keys SET activates_at = now() - interval '91 days'")
        .await;
    rotation::look(&bench.state).await.unwrap();
    rotation::look(&bench.state).await.unwrap();
    assert_eq!(states(&bench).await, [KeyState::Pending, KeyState::Active]);
    let by = "SELECT count(*) FROM auth.audit WHERE action = 'signing_key.rotate' AND actor = 'service:auth'";
    assert_eq!(bench.count(by).await, 1);
}

/// What a token of a key gives to somebody with a good session.
async fn standing(bench: &Bench, house: &House, key: KeyId) -> Standing {
    let query = Query {
        user: house.admin,
        session: None,
        tenant: Some(house.tenant),
        platform: false,
        key: Some(key),
        by: None,
    };
    bench.rights(query).await.standing
}

#[tokio::test]
async fn what_a_revoked_key_has_signed_gives_no_rights_and_another_key_signs() {
    let bench = Bench::start("key_revoke").await;
    let house = bench.house("acme").await;
    let (token, lost) = signed(&bench).await;
    assert_eq!(standing(&bench, &house, lost).await, Standing::Good);
    let revoked = revoke(&operator(), &bench.state, lost, &why()).await.unwrap();
    assert_eq!((revoked.id, revoked.state), (lost, KeyState::Revoked));
    assert_eq!(standing(&bench, &house, lost).await, Standing::KeyRevoked);
    assert!(!verifies(&bench, &token).await);
    let (token, new) = signed(&bench).await;
    assert_ne!(new, lost);
    assert_eq!(standing(&bench, &house, new).await, Standing::Good);
    assert!(verifies(&bench, &token).await);
    let again = revoke(&operator(), &bench.state, lost, &why()).await.unwrap();
    assert_eq!(again, revoked, "a repeated call changes nothing");
    assert_eq!(states(&bench).await.len(), 2);

    // Where the next key waits already, it is the one that signs.
    let next = rotate(&operator(), &bench.state).await.unwrap();
    revoke(&operator(), &bench.state, new, &why()).await.unwrap();
    assert_eq!(signed(&bench).await.1, next.id);

    let stranger = "no-key-of-ours".parse().unwrap();
    assert_eq!(standing(&bench, &house, stranger).await, Standing::KeyRevoked);
    let unknown = revoke(&operator(), &bench.state, stranger, &why()).await;
    assert!(
        matches!(
            unknown,
            Err(Error::NotFound {
                kind: "signing key",
                ..
            })
        ),
        "{unknown:?}"
    );
    let dump = bench.dump().await;
    assert!(dump.contains("a laptop was lost"), "the audit log says why");
}

#[tokio::test]
async fn a_revocation_is_acknowledged_when_every_lease_has_confirmed_it() {
    let bench = Bench::start("key_acknowledge").await;
    let (_, lost) = signed(&bench).await;
    let state = bench.state.clone();
    let revoking = async move { revoke(&operator(), &state, lost, &why()).await };
    let (_, subjects) = bench.acknowledged(revoking).await;
    assert_eq!(subjects, [format!("signing_key:{lost}")]);
}

/// Operators may wish to have no waiting, as tests do.
#[tokio::test]
async fn without_a_time_of_publication_a_new_key_signs_at_once() {
    let bench = Bench::start("key_at_once").await;
    signed(&bench).await;
    let state = bench
        .scheduled(Schedule {
            published: Duration::ZERO,
            replaced: None,
        })
        .await;
    let next: KnownKey = rotate(&operator(), &state).await.unwrap();
    assert_eq!(next.state, KeyState::Active);
    assert_eq!(states(&bench).await, [KeyState::Active, KeyState::Published]);
}

/// More would be honoured by nobody: whoever verifies takes no more.
#[tokio::test]
async fn no_more_keys_are_made_than_are_published() {
    let bench = Bench::start("key_many").await;
    signed(&bench).await;
    bench
        .execute(
            "INSERT INTO auth.signing_keys (kid, public_key, sealed_private_key, state, retires_at) \
             SELECT 'old-' || n, decode(repeat('07', 32), 'hex'), '', 'published', now() + interval '1 minute' \
             FROM generate_series(1, 63) AS n",
        )
        .await;
    assert_eq!(published(&bench.state).await.unwrap().len(), 64);
    let refused = rotate(&operator(), &bench.state).await;
    assert!(matches!(refused, Err(Error::TooManyKeys)), "{refused:?}");
    pass(&bench, "retires_at").await;
    rotate(&operator(), &bench.state).await.unwrap();
}
