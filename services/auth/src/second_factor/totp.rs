//! Time-based one-time passwords (RFC 6238 over RFC 4226): six digits of an HMAC of the time, with SHA-1, which is what
//! authenticator apps know. Made with the suite's one crypto back end.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

use crate::error::Error;

/// Digits of a code.
pub(super) const DIGITS: usize = 6;

/// How long a code is shown, in seconds.
const STEP_S: u64 = 30;

/// Steps before and after the present one whose codes are taken: clocks differ, and people type slowly (RFC 6238, section
/// 5.2).
const SKEW_STEPS: u64 = 1;

/// The code of a step: the counter of RFC 4226, section 5.3.
fn code(secret: &[u8], step: u64) -> Option<String> {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let digest = tag.as_ref();
    let offset = usize::from(digest.last()? & 0x0f);
    let four: [u8; 4] = digest.get(offset..offset.checked_add(4)?)?.try_into().ok()?;
    let number = u32::from_be_bytes(four) & 0x7fff_ffff;
    Some(format!("{:06}", number % 1_000_000))
}

/// The step of which a code is, among those that are taken at `now_s` (seconds since 1970).
pub(super) fn step_of(secret: &[u8], offered: &str, now_s: u64) -> Option<u64> {
    let present = now_s / STEP_S;
    let mut steps = present.saturating_sub(SKEW_STEPS)..=present.saturating_add(SKEW_STEPS);
    steps.find(|step| {
        let known = code(secret, *step);
        known.is_some_and(|known| verify_slices_are_equal(known.as_bytes(), offered.as_bytes()).is_ok())
    })
}

/// The code that an app shows at a time.
#[cfg(test)]
pub(crate) fn code_at(secret: &[u8], now_s: u64) -> String {
    code(secret, now_s / STEP_S).unwrap()
}

/// Seconds since 1970, by this process's clock.
pub(crate) fn now_s() -> Result<u64, Error> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Error::fault)?;
    Ok(since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B, of whose eight digits the last six are ours.
    #[test]
    fn codes_are_those_of_the_standard() {
        let secret = b"12345678901234567890";
        for (time_s, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code_at(secret, time_s), expected);
            assert_eq!(step_of(secret, expected, time_s), Some(time_s / STEP_S));
        }
    }

    #[test]
    fn a_code_is_taken_in_its_step_and_the_ones_beside_it() {
        let secret = b"12345678901234567890";
        let code = code_at(secret, 3_000);
        for (now_s, taken) in [
            (2_940, false),
            (2_970, true),
            (3_000, true),
            (3_059, true),
            (3_060, false),
        ] {
            assert_eq!(step_of(secret, &code, now_s).is_some(), taken, "{now_s}");
        }
        assert_eq!(step_of(b"another secret of 20", &code, 3_000), None);
    }
}
