//! From a queue to a handler.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions};
use lapin::types::FieldTable;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::broker::{BrokerError, Purpose, in_time};
use crate::publisher::Publisher;
use crate::{Broker, Ledger, topology};

mod delivery;
mod work;

pub use delivery::Delivery;
use work::Work;

/// Wait before a lost session is begun again, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often a session that gets no messages asks whether its queue is still there.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How long handlers may go on after a stop; after that the message comes again, to somebody else.
const FINISH_MAX: Duration = Duration::from_secs(10);

/// A queue and what goes into it.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// Its name, such as `worker.reports`. The parking queue is named after it.
    pub name: &'static str,
    /// Routing keys of the events it takes.
    pub bindings: &'static [&'static str],
    /// Messages handled at once, by one process.
    pub prefetch: u16,
    /// Attempts after which a message is parked.
    pub attempts_max: u32,
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

/// What is done with the messages of a queue.
///
/// A message may come again after it was handled, and to two handlers at once. The effect therefore commits together
/// with [`Ledger::record`], and only where that answers `true`.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Handles one message; its effect is committed when this returns.
    async fn handle(&self, delivery: &Delivery) -> Result<(), HandlerError>;
}

/// Feeds a handler from a queue.
pub struct Consumer {
    broker: Broker,
    work: Arc<Work>,
}

// === impl Consumer ===

impl Consumer {
    /// A consumer. Any number of them, in any number of processes, may feed from one queue.
    #[must_use]
    pub fn new(broker: Broker, queue: Queue, ledger: Ledger, handler: Arc<dyn Handler>) -> Self {
        let publisher = Publisher::new(broker.clone());
        Self {
            broker,
            work: Arc::new(Work {
                queue,
                ledger,
                publisher,
                handler,
            }),
        }
    }

    /// Works until `stop`; messages being handled are then finished, within 10 s.
    pub async fn run(self, stop: CancellationToken) {
        let queue = self.work.queue.name;
        let mut pause = PAUSE_MIN;
        // What runs when a session fails can no longer be acknowledged, but commits; then it is recognised when it comes
        // again. The next session does not wait for it: one long job would keep the queue silent.
        let mut tasks = JoinSet::new();
        while !stop.is_cancelled() {
            let mut served = false;
            let outcome = self.session(&stop, &mut tasks, &mut served).await;
            if served {
                pause = PAUSE_MIN;
            }
            if let Err(error) = outcome {
                metrics::counter!("rowhouse_consumer_failures_total", "queue" => queue).increment(1);
                tracing::warn!(queue, cause = %error, "a consumer lost its queue and will look for it again");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        finish(&mut tasks, &stop).await;
    }

    /// One life of a channel: ends with `stop`, or with what ended it.
    async fn session(
        &self,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
        served: &mut bool,
    ) -> Result<(), BrokerError> {
        let queue = &self.work.queue;
        let channel = self.broker.channel(Purpose::Consume).await?;
        topology::declare_queue(&channel, queue).await?;
        let begun = channel.basic_consume(
            queue.name.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let mut messages = in_time("begin to deliver", begun).await?;
        *served = true;
        tracing::info!(queue = queue.name, "a consumer listens");
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                message = messages.next() => match message {
                    Some(message) => {
                        let (work, stop, message) = (Arc::clone(&self.work), stop.clone(), message?);
                        tasks.spawn(async move { work.run(message, &stop).await });
                    }
                    None => return Err(BrokerError::Ended),
                },
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
                _ = look.tick() => {
                    let waiting = topology::look_at(&channel, queue).await?;
                    metrics::gauge!("rowhouse_consumer_waiting_messages", "queue" => queue.name).set(waiting);
                }
            }
        }
        let cancel = channel.basic_cancel(messages.tag(), BasicCancelOptions::default());
        in_time("end the delivery", cancel).await?;
        finish(tasks, stop).await;
        // What was fetched and not begun goes back to the queue with the channel.
        in_time("close a channel", channel.close(200, "stop".into())).await
    }
}

/// Waits for the running handlers: without bound, until a stop puts one.
async fn finish(tasks: &mut JoinSet<()>, stop: &CancellationToken) {
    let bound = async {
        stop.cancelled().await;
        tokio::time::sleep(FINISH_MAX).await;
    };
    let all = async { while tasks.join_next().await.is_some() {} };
    let in_time = tokio::select! {
        () = all => true,
        () = bound => false,
    };
    if !in_time {
        tasks.shutdown().await;
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("queue", &self.work.queue)
            .finish_non_exhaustive()
    }
}
