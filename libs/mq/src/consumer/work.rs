//! What happens to one message.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use lapin::message::Delivery as Raw;
use lapin::options::BasicAckOptions;
use lapin::types::{AMQPValue, FieldTable};
use rowhouse_context::metadata;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::delivery::{self, Delivery, KIND};
use super::{Handler, HandlerError, Queue};
use crate::Ledger;
use crate::ledger::Begun;
use crate::publisher::{Message, Publisher, headers};
use crate::topology;

/// Wait before a step that our database or the broker did not do is tried again. The message is held meanwhile:
/// putting it back would deliver it again at once.
const HOLD: Duration = Duration::from_secs(2);

/// Why a message was parked.
const CAUSE: &str = "x-rowhouse-cause";

pub(super) struct Work {
    pub(super) queue: Queue,
    pub(super) ledger: Ledger,
    pub(super) publisher: Publisher,
    pub(super) handler: Arc<dyn Handler>,
}

/// Where a message goes.
enum Verdict {
    Done,
    Again { attempt: u32 },
    Park { cause: String },
}

// === impl Work ===

impl Work {
    /// Handles one message to its end, or leaves it unacknowledged at a stop.
    pub(super) async fn run(&self, raw: Raw, stop: &CancellationToken) {
        let verdict = match delivery::read(&raw) {
            Ok(delivery) => {
                let span = tracing::info_span!(
                    "message",
                    queue = self.queue.name,
                    kind = delivery.kind,
                    message_id = %delivery.id,
                    request_id = %delivery.request_id,
                );
                if let Some(traceparent) = &delivery.traceparent {
                    rowhouse_telemetry::trace::set_parent(&span, traceparent);
                }
                self.handle(delivery, stop).instrument(span).await
            }
            Err(unreadable) => {
                tracing::error!(queue = self.queue.name, cause = %unreadable, "a message cannot be read and is parked");
                Some(Verdict::Park {
                    cause: unreadable.to_string(),
                })
            }
        };
        let Some(verdict) = verdict else { return };
        let result = match &verdict {
            Verdict::Done => "done",
            Verdict::Again { .. } => "again",
            Verdict::Park { .. } => "parked",
        };
        if !self.hand_over(&raw, &verdict, stop).await {
            return;
        }
        metrics::counter!("rowhouse_consumer_messages_total", "queue" => self.queue.name, "result" => result)
            .increment(1);
        if let Err(error) = raw.acker.ack(BasicAckOptions::default()).await {
            // It comes again and is recognised.
            tracing::debug!(queue = self.queue.name, cause = %error, "a message could not be acknowledged");
        }
    }

    /// Counts the attempt and makes it. `None`: stopped before it began.
    async fn handle(&self, mut delivery: Delivery, stop: &CancellationToken) -> Option<Verdict> {
        delivery.attempt = match self.begin(&delivery, stop).await? {
            Begun::Processed => return Some(Verdict::Done),
            Begun::Attempt(attempt) => attempt,
        };
        let (attempt, attempts_max) = (delivery.attempt, self.queue.attempts_max);
        let outcome = if attempt > attempts_max {
            Err(HandlerError::Park("every attempt ended without an outcome".to_owned()))
        } else {
            // A handler that panics has failed; the others of this process go on.
            let attempted = AssertUnwindSafe(self.handler.handle(&delivery)).catch_unwind().await;
            attempted.unwrap_or_else(|_| Err(HandlerError::Retry("the handler panicked".to_owned())))
        };
        let (cause, verdict) = match outcome {
            Ok(()) => return Some(Verdict::Done),
            Err(HandlerError::Retry(cause)) if attempt < attempts_max => {
                tracing::warn!(attempt, cause, "a message will be tried again");
                (cause, Verdict::Again { attempt })
            }
            Err(HandlerError::Retry(cause) | HandlerError::Park(cause)) => {
                tracing::error!(attempt, cause, "a message is parked");
                (cause.clone(), Verdict::Park { cause })
            }
        };
        let parked = matches!(verdict, Verdict::Park { .. });
        if let Err(error) = self.ledger.failed(self.queue.name, delivery.id, &cause, parked).await {
            // The attempt itself was counted; only its cause is missing.
            tracing::warn!(cause = %error, "why a message failed could not be kept");
        }
        Some(verdict)
    }

    /// Counts the attempt, as soon as the database lets us.
    async fn begin(&self, delivery: &Delivery, stop: &CancellationToken) -> Option<Begun> {
        loop {
            match self.ledger.begin(self.queue.name, delivery.id, &delivery.kind).await {
                Ok(begun) => return Some(begun),
                Err(error) => tracing::warn!(cause = %error, "an attempt cannot be counted; the message is held"),
            }
            hold(stop).await?;
        }
    }

    /// Gives the message to the delay or the parking queue. True once that has it, or nothing was to do; false where it
    /// is left to come again.
    async fn hand_over(&self, raw: &Raw, verdict: &Verdict, stop: &CancellationToken) -> bool {
        let (exchange, routing_key, cause) = match verdict {
            Verdict::Done => return true,
            Verdict::Again { attempt } => (topology::delay_exchange(*attempt), self.queue.name.to_owned(), None),
            Verdict::Park { cause } => (
                String::new(),
                topology::parking_queue(self.queue.name),
                Some(cause.as_str()),
            ),
        };
        let id = raw.properties.message_id().as_ref().map(ToString::to_string);
        let message = Message {
            exchange,
            routing_key,
            mandatory: true,
            id: id.unwrap_or_default(),
            headers: carried(raw, cause),
            payload: raw.data.clone(),
        };
        loop {
            if !raw.acker.usable() {
                // It comes again by itself; handing it over as well would make two of it.
                return false;
            }
            match self.publisher.publish(&message).await {
                Ok(()) => return true,
                Err(error) => tracing::warn!(cause = %error, "a message cannot be handed over; it is held"),
            }
            if hold(stop).await.is_none() {
                return false;
            }
        }
    }
}

/// Waits a moment; `None` at a stop.
async fn hold(stop: &CancellationToken) -> Option<()> {
    tokio::select! {
        () = stop.cancelled() => None,
        () = tokio::time::sleep(HOLD) => Some(()),
    }
}

/// The headers that a message keeps; the broker's own notes of its way are dropped, or they would grow.
fn carried(raw: &Raw, cause: Option<&str>) -> FieldTable {
    let known = raw.properties.headers().clone().unwrap_or_default();
    let mut kept = headers([(KIND, Some(raw.routing_key.as_str())), (CAUSE, cause)]);
    for name in [metadata::REQUEST_ID, metadata::TENANT_ID, metadata::TRACEPARENT, KIND] {
        if let Some(value @ (AMQPValue::LongString(_) | AMQPValue::ShortString(_))) = known.inner().get(name) {
            kept.insert(name.into(), value.clone());
        }
    }
    kept
}
