//! Good tokens, hostile ones (T10), and time.

mod changed;

use std::time::Duration;

use jsonwebtoken::{Algorithm, Validation};
use rowhouse_context::{Impersonator, ServiceName};
use rowhouse_types::{SessionId, TenantId, UserId};

use super::*;
use crate::testing::Forge;

const ISSUER: &str = "rowhouse";

fn forge() -> Forge {
    Forge::new(ISSUER, "key-1", &[7; 32], seconds(SystemTime::now())).unwrap()
}

fn verifier(forge: &Forge) -> AccessTokenVerifier {
    let verifier = AccessTokenVerifier::new(ISSUER);
    verifier.set_keys([("key-1".to_owned(), forge.key().public())]);
    verifier
}

fn later(by_s: u64) -> SystemTime {
    SystemTime::now() + Duration::from_secs(by_s)
}

#[test]
fn the_four_shapes_are_accepted_and_name_their_principals() {
    let forge = forge();
    let verifier = verifier(&forge);
    let (user, session, tenant) = (UserId::generate(), SessionId::generate(), TenantId::generate());
    let now = seconds(SystemTime::now());
    let member = AccessClaims::for_session(ISSUER, user, session, Some(tenant), now, 300);
    let operator = AccessClaims::for_session(ISSUER, user, session, None, now, 300);
    let job = AccessClaims::for_job(
        ISSUER,
        (user, true),
        tenant,
        (ServiceName::Worker, "report_x"),
        now,
        300,
    );
    let by = Impersonator {
        operator: UserId::generate(),
        session: SessionId::generate(),
    };
    let as_member = AccessClaims::for_impersonation(ISSUER, (user, session), tenant, by, now, 300);
    let impersonated = Principal::Impersonated {
        user,
        session,
        tenant,
        by,
    };
    let delegate = Principal::Delegate {
        user,
        tenant,
        operator: true,
        service: ServiceName::Worker,
        job: "report_x".to_owned(),
    };
    for (claims, principal) in [
        (member, Principal::Member { user, session, tenant }),
        (operator, Principal::Operator { user, session }),
        (as_member, impersonated),
        (job, delegate),
    ] {
        let token = forge.sign(&claims).unwrap();
        for _ in ["anew", "remembered"] {
            let verified = verifier.verify(&token).unwrap();
            assert_eq!(verified.principal, principal);
            assert_eq!((verified.expires_at_s, &verified.id), (claims.exp, &claims.jti));
        }
    }
}

#[test]
fn every_hostile_token_is_refused() {
    let forge = forge();
    let verifier = verifier(&forge);
    let hostile = forge.hostile().unwrap();
    assert!(hostile.len() >= 80, "only {}", hostile.len());
    let accepted: Vec<&str> = hostile
        .iter()
        .filter(|hostile| verifier.verify(&hostile.token).is_ok())
        .map(|hostile| hostile.name.as_str())
        .collect();
    assert!(accepted.is_empty(), "accepted: {accepted:?}");
    assert!(verifier.verify(&forge.sign(&forge.member()).unwrap()).is_ok());
}

/// The control: without our checks, with the library's own defaults, dozens of the same tokens get in. So the table
/// does test what we added.
#[test]
fn a_verifier_with_the_librarys_defaults_accepts_many_of_them() {
    let forge = forge();
    let mut loose = Validation::new(Algorithm::EdDSA);
    loose.validate_aud = false;
    let key = forge.key().public().decoding_key();
    let hostile = forge.hostile().unwrap();
    let accepted: Vec<&str> = hostile
        .iter()
        .filter(|hostile| jsonwebtoken::decode::<serde_json::Value>(&hostile.token, &key, &loose).is_ok())
        .map(|hostile| hostile.name.as_str())
        .collect();
    for name in [
        "typ JWT",
        "jku",
        "no nbf",
        "no iss",
        "tenant twice",
        "exp just past",
        "session and actor",
    ] {
        assert!(accepted.contains(&name), "{name}: {accepted:?}");
    }
    assert!(
        accepted.len() >= 30,
        "{} of {}: {accepted:?}",
        accepted.len(),
        hostile.len()
    );
}

#[test]
fn the_names_in_the_table_are_all_different() {
    let mut names: Vec<String> = forge()
        .hostile()
        .unwrap()
        .into_iter()
        .map(|hostile| hostile.name)
        .collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn a_remembered_token_expires_like_any_other() {
    let forge = forge();
    let verifier = verifier(&forge);
    let token = forge.sign(&forge.member()).unwrap();
    assert!(verifier.verify(&token).is_ok());
    // 290 s are left, and 5 s are given for clocks that differ.
    assert!(verifier.verify_at(&token, later(293)).is_ok());
    assert_eq!(verifier.verify_at(&token, later(297)), Err(TokenError::Expired));
    let fresh = self::verifier(&forge);
    assert_eq!(fresh.verify_at(&token, later(297)), Err(TokenError::Expired));
}

#[test]
fn a_withdrawn_or_exchanged_key_ends_remembered_tokens() {
    let forge = forge();
    let verifier = verifier(&forge);
    let token = forge.sign(&forge.member()).unwrap();
    assert!(verifier.verify(&token).is_ok());
    let other = crate::SigningKey::from_seed(&[8; 32]).unwrap().public();
    verifier.set_keys([("key-1".to_owned(), other)]);
    assert_eq!(verifier.verify(&token), Err(TokenError::Invalid));
    verifier.set_keys([("key-2".to_owned(), other)]);
    assert_eq!(verifier.verify(&token), Err(TokenError::UnknownKey));
    verifier.set_keys([("key-1".to_owned(), forge.key().public())]);
    assert!(verifier.verify(&token).is_ok());
}

#[test]
fn clocks_may_differ_by_five_seconds_and_no_more() {
    let forge = forge();
    let mut claims = forge.member();
    let now = seconds(SystemTime::now());
    let at = |now: u64| UNIX_EPOCH + Duration::from_secs(now);
    (claims.iat, claims.nbf, claims.exp) = (now, now, now + 300);
    let token = forge.sign(&claims).unwrap();
    for (clock, answer) in [
        (now - 6, Err(TokenError::Invalid)),
        (now - 5, Ok(())),
        (now + 304, Ok(())),
        (now + 305, Err(TokenError::Expired)),
    ] {
        assert_eq!(
            verifier(&forge).verify_at(&token, at(clock)).map(|_| ()),
            answer,
            "{}",
            clock - (now - 6)
        );
    }
}

#[test]
fn claims_that_are_not_known_yet_are_ignored() {
    let forge = forge();
    let mut claims = serde_json::json!(forge.member());
    claims["amr"] = serde_json::json!(["pwd"]);
    let token = forge.key().sign(ACCESS_TOKEN_TYPE, "key-1", &claims).unwrap();
    assert!(verifier(&forge).verify(&token).is_ok());
}
