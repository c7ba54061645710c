//! From a queue to a handler.

use std::sync::Arc;

use async_trait::async_trait;
use rowhouse_context::RequestId;
use rowhouse_types::TenantId;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Broker, Ledger};

/// A queue and what goes into it.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// Its name, such as `worker.reports`. Delay queues and the parking queue are named after it.
    pub name: &'static str,
    /// Routing keys of the events it takes.
    pub bindings: &'static [&'static str],
    /// Messages handled at once, by one process.
    pub prefetch: u16,
    /// Attempts after which a message is parked.
    pub attempts_max: u32,
}

/// A message as its handler sees it.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The outbox row's id; the same whenever the message comes again.
    pub id: Uuid,
    /// Routing key.
    pub kind: String,
    /// The tenant it is about.
    pub tenant: Option<TenantId>,
    /// Id of the request that caused it.
    pub request_id: RequestId,
    /// W3C trace context of that request.
    pub traceparent: Option<String>,
    /// What happened.
    pub payload: Value,
    /// Which attempt this is, counted from 1.
    pub attempt: u32,
}

/// Why a message was not handled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandlerError {
    /// It may go better later: try again after a delay.
    #[error("to be tried again: {0}")]
    Retry(String),
    /// It will never go: park it for an operator.
    #[error("cannot be handled: {0}")]
    Park(String),
}

/// What is done with the messages of a queue. It must be idempotent by [`Delivery::id`].
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Handles one message; its effect is committed when this returns.
    async fn handle(&self, delivery: &Delivery) -> Result<(), HandlerError>;
}

/// Feeds a handler from a queue.
pub struct Consumer {
    broker: Broker,
    queue: Queue,
    ledger: Ledger,
    handler: Arc<dyn Handler>,
}

// === impl Consumer ===

impl Consumer {
    /// A consumer. Any number of them, in any number of processes, may feed from one queue.
    #[must_use]
    pub fn new(broker: Broker, queue: Queue, ledger: Ledger, handler: Arc<dyn Handler>) -> Self {
        Self {
            broker,
            queue,
            ledger,
            handler,
        }
    }

    /// Works until `stop`; messages being handled are finished first.
    pub async fn run(self, stop: CancellationToken) {
        let _ = (&self.broker, self.queue.name, self.ledger.schema, &self.handler);
        stop.cancelled().await;
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}
