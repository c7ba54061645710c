//! Tokens between services: good ones, hostile ones, and time.

use std::time::UNIX_EPOCH;

use super::*;

const NOW_S: u64 = 1_800_000_000;

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

fn seed(name: ServiceName) -> [u8; 32] {
    [name.as_str().len() as u8 + name.as_str().as_bytes()[0]; 32]
}

fn signer(name: ServiceName) -> ServiceSigner {
    ServiceSigner::new(name, &seed(name)).unwrap()
}

fn keys() -> BTreeMap<String, String> {
    ServiceName::ALL
        .into_iter()
        .map(|name| {
            let key = SigningKey::from_seed(&seed(name)).unwrap().public();
            (name.as_str().to_owned(), key.to_base64url())
        })
        .collect()
}

fn auth() -> ServiceVerifier {
    ServiceVerifier::new(ServiceName::Auth, &keys()).unwrap()
}

/// A token of crm for auth with one thing changed; signed by crm's key unless told otherwise.
fn forged(change: impl FnOnce(&mut Claims), typ: &str, kid: &str, seed: [u8; 32]) -> String {
    let mut claims = Claims {
        iss: "crm".to_owned(),
        sub: "crm".to_owned(),
        aud: "auth".to_owned(),
        iat: NOW_S,
        nbf: NOW_S,
        exp: NOW_S + 60,
        jti: "one".to_owned(),
    };
    change(&mut claims);
    SigningKey::from_seed(&seed).unwrap().sign(typ, kid, &claims).unwrap()
}

#[test]
fn a_service_is_known_by_its_token() {
    let token = signer(ServiceName::Crm).token_at(ServiceName::Auth, at(NOW_S)).unwrap();
    let auth = auth();
    for _ in ["anew", "remembered"] {
        assert_eq!(auth.verify_at(&token, at(NOW_S)), Ok(ServiceName::Crm));
    }
    assert_eq!(auth.verify_at(&token, at(NOW_S + 66)), Err(TokenError::Expired));
}

#[test]
fn a_token_for_one_service_is_refused_by_the_others() {
    let token = signer(ServiceName::Crm).token_at(ServiceName::Auth, at(NOW_S)).unwrap();
    for own in [ServiceName::Tenant, ServiceName::Crm, ServiceName::Worker] {
        let verifier = ServiceVerifier::new(own, &keys()).unwrap();
        assert_eq!(verifier.verify_at(&token, at(NOW_S)), Err(TokenError::Invalid), "{own}");
    }
}

#[test]
fn hostile_service_tokens_are_refused() {
    let crm = seed(ServiceName::Crm);
    let none = |_: &mut Claims| {};
    let good = forged(none, SERVICE_TOKEN_TYPE, "crm", crm);
    assert_eq!(auth().verify_at(&good, at(NOW_S)), Ok(ServiceName::Crm), "the control");
    for (why, token) in [
        (
            "signed by another service",
            forged(none, SERVICE_TOKEN_TYPE, "crm", seed(ServiceName::Worker)),
        ),
        (
            "signed by nobody we know",
            forged(none, SERVICE_TOKEN_TYPE, "crm", [99; 32]),
        ),
        ("an unknown name", forged(none, SERVICE_TOKEN_TYPE, "billing", crm)),
        ("a name in upper case", forged(none, SERVICE_TOKEN_TYPE, "CRM", crm)),
        ("no name", forged(none, SERVICE_TOKEN_TYPE, "", crm)),
        ("an access token", forged(none, "at+jwt", "crm", crm)),
        ("an ordinary JWT", forged(none, "JWT", "crm", crm)),
        (
            "another audience",
            forged(
                |claims| claims.aud = "tenant".to_owned(),
                SERVICE_TOKEN_TYPE,
                "crm",
                crm,
            ),
        ),
        (
            "the users' audience",
            forged(
                |claims| claims.aud = "rowhouse".to_owned(),
                SERVICE_TOKEN_TYPE,
                "crm",
                crm,
            ),
        ),
        (
            "another issuer",
            forged(
                |claims| claims.iss = "worker".to_owned(),
                SERVICE_TOKEN_TYPE,
                "crm",
                crm,
            ),
        ),
        (
            "another subject",
            forged(
                |claims| claims.sub = "worker".to_owned(),
                SERVICE_TOKEN_TYPE,
                "crm",
                crm,
            ),
        ),
        (
            "expired",
            forged(
                |claims| {
                    claims.iat -= 120;
                    claims.exp -= 120;
                },
                SERVICE_TOKEN_TYPE,
                "crm",
                crm,
            ),
        ),
        (
            "of the future",
            forged(|claims| claims.nbf += 30, SERVICE_TOKEN_TYPE, "crm", crm),
        ),
        (
            "valid for a day",
            forged(|claims| claims.exp += 86_400, SERVICE_TOKEN_TYPE, "crm", crm),
        ),
        (
            "no id",
            forged(|claims| claims.jti.clear(), SERVICE_TOKEN_TYPE, "crm", crm),
        ),
        ("nothing", String::new()),
    ] {
        assert!(auth().verify_at(&token, at(NOW_S)).is_err(), "{why}");
    }
}

#[test]
fn a_token_is_kept_for_half_its_life_and_for_one_audience() {
    let signer = signer(ServiceName::Crm);
    let first = signer.token_at(ServiceName::Auth, at(NOW_S)).unwrap();
    assert_eq!(signer.token_at(ServiceName::Auth, at(NOW_S + 29)).unwrap(), first);
    assert_ne!(signer.token_at(ServiceName::Tenant, at(NOW_S)).unwrap(), first);
    let second = signer.token_at(ServiceName::Auth, at(NOW_S + 30)).unwrap();
    assert_ne!(second, first);
    let set_back = signer.token_at(ServiceName::Auth, at(NOW_S - 3_600)).unwrap();
    assert_eq!(auth().verify_at(&set_back, at(NOW_S - 3_600)), Ok(ServiceName::Crm));
}

#[test]
fn a_verifier_needs_a_key_of_each_service_and_none_of_strangers() {
    let mut keys = keys();
    let crm = keys.remove("crm").unwrap();
    assert_eq!(
        ServiceVerifier::new(ServiceName::Auth, &keys).err(),
        Some(KeyError::ServiceWithoutKey)
    );
    keys.insert("crm".to_owned(), "short".to_owned());
    assert_eq!(
        ServiceVerifier::new(ServiceName::Auth, &keys).err(),
        Some(KeyError::Public)
    );
    keys.insert("crm".to_owned(), crm.clone());
    keys.insert("billing".to_owned(), crm);
    assert_eq!(
        ServiceVerifier::new(ServiceName::Auth, &keys).err(),
        Some(KeyError::ServiceUnknown)
    );
}
