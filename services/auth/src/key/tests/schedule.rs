//! T11, its clocks: twenty rotations seen by services whose clocks differ and whose keys are as old as they may be. By the
//! numbers alone, second by second, with real tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rowhouse_auth_kit::token::ACCESS_TOKEN_TYPE;
use rowhouse_auth_kit::{AccessClaims, AccessTokenVerifier, SigningKey};
use rowhouse_types::{SessionId, UserId};

use crate::key::{ACCESS_TOKEN_LIFETIME, HONOURED};
use crate::tests::bench::SCHEDULE;

const ROTATIONS: u64 = 20;

/// Between two rotations, in seconds: closer than anybody would rotate.
const APART_S: u64 = 500;

/// How often a service reads the keys, in seconds, as `libs/client` does.
const READ_EVERY_S: u64 = 30;

/// How far clocks differ from the true time, in seconds: two of them by five, which tokens allow.
const SKEWS_S: [(i64, i64); 5] = [(0, 0), (0, 5), (5, 0), (-2, 3), (3, -2)];

/// The first second of the time that is looked at.
const START_S: u64 = 1_800_000_000;

/// When each key is published, signs, and is replaced, and until when it is honoured.
struct Plan {
    published_s: u64,
    honoured_s: u64,
}

impl Plan {
    /// The key that signs at a time.
    fn signing(&self, at_s: u64) -> u64 {
        at_s.saturating_sub(START_S + self.published_s) / APART_S
    }

    /// The keys that are published at a time.
    fn published(&self, at_s: u64) -> Vec<u64> {
        let key = |key: &u64| {
            let made = START_S + key * APART_S;
            let ends = made + self.published_s + APART_S + self.honoured_s;
            (made..ends).contains(&at_s)
        };
        (0..=ROTATIONS).filter(key).collect()
    }
}

fn shifted(at_s: u64, by_s: i64) -> u64 {
    at_s.saturating_add_signed(by_s)
}

fn time(at_s: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(at_s)
}

/// How many tokens that have not expired are refused by a service that does not ask for keys it does not know.
fn refusals(plan: &Plan) -> usize {
    let keys: Vec<SigningKey> = (0..=ROTATIONS)
        .map(|key| SigningKey::from_seed(&[u8::try_from(key).unwrap() + 1; 32]).unwrap())
        .collect();
    let lifetime_s = ACCESS_TOKEN_LIFETIME.as_secs();
    let mut refused = 0;
    // Never in step with rotations or readings.
    for signed_s in (START_S + plan.published_s..START_S + ROTATIONS * APART_S).step_by(37) {
        let key = plan.signing(signed_s);
        for (signer, verifier) in SKEWS_S {
            let by_signer = shifted(signed_s, signer);
            let (user, session) = (UserId::generate(), SessionId::generate());
            let claims = AccessClaims::for_session("rowhouse", user, session, None, by_signer, lifetime_s);
            let token = keys[usize::try_from(key).unwrap()].sign(ACCESS_TOKEN_TYPE, &format!("key-{key}"), &claims);
            let token = token.unwrap();
            for seen_s in [signed_s, signed_s + lifetime_s / 2, signed_s + lifetime_s - 6] {
                // As old as the keys may be that a service has read.
                let read = plan.published(seen_s.saturating_sub(READ_EVERY_S));
                let service = AccessTokenVerifier::new("rowhouse");
                service.set_keys(read.iter().map(|key| {
                    let public = keys[usize::try_from(*key).unwrap()].public();
                    (format!("key-{key}"), public)
                }));
                refused += usize::from(service.verify_at(&token, time(shifted(seen_s, verifier))).is_err());
            }
        }
    }
    refused
}

#[test]
fn no_rotation_is_noticed_whatever_the_clocks() {
    let plan = Plan {
        published_s: SCHEDULE.published.as_secs(),
        honoured_s: HONOURED.as_secs(),
    };
    assert_eq!(refusals(&plan), 0);
}

/// The controls: a key that signs before it is known, and one that goes before its tokens do.
#[test]
fn without_publication_or_without_honouring_tokens_are_refused() {
    let hasty = Plan {
        published_s: 0,
        honoured_s: HONOURED.as_secs(),
    };
    let forgetful = Plan {
        published_s: SCHEDULE.published.as_secs(),
        honoured_s: 0,
    };
    assert!(refusals(&hasty) > 0);
    assert!(refusals(&forgetful) > 0);
}
