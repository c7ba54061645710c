//! What must not be found, and the search for it, in every form in which logs, databases and messages write text.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use rowhouse_devkit::torture::Dice;
use tonic::Status;

/// What a secret may hold that is written otherwise somewhere: in JSON, in Rust's own quotes, in a row's text, in a link.
const AWKWARD: [&str; 8] = ["\"", "\\", "'", "%", "{}", "\u{fc}", "\u{1f6aa}", " "];

/// What begins like a secret of ours is one from this length on, in characters: of a key twelve are shown to its owner.
const SECRET_CHARS_MIN: usize = 24;

/// What must not be found, each by its name, and what was answered meanwhile.
pub(super) struct Watched {
    /// A password that nobody else has.
    pub(super) password: String,
    /// One that is sent and is wrong.
    pub(super) wrong: String,
    secrets: Vec<Secret>,
    pub(super) statuses: Vec<String>,
}

struct Secret {
    name: &'static str,
    text: String,
    forms: BTreeSet<String>,
}

impl Watched {
    pub(super) fn new(dice: &mut Dice) -> Self {
        let mut invented = |kind: &str| {
            let awkward: String = (0..3).map(|_| AWKWARD[dice.below(AWKWARD.len())]).collect();
            format!("canary-{:06x}-{kind}{awkward}", dice.below(1 << 24))
        };
        Self {
            password: invented("password"),
            wrong: invented("mistaken"),
            secrets: Vec::new(),
            statuses: Vec::new(),
        }
    }

    pub(super) fn secret(&mut self, name: &'static str, secret: impl Into<String>) {
        let text = secret.into();
        if !self.secrets.iter().any(|known| known.text == text) {
            let forms = forms(&text);
            self.secrets.push(Secret { name, text, forms });
        }
    }

    pub(super) fn refused<T>(&mut self, answer: Result<tonic::Response<T>, Status>) -> Result<()> {
        let status = answer.err().context("it should be refused")?;
        let details = String::from_utf8_lossy(status.details()).into_owned();
        self.statuses.push(format!("{status:?} {details}"));
        Ok(())
    }

    /// How many secrets there are.
    pub(super) fn count(&self) -> usize {
        self.secrets.len()
    }

    /// Names of the secrets that stand in `text`, in any form.
    pub(super) fn found_in(&self, text: &str) -> Vec<&'static str> {
        let stands = |secret: &&Secret| secret.forms.iter().any(|form| text.contains(form));
        self.secrets.iter().filter(stands).map(|secret| secret.name).collect()
    }
}

/// What looks like a secret of the suite, whoever made it for whom: signed tokens, those too that services show each other, and
/// what begins like a refresh token, an API key or a device's secret and is longer than what is shown of one. As text, and as bytes
/// in hexadecimal.
pub(super) fn shapes_in(text: &str) -> Vec<&'static str> {
    let is_long = |from: &str| rest_of(from) >= SECRET_CHARS_MIN;
    let stands = |begins: &str, is_one: fn(&str) -> bool| {
        let as_text = text.match_indices(begins).any(|(at, _)| is_one(&text[at..]));
        let begins = hex(begins);
        let mut as_bytes = text.match_indices(&begins).map(|(at, _)| from_hex(&text[at..]));
        as_text || as_bytes.any(|from| is_one(&from))
    };
    [
        ("a signed token", stands("eyJ", is_signed)),
        ("a refresh token", stands("rhr_", is_long)),
        ("an API key", stands("rhk_", is_long)),
        ("a device's secret", stands("rhd_", is_long)),
    ]
    .into_iter()
    .filter_map(|(name, stands)| stands.then_some(name))
    .collect()
}

/// As PostgreSQL writes a column of bytes.
fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// What is written so from here on, as far as it is text.
fn from_hex(written: &str) -> String {
    let digits = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok();
    let bytes = written.as_bytes().chunks_exact(2).map_while(digits);
    bytes.take_while(u8::is_ascii).map(char::from).collect()
}

/// How far base64url goes on, in bytes.
fn rest_of(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')
        .unwrap_or(text.len())
}

/// Two parts of JSON in base64url, each of which begins with `{"`, and a third (RFC 7515, section 3.1).
fn is_signed(from: &str) -> bool {
    let rest = from.get(rest_of(from)..).and_then(|rest| rest.strip_prefix(".eyJ"));
    rest.is_some_and(|rest| rest.get(rest_of(rest)..).is_some_and(|rest| rest.starts_with('.')))
}

/// A text as it is, and as it is written by others: quoted once and twice, in a row of PostgreSQL, in a URL, its bytes.
fn forms(text: &str) -> BTreeSet<String> {
    let json = |text: &str| {
        let quoted = serde_json::Value::from(text).to_string();
        quoted[1..quoted.len() - 1].to_owned()
    };
    let debug = |text: &str| {
        let quoted = format!("{text:?}");
        quoted[1..quoted.len() - 1].to_owned()
    };
    let row = |text: &str| text.replace('\\', "\\\\").replace('"', "\"\"");
    let percent = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    BTreeSet::from([
        text.to_owned(),
        json(text),
        debug(text),
        json(&debug(text)),
        json(&json(text)),
        row(text),
        row(&json(text)),
        text.bytes().map(percent).collect(),
        text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        STANDARD_NO_PAD.encode(text),
        URL_SAFE_NO_PAD.encode(text),
    ])
}

/// The control: each form is looked for.
#[test]
fn a_secret_is_found_however_it_is_written() {
    let mut watched = Watched::new(&mut Dice::new(1));
    watched.secret("a secret", r#"it's "100%" \"#);
    for (how, text) in [
        ("as it is", r#"password=it's "100%" \;"#),
        ("in JSON", r#"{"password":"it's \"100%\" \\"}"#),
        ("printed, in JSON", r#"{"request":"Some(\"it's \\\"100%\\\" \\\\\")"}"#),
        ("in a row", r#"(7,"it's ""100%"" \\")"#),
        (
            "in JSON, in a row",
            r#"(7,"{""password"": ""it's \\""100%\\"" \\\\""}")"#,
        ),
        ("in a link", "#token=it%27s%20%22100%25%22%20%5C"),
        ("as bytes", r"(7,\x6974277320223130302522205c)"),
        ("in base64", "Basic aXQncyAiMTAwJSIgXA=="),
    ] {
        assert_eq!(watched.found_in(text), ["a secret"], "{how}");
    }
    assert!(watched.found_in(r#"it's "100%""#).is_empty(), "a part of it is not it");
}

/// The control: each kind is seen, and what is shown of a key is not taken for it.
#[test]
fn a_secret_that_nobody_was_told_of_is_known_by_its_shape() {
    let secret = "x1-_".repeat(11);
    for (name, text) in [
        (
            "a signed token",
            "authorization: \"Bearer eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.c2ln\"".to_owned(),
        ),
        ("a refresh token", format!("token=rhr_{secret};")),
        ("an API key", format!("rhk_{secret}")),
        ("a device's secret", format!("{{\"device\":\"rhd_{secret}\"}}")),
        ("an API key", format!("(7,\\x{})", hex(&format!("rhk_{secret}")))),
        (
            "a signed token",
            format!("\\x{}", hex("eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.c2ln")),
        ),
    ] {
        assert_eq!(shapes_in(&text), [name], "{text}");
    }
    for text in [
        "rhk_x1-_x1-_",
        "eyJhbGciOiJFZERTQSJ9",
        "eyJhIjoxfQ.eyJzdWIiOiJhIn0",
        "rhr_",
        "",
    ] {
        assert!(shapes_in(text).is_empty(), "{text}");
    }
}
