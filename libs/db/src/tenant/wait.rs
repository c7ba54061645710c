//! How long somebody waits for what a transaction needs.

use tokio::time::Instant;

/// A wait that is under way. It is measured when it is dropped, whatever came of it: the waits that matter most are those of
/// who was refused at the end, or went away.
#[derive(Debug)]
pub(super) struct Wait {
    what: &'static str,
    begun: Instant,
}

// === impl Wait ===

impl Wait {
    /// `what`: a permit, a connection or a slot.
    pub(super) fn begin(what: &'static str) -> Self {
        Self {
            what,
            begun: Instant::now(),
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        metrics::histogram!("rowhouse_db_wait_seconds", "for" => self.what).record(self.begun.elapsed());
    }
}
