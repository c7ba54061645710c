//! Tells the two changes of something that works or does not from all that is in between.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a loop in the background gets what it asks for. While a peer is away such a loop fails many times a second:
/// the log gets the two changes, from whoever calls this, and a metric counts every failure.
#[derive(Debug)]
pub(crate) struct Outage {
    /// Name of the counter of failures.
    counter: &'static str,
    is_on: AtomicBool,
}

// === impl Outage ===

impl Outage {
    /// `counter`: counts the failures, by their kind.
    pub(crate) fn new(counter: &'static str) -> Self {
        Self {
            counter,
            is_on: AtomicBool::new(false),
        }
    }

    /// Notes a failure; `true` where it is the first since something worked. `kind`: one of a few words.
    #[must_use]
    pub(crate) fn begins(&self, kind: &'static str) -> bool {
        metrics::counter!(self.counter, "kind" => kind).increment(1);
        !self.is_on.swap(true, Ordering::Relaxed)
    }

    /// Notes that it worked; `true` where that is new.
    #[must_use]
    pub(crate) fn ends(&self) -> bool {
        self.is_on.swap(false, Ordering::Relaxed)
    }
}
