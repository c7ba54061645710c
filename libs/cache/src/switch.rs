//! Leaves a broken Redis alone for a moment.
//!
//! While Redis hangs, every operation would wait its full bound. After a few failures in a row it is not asked at all
//! for a short while; then one caller asks again and the others go on without it until that one has an answer.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Failures in a row after which Redis is left alone: one or two may be a single cut connection.
const FAILURES_MAX: u32 = 3;

/// How long Redis is left alone. Short, because all of it is spent on slower calls.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether Redis is asked at present.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    failures: u32,
    closed_until: Option<Instant>,
}

/// What an outcome changed; each change is logged once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// Redis is left alone from now on.
    Lost,
    /// Redis answers again.
    Found,
}

// === impl Switch ===

impl Switch {
    /// Whether to ask Redis now. After a pause only one caller is told yes; the pause then begins again for the others.
    pub(crate) fn asks(&self, now: Instant) -> bool {
        let mut state = self.lock();
        match state.closed_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                state.closed_until = Some(now + PAUSE);
                true
            }
        }
    }

    /// Notes an answer.
    pub(crate) fn succeeded(&self) -> Change {
        let mut state = self.lock();
        let was_closed = state.closed_until.is_some();
        *state = State::default();
        if was_closed { Change::Found } else { Change::None }
    }

    /// Notes a failure or an answer that did not come in time.
    pub(crate) fn failed(&self, now: Instant) -> Change {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures < FAILURES_MAX {
            return Change::None;
        }
        let was_open = state.closed_until.is_none();
        state.closed_until = Some(now + PAUSE);
        if was_open { Change::Lost } else { Change::None }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while holding it, and a stale state is no worse than a fresh one.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_in_a_row_nobody_asks_until_the_pause_is_over_and_then_one_does() {
        let (switch, start) = (Switch::default(), Instant::now());
        assert_eq!(switch.failed(start), Change::None);
        assert_eq!(switch.failed(start), Change::None);
        assert!(switch.asks(start));
        assert_eq!(switch.failed(start), Change::Lost);
        assert!(!switch.asks(start));
        let later = start + PAUSE;
        assert!(switch.asks(later));
        assert!(!switch.asks(later), "a second caller does not wait too");
        assert_eq!(switch.failed(later), Change::None, "the loss was reported already");
        assert_eq!(switch.succeeded(), Change::Found);
        assert!(switch.asks(later));
    }

    #[test]
    fn an_answer_in_between_starts_the_count_anew() {
        let (switch, now) = (Switch::default(), Instant::now());
        for _ in 0..10 {
            assert_eq!(switch.failed(now), Change::None);
            assert_eq!(switch.succeeded(), Change::None);
        }
        assert!(switch.asks(now));
    }
}
