//! What is not a token, or one that was tampered with.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::testing::{Forge, Made, message};
use crate::token::ACCESS_TOKEN_TYPE;

pub(super) fn hostile(forge: &Forge) -> Vec<(&'static str, Made)> {
    let mut tokens = not_tokens(forge);
    tokens.extend(tampered(forge));
    tokens.extend(payloads(forge));
    tokens
}

fn not_tokens(forge: &Forge) -> Vec<(&'static str, Made)> {
    let good = || forge.sign(&forge.member());
    vec![
        ("nothing", Ok(String::new())),
        ("one dot", Ok(".".to_owned())),
        ("two dots", Ok("..".to_owned())),
        ("text", Ok("password".to_owned())),
        ("a refresh token", Ok(URL_SAFE_NO_PAD.encode([7; 32]))),
        ("two parts", Ok(message(&forge.good_header().to_string(), "{}"))),
        ("four parts", good().map(|token| format!("{token}.AAAA"))),
        (
            "five parts, as in JWE",
            good().map(|token| format!("{token}.AAAA.AAAA")),
        ),
        ("the scheme before it", good().map(|token| format!("Bearer {token}"))),
        ("a space before it", good().map(|token| format!(" {token}"))),
        ("a line break behind it", good().map(|token| format!("{token}\n"))),
        ("two tokens", good().map(|token| format!("{token},{token}"))),
        ("a megabyte", Ok("a".repeat(1_048_576))),
        (
            "a token with a megabyte of signature",
            good().map(|token| token + &"A".repeat(1_048_576)),
        ),
        (
            "JWS as JSON",
            good().map(|token| {
                let parts: Vec<&str> = token.split('.').collect();
                json!({"protected": parts.first(), "payload": parts.get(1), "signature": parts.get(2)}).to_string()
            }),
        ),
    ]
}

fn tampered(forge: &Forge) -> Vec<(&'static str, Made)> {
    let good = || forge.sign(&forge.member());
    let edited = |edit: fn(&str, &str, &str) -> String| {
        good().map(|token| {
            let mut parts = token.splitn(3, '.').map(str::to_owned);
            let mut next = || parts.next().unwrap_or_default();
            edit(&next(), &next(), &next())
        })
    };
    let stranger = forge.stranger.sign(ACCESS_TOKEN_TYPE, &forge.kid, &forge.member());
    let exchanged = good().and_then(|one| {
        let other = good()?;
        let (start, _) = one.rsplit_once('.').unwrap_or_default();
        let (_, signature) = other.rsplit_once('.').unwrap_or_default();
        Ok(format!("{start}.{signature}"))
    });
    vec![
        ("signed by a stranger under our kid", stranger),
        ("the signature of another token", exchanged),
        (
            "no signature",
            edited(|header, payload, _| format!("{header}.{payload}.")),
        ),
        (
            "half a signature",
            edited(|header, payload, sig| format!("{header}.{payload}.{}", sig.get(..43).unwrap_or(""))),
        ),
        (
            "a signature of zeros",
            edited(|header, payload, _| format!("{header}.{payload}.{}", URL_SAFE_NO_PAD.encode([0; 64]))),
        ),
        (
            "a signature with a byte more",
            edited(|header, payload, sig| {
                let mut bytes = URL_SAFE_NO_PAD.decode(sig).unwrap_or_default();
                bytes.push(0);
                format!("{header}.{payload}.{}", URL_SAFE_NO_PAD.encode(bytes))
            }),
        ),
        (
            "a signature with padding",
            edited(|header, payload, sig| {
                let bytes = URL_SAFE_NO_PAD.decode(sig).unwrap_or_default();
                format!("{header}.{payload}.{}", URL_SAFE.encode(bytes))
            }),
        ),
        (
            "the least bits of the signature's text changed",
            edited(|header, payload, sig| {
                // 64 bytes leave four bits of the last digit unused: `A`, `Q`, `g`, `w` are the canonical ones.
                let next = match sig.chars().last() {
                    Some('A') => 'B',
                    Some('Q') => 'R',
                    Some('g') => 'h',
                    _ => 'x',
                };
                format!("{header}.{payload}.{}{next}", sig.get(..85).unwrap_or(""))
            }),
        ),
        (
            "the parts in another order",
            edited(|header, payload, sig| format!("{payload}.{header}.{sig}")),
        ),
        (
            "another payload",
            edited(|header, payload, sig| {
                let text = URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
                let text = String::from_utf8_lossy(&text).replace("\"sub\":\"user_", "\"sub\": \"user_");
                format!("{header}.{}.{sig}", URL_SAFE_NO_PAD.encode(text))
            }),
        ),
        (
            "a service token of this key",
            forge.key.sign("svc+jwt", &forge.kid, &forge.member()),
        ),
    ]
}

fn payloads(forge: &Forge) -> Vec<(&'static str, Made)> {
    let header = forge.good_header().to_string();
    let raw = |payload: &str| forge.raw(&header, payload);
    let claims = forge.member();
    let list = json!([
        claims.iss,
        claims.aud,
        claims.sub,
        claims.tenant,
        claims.sid,
        null,
        null,
        false,
        claims.iat,
        claims.nbf,
        claims.exp,
        claims.jti
    ]);
    vec![
        ("a payload that is not JSON", raw("not json")),
        ("an empty payload", raw("")),
        ("an empty object", raw("{}")),
        ("a list of the claims", raw(&list.to_string())),
        (
            "a payload as text",
            raw(&json!(forge.payload().to_string()).to_string()),
        ),
        ("two objects", raw(&format!("{0}{0}", forge.payload()))),
        (
            "an object cut short",
            raw(forge.payload().to_string().trim_end_matches('}')),
        ),
        (
            "a deep payload",
            raw(&format!("{{\"iss\":{}{}}}", "[".repeat(1_000), "]".repeat(1_000))),
        ),
        (
            "a payload with a comment",
            raw(&forge.payload().to_string().replacen('{', "{/**/", 1)),
        ),
    ]
}
