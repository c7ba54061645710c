//! One tenant's permits in one process. Pure: time and what Redis grants come from outside.

use std::time::Duration;

use tokio::time::Instant;

use super::RateExceeded;

/// How long a tenant without a bound is let pass before its limits are looked at again. It comes on top of how long limits are
/// remembered, and both together are within the 20 s that are promised (`plan_service.proto`). Limits are mostly in memory, so a
/// look costs next to nothing.
const UNBOUNDED_FOR: Duration = Duration::from_millis(500);

/// Shortest pause after less was granted than was wanted.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// Fetches a second, at a steady rate: each asks for that part of a second's worth.
const FETCHES_PER_SECOND: u32 = 10;

/// Debt of the time before the rate was known that is still paid back, in permits. More were let pass on trust.
const UNKNOWN_DEBT_MAX: i64 = 100;

/// One tenant's permits.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Below 0: calls passed on credit.
    permits: i64,
    rate: Rate,
    is_fetching: bool,
    /// No fetch before.
    fetch_at: Instant,
    /// Our own bucket, for when Redis is away: permits, as of when.
    own: (f64, Instant),
}

/// What came of asking for a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Admitted,
    Refused(RateExceeded),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rate {
    /// Nobody has said yet.
    Unknown,
    Unbounded,
    /// Calls a second.
    Bounded(u32),
}

// === impl Bucket ===

impl Bucket {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            permits: 0,
            rate: Rate::Unknown,
            is_fetching: false,
            fetch_at: now,
            own: (0.0, now),
        }
    }

    /// Takes a permit. The second value: whether the caller must fetch now; then `is_unbounded` or `fill` follows.
    pub(super) fn admit(&mut self, now: Instant) -> (Verdict, bool) {
        let (verdict, is_low) = match self.rate {
            Rate::Unbounded => (Verdict::Admitted, true),
            Rate::Unknown => {
                self.permits = (self.permits - 1).max(-UNKNOWN_DEBT_MAX);
                (Verdict::Admitted, true)
            }
            Rate::Bounded(rate) => {
                let batch = batch(rate);
                if self.permits > -batch {
                    self.permits -= 1;
                    (Verdict::Admitted, self.permits * 2 < batch)
                } else {
                    let one = Duration::from_secs(1) / rate.max(1);
                    let retry_after = self.fetch_at.saturating_duration_since(now).max(one);
                    let refusal = RateExceeded {
                        requests_per_second: rate,
                        retry_after,
                    };
                    (Verdict::Refused(refusal), true)
                }
            }
        };
        let fetches = is_low && !self.is_fetching && now >= self.fetch_at;
        self.is_fetching |= fetches;
        (verdict, fetches)
    }

    /// The tenant's plan does not bound its calls.
    pub(super) fn is_unbounded(&mut self, now: Instant) {
        self.is_fetching = false;
        self.rate = Rate::Unbounded;
        self.permits = 0;
        self.fetch_at = now + UNBOUNDED_FOR;
    }

    /// How many permits to ask for: a batch, and what pays the debt.
    pub(super) fn wanted(&self, rate: u32) -> u32 {
        let batch = batch(rate);
        u32::try_from(batch - self.permits.clamp(-batch.max(UNKNOWN_DEBT_MAX), batch)).unwrap_or(0)
    }

    /// Takes what came. `granted`: of those wanted; nothing where Redis did not say.
    pub(super) fn fill(&mut self, now: Instant, rate: u32, wanted: u32, granted: Option<u32>) {
        self.is_fetching = false;
        self.rate = Rate::Bounded(rate);
        let granted = granted.unwrap_or_else(|| self.own(now, rate, wanted));
        self.permits += i64::from(granted);
        let one = Duration::from_secs(1) / rate.max(1);
        self.fetch_at = if granted < wanted {
            now + one.max(PAUSE_MIN)
        } else {
            now
        };
    }

    /// What our own bucket grants: it fills at the tenant's rate, to one second's worth.
    fn own(&mut self, now: Instant, rate: u32, wanted: u32) -> u32 {
        let (permits, since) = self.own;
        let passed = now.saturating_duration_since(since).as_secs_f64();
        let permits = passed.mul_add(f64::from(rate), permits).min(f64::from(rate));
        // The floor of a number between 0 and a u32.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between 0 and the rate"
        )]
        let granted = (permits.floor() as u32).min(wanted);
        self.own = (permits - f64::from(granted), now);
        granted
    }
}

/// Permits of one fetch.
fn batch(rate: u32) -> i64 {
    i64::from(rate.div_ceil(FETCHES_PER_SECOND).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::tests::known_within;

    const MS: Duration = Duration::from_millis(1);
    /// A changed plan is in force: `plan_service.proto`.
    const PROMISED: Duration = Duration::from_secs(20);

    /// Calls as fast as they come for a second, with a Redis that grants `rate` evenly; returns how many passed.
    fn flood(rate: u32, has_redis: bool) -> u32 {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        bucket.fill(start, rate, 0, Some(0));
        let (mut passed, mut granted_before) = (0, 0.0);
        for ms in 0..1_000_u32 {
            let now = start + MS * ms;
            for _ in 0..5 {
                let (verdict, fetches) = bucket.admit(now);
                passed += u32::from(verdict == Verdict::Admitted);
                if fetches {
                    let wanted = bucket.wanted(rate);
                    let there = (f64::from(ms) * f64::from(rate) / 1_000.0 - granted_before).floor();
                    let granted = (there as u32).min(wanted);
                    granted_before += f64::from(granted);
                    bucket.fill(now, rate, wanted, has_redis.then_some(granted));
                }
            }
        }
        passed
    }

    #[test]
    fn a_flood_passes_at_the_rate_and_a_batch_more_with_redis_and_without() {
        for rate in [1, 7, 50, 1_000] {
            for has_redis in [true, false] {
                let passed = flood(rate, has_redis);
                let batch = u32::try_from(batch(rate)).unwrap();
                assert!(
                    (rate.saturating_sub(1)..=rate + batch).contains(&passed),
                    "{rate} {has_redis}: {passed}"
                );
            }
        }
    }

    #[test]
    fn whoever_is_within_the_rate_is_never_refused_while_permits_are_fetched() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        // 100 a second, a call each 10 ms, and each fetch takes 30 ms.
        bucket.fill(start, 100, 10, Some(10));
        let mut arrives = None;
        for call in 0..1_000_u32 {
            let now = start + MS * (call * 10);
            if arrives.is_some_and(|at| now >= at) {
                let wanted = bucket.wanted(100);
                bucket.fill(now, 100, wanted, Some(wanted));
                arrives = None;
            }
            let (verdict, fetches) = bucket.admit(now);
            assert_eq!(verdict, Verdict::Admitted, "call {call}");
            if fetches {
                arrives = Some(now + MS * 30);
            }
        }
    }

    #[test]
    fn calls_pass_while_nothing_is_known_and_one_fetch_is_under_way_at_a_time() {
        let now = Instant::now();
        let mut bucket = Bucket::new(now);
        let fetches = (0..500).filter(|_| {
            let (verdict, fetches) = bucket.admit(now);
            assert_eq!(verdict, Verdict::Admitted);
            fetches
        });
        assert_eq!(fetches.count(), 1);
        bucket.is_unbounded(now);
        assert!(!bucket.admit(now).1);
        assert!(bucket.admit(now + UNBOUNDED_FOR).1, "a plan may have got a bound since");
    }

    #[test]
    fn a_first_bound_is_in_force_as_soon_as_a_plan_promises() {
        let changed = Instant::now();
        let mut bucket = Bucket::new(changed);
        // The last moment at which the limits may still be told as they were.
        let looked = changed + known_within();
        assert!(bucket.admit(looked).1);
        bucket.is_unbounded(looked);
        assert!(bucket.admit(changed + PROMISED).1, "it is looked again in time");
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        let now = Instant::now();
        let mut bucket = Bucket::new(now);
        bucket.fill(now, 4, 1, Some(0));
        while bucket.admit(now).0 == Verdict::Admitted {}
        let (Verdict::Refused(refusal), _) = bucket.admit(now) else {
            panic!("it was admitted");
        };
        assert_eq!((refusal.requests_per_second, refusal.retry_after), (4, MS * 250));
    }
}
