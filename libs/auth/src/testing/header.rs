//! Tokens whose header is hostile. The claims are good, and where it matters the signature too.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::key::KeyError;
use crate::testing::{Forge, Made, changed, message};

pub(super) fn hostile(forge: &Forge) -> Vec<(&'static str, Made)> {
    let mut tokens = algorithms(forge);
    tokens.extend(types(forge));
    tokens.extend(key_ids(forge));
    tokens.extend(extra_fields(forge));
    tokens
}

fn algorithms(forge: &Forge) -> Vec<(&'static str, Made)> {
    let alg = |value: Value| changed(forge.good_header(), "alg", Some(value));
    let unsigned = |name: &str| {
        let message = message(&alg(json!(name)).to_string(), &forge.payload().to_string());
        Ok(format!("{message}."))
    };
    let hmac = |secret: &[u8], algorithm, name: &str| {
        let message = message(&alg(json!(name)).to_string(), &forge.payload().to_string());
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &EncodingKey::from_secret(secret), algorithm);
        signature
            .map(|signature| format!("{message}.{signature}"))
            .map_err(|_| KeyError::Sign)
    };
    let public = forge.key.public();
    vec![
        ("alg none without signature", unsigned("none")),
        ("alg None without signature", unsigned("None")),
        ("alg NONE without signature", unsigned("NONE")),
        ("alg nOnE without signature", unsigned("nOnE")),
        ("alg EdDSA without signature", unsigned("EdDSA")),
        ("alg none with signature", forge.with_header(&alg(json!("none")))),
        (
            "alg HS256 keyed with the public key",
            hmac(public.bytes(), Algorithm::HS256, "HS256"),
        ),
        (
            "alg HS256 keyed with the public key as text",
            hmac(public.to_base64url().as_bytes(), Algorithm::HS256, "HS256"),
        ),
        (
            "alg HS512 keyed with the public key",
            hmac(public.bytes(), Algorithm::HS512, "HS512"),
        ),
        ("alg HS256 keyed with nothing", hmac(b"", Algorithm::HS256, "HS256")),
        (
            "alg EdDSA with an HMAC as signature",
            hmac(public.bytes(), Algorithm::HS512, "EdDSA"),
        ),
        (
            "alg HS256 with an Ed25519 signature",
            forge.with_header(&alg(json!("HS256"))),
        ),
        ("alg RS256", forge.with_header(&alg(json!("RS256")))),
        ("alg ES256", forge.with_header(&alg(json!("ES256")))),
        ("alg in lower case", forge.with_header(&alg(json!("eddsa")))),
        ("alg with a space", forge.with_header(&alg(json!("EdDSA ")))),
        ("alg as a list", forge.with_header(&alg(json!(["EdDSA"])))),
        ("alg null", forge.with_header(&alg(Value::Null))),
        ("no alg", forge.with_header(&changed(forge.good_header(), "alg", None))),
    ]
}

fn types(forge: &Forge) -> Vec<(&'static str, Made)> {
    let typ = |value| forge.with_header(&changed(forge.good_header(), "typ", value));
    vec![
        ("no typ", typ(None)),
        ("typ empty", typ(Some(json!("")))),
        ("typ JWT", typ(Some(json!("JWT")))),
        ("typ in upper case", typ(Some(json!("AT+JWT")))),
        ("typ with application/", typ(Some(json!("application/at+jwt")))),
        ("typ of a refresh token", typ(Some(json!("rt+jwt")))),
        ("typ of a service token", typ(Some(json!("svc+jwt")))),
        ("typ as a list", typ(Some(json!(["at+jwt"])))),
        ("typ null", typ(Some(Value::Null))),
    ]
}

fn key_ids(forge: &Forge) -> Vec<(&'static str, Made)> {
    let kid = |value| forge.with_header(&changed(forge.good_header(), "kid", value));
    vec![
        ("no kid", kid(None)),
        ("kid empty", kid(Some(json!("")))),
        ("kid unknown", kid(Some(json!("another")))),
        ("kid as a path", kid(Some(json!("../../../../dev/null")))),
        ("kid as SQL", kid(Some(json!("x' UNION SELECT 'AAAA")))),
        ("kid as a URL", kid(Some(json!("https://evil.example/key")))),
        ("kid with NUL", kid(Some(json!(format!("{}\0", forge.kid))))),
        ("kid as a number", kid(Some(json!(0)))),
        ("kid as a list", kid(Some(json!([forge.kid])))),
        ("kid of 3,000 bytes", kid(Some(json!("k".repeat(3_000))))),
    ]
}

fn extra_fields(forge: &Forge) -> Vec<(&'static str, Made)> {
    let with = |key: &str, value: Value| forge.with_header(&changed(forge.good_header(), key, Some(value)));
    let twice = |field: &str| {
        let header = forge.good_header().to_string();
        forge.raw(
            &header.replacen('{', &format!("{{{field},"), 1),
            &forge.payload().to_string(),
        )
    };
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": forge.stranger.public().to_base64url()});
    let own_key = changed(forge.good_header(), "jwk", Some(jwk.clone()));
    let signed_by_own_key = {
        let message = message(&own_key.to_string(), &forge.payload().to_string());
        let signature = forge.stranger.signature(&message);
        signature.map(|signature| format!("{message}.{signature}"))
    };
    vec![
        ("jwk in the header, signed by it", signed_by_own_key),
        ("jwk in the header, signed by ours", with("jwk", jwk)),
        ("jku", with("jku", json!("https://evil.example/jwks.json"))),
        ("x5u", with("x5u", json!("https://evil.example/cert.pem"))),
        ("x5c", with("x5c", json!([STANDARD.encode("certificate")]))),
        ("x5t", with("x5t", json!(URL_SAFE_NO_PAD.encode("thumbprint")))),
        ("crit", with("crit", json!(["exp"]))),
        ("crit empty", with("crit", json!([]))),
        ("b64 false", with("b64", json!(false))),
        ("zip", with("zip", json!("DEF"))),
        ("cty JWT", with("cty", json!("JWT"))),
        ("enc", with("enc", json!("A256GCM"))),
        (
            "a field nobody knows",
            with("tenant", json!("tenant_01h455vb4pex5vsknk084sn02q")),
        ),
        ("alg twice", twice("\"alg\":\"none\"")),
        ("kid twice", twice("\"kid\":\"another\"")),
        ("typ twice", twice("\"typ\":\"JWT\"")),
        (
            "header as a list",
            forge.with_header(&json!(["EdDSA", "at+jwt", forge.kid])),
        ),
        ("header as text", forge.with_header(&json!("EdDSA"))),
        ("header empty", forge.with_header(&json!({}))),
    ]
}
