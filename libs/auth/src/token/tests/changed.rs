//! T10: hostile tokens by name, and good tokens of every shape that were changed without the key: each of their bytes, their parts,
//! and what the parts say. None is accepted.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rowhouse_devkit::torture::{Dice, Torture};

use super::*;

/// Tokens that are changed at several places, of each shape in each round.
const CHANGED_OFTEN: usize = 200;

/// What a byte becomes: digits of base64 in both alphabets, its padding, what separates parts, and what should be nowhere.
const BYTES: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=. \t\n\0{}\"%";

/// A forge with a key of this round, and one good token of each shape.
struct Mint {
    verifier: AccessTokenVerifier,
    forge: Forge,
    good: Vec<String>,
}

impl Mint {
    fn new(dice: &mut Dice) -> Self {
        let seed: Vec<u8> = (0..32).map(|_| u8::try_from(dice.below(256)).unwrap()).collect();
        let now = seconds(SystemTime::now());
        let forge = Forge::new(ISSUER, "key-1", &seed, now).unwrap();
        let verifier = verifier(&forge);
        let (user, session, tenant) = (UserId::generate(), SessionId::generate(), TenantId::generate());
        let by = Impersonator {
            operator: UserId::generate(),
            session: SessionId::generate(),
        };
        let job = (ServiceName::Worker, "report_x");
        let claims = [
            AccessClaims::for_session(ISSUER, user, session, Some(tenant), now, 300),
            AccessClaims::for_session(ISSUER, user, session, None, now, 300),
            AccessClaims::for_impersonation(ISSUER, (user, session), tenant, by, now, 300),
            AccessClaims::for_job(ISSUER, (user, true), tenant, job, now, 300),
        ];
        let good = claims.iter().map(|claims| forge.sign(claims).unwrap()).collect();
        Self { verifier, forge, good }
    }

    /// Whether the verifier takes it; a good one does not count.
    fn accepts(&self, token: &str) -> bool {
        !self.good.iter().any(|good| good == token) && self.verifier.verify(token).is_ok()
    }
}

fn byte(dice: &mut Dice) -> char {
    char::from(BYTES[dice.below(BYTES.len())])
}

/// The token with one byte replaced, left out, or put in.
fn changed_at(token: &str, at: usize, dice: &mut Dice) -> String {
    let (before, after) = token.split_at(at);
    match dice.below(4) {
        0 => format!("{before}{}", &after[1..]),
        1 => format!("{before}{}{after}", byte(dice)),
        _ => format!("{before}{}{}", byte(dice), &after[1..]),
    }
}

/// The token with one bit of what one part says turned over, in the part's own writing.
fn turned(token: &str, dice: &mut Dice) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let part = &mut parts[dice.below(3)];
    let mut bytes = URL_SAFE_NO_PAD.decode(&*part).unwrap();
    let at = dice.below(bytes.len());
    bytes[at] ^= 1 << dice.below(8);
    *part = URL_SAFE_NO_PAD.encode(bytes);
    parts.join(".")
}

/// Parts of the good tokens, and of one that a stranger signed, in any number and order.
fn mixed(mint: &Mint, stranger: &str, dice: &mut Dice) -> String {
    let tokens: Vec<&str> = mint.good.iter().map(String::as_str).chain([stranger]).collect();
    let count = if dice.percent(80) { 3 } else { dice.below(7) };
    let parts: Vec<&str> = (0..count)
        .map(|at| {
            let part = if dice.percent(80) { at % 3 } else { dice.below(3) };
            let token = tokens[dice.below(tokens.len())];
            token.split('.').nth(part).unwrap_or_default()
        })
        .collect();
    parts.join(".")
}

fn round(torture: &mut Torture, mut dice: Dice) {
    let mint = Mint::new(&mut dice);
    for good in &mint.good {
        assert!(mint.verifier.verify(good).is_ok(), "{good}");
    }
    for hostile in mint.forge.hostile().unwrap() {
        assert!(!mint.accepts(&hostile.token), "accepted: {}", hostile.name);
        torture.trials(1);
        torture.count("hostile by name", 1);
    }
    // Of another seed, whose key nobody knows, with the same claims to be the first.
    let stranger = Mint::new(&mut dice);
    for good in &mint.good {
        for at in 0..good.len() {
            let token = changed_at(good, at, &mut dice);
            assert!(!mint.accepts(&token), "accepted, changed at {at}: {token:?} for {good}");
        }
        torture.trials(good.len());
        torture.count("changed at one byte", good.len());
        for _ in 0..CHANGED_OFTEN {
            let mut token = turned(good, &mut dice);
            assert!(!mint.accepts(&token), "accepted, a bit turned: {token:?} for {good}");
            for _ in 0..dice.below(8) {
                let at = dice.below(token.len());
                token = changed_at(&token, at, &mut dice);
            }
            assert!(!mint.accepts(&token), "accepted, changed often: {token:?} for {good}");
            let token = mixed(&mint, &stranger.good[dice.below(stranger.good.len())], &mut dice);
            assert!(!mint.accepts(&token), "accepted, mixed: {token:?}");
        }
        torture.trials(3 * CHANGED_OFTEN);
        torture.count("changed at many places, or mixed", 3 * CHANGED_OFTEN);
    }
}

#[test]
fn no_hostile_or_changed_token_is_accepted() {
    let mut torture = Torture::begin("T10", "changed tokens");
    while let Some(dice) = torture.round() {
        round(&mut torture, dice);
    }
}

/// The control: where the signature is believed, the same changes get in.
#[test]
fn without_the_signature_many_changed_tokens_get_in() {
    let mut dice = Dice::new(7);
    let mint = Mint::new(&mut dice);
    let mut accepted = 0;
    for good in &mint.good {
        for at in 0..good.len() {
            let token = changed_at(good, at, &mut dice);
            let read = jsonwebtoken::dangerous::insecure_decode::<serde_json::Value>(&token);
            accepted += usize::from(token != *good && read.is_ok());
        }
    }
    assert!(accepted > 100, "{accepted}");
}
