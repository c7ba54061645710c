//! Tokens whose claims are hostile. Header and signature are good: only auth could make them, so each is a fault that
//! auth must not get away with, or a token of another kind signed with the same key.

use rowhouse_types::{SessionId, TenantId, UserId};
use serde_json::{Value, json};

use crate::testing::{Forge, Made, changed};

pub(super) fn hostile(forge: &Forge) -> Vec<(&'static str, Made)> {
    let mut tokens = parties(forge);
    tokens.extend(expiry(forge));
    tokens.extend(beginning(forge));
    tokens.extend(shapes(forge));
    tokens.extend(twice(forge));
    tokens
}

fn with(forge: &Forge, key: &str, value: Option<Value>) -> Made {
    forge.with_payload(&changed(forge.payload(), key, value))
}

fn parties(forge: &Forge) -> Vec<(&'static str, Made)> {
    let with = |key: &str, value| with(forge, key, value);
    vec![
        ("no iss", with("iss", None)),
        ("iss of another", with("iss", Some(json!("https://evil.example")))),
        (
            "iss in upper case",
            with("iss", Some(json!(forge.issuer.to_uppercase()))),
        ),
        (
            "iss with more behind it",
            with("iss", Some(json!(format!("{}.evil", forge.issuer)))),
        ),
        (
            "iss as a list with ours",
            with("iss", Some(json!([forge.issuer, "evil"]))),
        ),
        ("iss null", with("iss", Some(Value::Null))),
        ("no aud", with("aud", None)),
        ("aud of another", with("aud", Some(json!("billing")))),
        ("aud of a service", with("aud", Some(json!("crm")))),
        ("aud as a list of ours", with("aud", Some(json!(["rowhouse"])))),
        (
            "aud as a list with ours",
            with("aud", Some(json!(["evil", "rowhouse"]))),
        ),
        ("aud empty", with("aud", Some(json!("")))),
        ("aud null", with("aud", Some(Value::Null))),
        ("no sub", with("sub", None)),
        ("sub empty", with("sub", Some(json!("")))),
        ("sub of another kind", with("sub", Some(json!(TenantId::generate())))),
        (
            "sub in upper case",
            with("sub", Some(json!(UserId::generate().to_string().to_uppercase()))),
        ),
        ("sub as a list", with("sub", Some(json!([UserId::generate()])))),
        ("sub as a number", with("sub", Some(json!(1)))),
        ("no jti", with("jti", None)),
        ("jti empty", with("jti", Some(json!("")))),
    ]
}

fn expiry(forge: &Forge) -> Vec<(&'static str, Made)> {
    let exp = |value| with(forge, "exp", value);
    let now = forge.now_s;
    vec![
        ("no exp", exp(None)),
        ("exp long past", exp(Some(json!(1)))),
        ("exp just past", exp(Some(json!(now.saturating_sub(5))))),
        ("exp as text", exp(Some(json!(now.saturating_add(60).to_string())))),
        ("exp as a fraction", {
            let text = forge.payload().to_string();
            let exp = forge.member().exp.to_string();
            let text = text.replace(&format!("\"exp\":{exp}"), &format!("\"exp\":{exp}.5"));
            forge.raw(&forge.good_header().to_string(), &text)
        }),
        ("exp negative", exp(Some(json!(-1)))),
        ("exp null", exp(Some(Value::Null))),
        ("exp as a list", exp(Some(json!([now.saturating_add(60)])))),
        ("exp in ten years", exp(Some(json!(now.saturating_add(315_360_000))))),
        ("exp at the end of time", exp(Some(json!(u64::MAX)))),
        (
            "exp in milliseconds",
            exp(Some(json!(now.saturating_add(60).saturating_mul(1_000)))),
        ),
        ("exp 1e400", {
            let text = changed(forge.payload(), "exp", None).to_string();
            let text = text.replacen('{', "{\"exp\":1e400,", 1);
            forge.raw(&forge.good_header().to_string(), &text)
        }),
    ]
}

fn beginning(forge: &Forge) -> Vec<(&'static str, Made)> {
    let with = |key: &str, value| with(forge, key, value);
    let later = forge.now_s.saturating_add(60);
    vec![
        ("no nbf", with("nbf", None)),
        ("nbf in a minute", with("nbf", Some(json!(later)))),
        ("nbf as text", with("nbf", Some(json!("0")))),
        ("nbf null", with("nbf", Some(Value::Null))),
        ("nbf negative", with("nbf", Some(json!(-1)))),
        ("no iat", with("iat", None)),
        ("iat in a minute", with("iat", Some(json!(later)))),
        ("iat as text", with("iat", Some(json!("0")))),
        ("iat of 1970", with("iat", Some(json!(0)))),
    ]
}

/// Mixtures of the four shapes: a member's, an operator's, an impersonating one, a delegated one.
fn shapes(forge: &Forge) -> Vec<(&'static str, Made)> {
    let with = |key: &str, value| with(forge, key, value);
    let bare = changed(forge.payload(), "sid", None);
    let delegated = |act: Value, job: Option<Value>| {
        let claims = changed(bare.clone(), "act", Some(act));
        forge.with_payload(&changed(claims, "job", job))
    };
    let nobody = changed(bare.clone(), "tenant", None);
    let worker = json!({"sub": "worker"});
    let job = Some(json!("report_01h455vb4pex5vsknk084sn02q"));
    vec![
        ("neither tenant nor session", forge.with_payload(&nobody)),
        ("a tenant without session", forge.with_payload(&bare)),
        ("tenant null", with("tenant", Some(Value::Null))),
        ("tenant empty", with("tenant", Some(json!("")))),
        (
            "tenant of another kind",
            with("tenant", Some(json!(UserId::generate()))),
        ),
        ("tenant as a list", with("tenant", Some(json!([TenantId::generate()])))),
        ("tenant *", with("tenant", Some(json!("*")))),
        ("sid null", with("sid", Some(Value::Null))),
        ("sid of another kind", with("sid", Some(json!(UserId::generate())))),
        ("session and actor", with("act", Some(worker.clone()))),
        (
            "an impersonator without a session of their own",
            with("act", Some(json!({"sub": UserId::generate()}))),
        ),
        (
            "an impersonator of another kind",
            with(
                "act",
                Some(json!({"sub": TenantId::generate(), "sid": SessionId::generate()})),
            ),
        ),
        (
            "an impersonator's session of another kind",
            with(
                "act",
                Some(json!({"sub": UserId::generate(), "sid": UserId::generate()})),
            ),
        ),
        (
            "an impersonator's session null",
            with("act", Some(json!({"sub": UserId::generate(), "sid": null}))),
        ),
        ("an impersonator behind an impersonator", {
            let inner = json!({"sub": UserId::generate(), "sid": SessionId::generate()});
            let outer = json!({"sub": UserId::generate(), "sid": SessionId::generate(), "act": inner});
            with("act", Some(outer))
        }),
        ("an impersonator without tenant", {
            let act = json!({"sub": UserId::generate(), "sid": SessionId::generate()});
            forge.with_payload(&changed(changed(forge.payload(), "tenant", None), "act", Some(act)))
        }),
        ("an impersonator with a job", {
            let act = json!({"sub": UserId::generate(), "sid": SessionId::generate()});
            forge.with_payload(&changed(changed(forge.payload(), "act", Some(act)), "job", job.clone()))
        }),
        (
            "a service with a session in a delegated token",
            delegated(json!({"sub": "worker", "sid": SessionId::generate()}), job.clone()),
        ),
        ("session and job", with("job", job.clone())),
        ("session and platform", with("platform", Some(json!(true)))),
        ("platform as text", with("platform", Some(json!("true")))),
        ("an actor without job", delegated(worker.clone(), None)),
        ("an actor with an empty job", delegated(worker.clone(), Some(json!("")))),
        (
            "an actor that is no service",
            delegated(json!({"sub": "evil"}), job.clone()),
        ),
        (
            "an actor that is a person",
            delegated(json!({"sub": UserId::generate()}), job.clone()),
        ),
        ("an actor as text", delegated(json!("worker"), job.clone())),
        (
            "an actor behind an actor",
            delegated(json!({"sub": "worker", "act": {"sub": "crm"}}), job.clone()),
        ),
        (
            "a job without actor",
            forge.with_payload(&changed(bare.clone(), "job", job.clone())),
        ),
        ("a delegated token without tenant", {
            let claims = changed(changed(nobody, "act", Some(worker)), "job", job);
            forge.with_payload(&claims)
        }),
    ]
}

fn twice(forge: &Forge) -> Vec<(&'static str, Made)> {
    let first = |member: String| {
        let text = forge.payload().to_string().replacen('{', &format!("{{{member},"), 1);
        forge.raw(&forge.good_header().to_string(), &text)
    };
    let last = |member: String| {
        let text = forge.payload().to_string();
        let text = format!("{},{member}}}", text.trim_end_matches('}'));
        forge.raw(&forge.good_header().to_string(), &text)
    };
    vec![
        (
            "sub twice, theirs first",
            first(format!("\"sub\":\"{}\"", UserId::generate())),
        ),
        (
            "sub twice, theirs last",
            last(format!("\"sub\":\"{}\"", UserId::generate())),
        ),
        ("tenant twice", last(format!("\"tenant\":\"{}\"", TenantId::generate()))),
        ("sid twice", last(format!("\"sid\":\"{}\"", SessionId::generate()))),
        ("exp twice", last("\"exp\":4102444800".to_owned())),
        ("exp twice, once escaped", last("\"\\u0065xp\":4102444800".to_owned())),
        ("iss twice", first("\"iss\":\"evil\"".to_owned())),
        ("aud twice", first("\"aud\":\"evil\"".to_owned())),
    ]
}
