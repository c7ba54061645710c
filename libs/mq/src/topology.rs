//! What is declared on the broker. Everything is durable, and declaring it again changes nothing.
//!
//! ```text
//! rowhouse.events (topic) --kinds--> <queue> ----handled----> (acknowledged)
//!                                      ^  |
//!                                      |  +--to be tried again--> rowhouse.delay.<n>s (fanout, and a queue with a TTL)
//!                                      +---------when the TTL has run out---------------+
//!                                         +--not to be handled--> <queue>.parked
//! ```
//!
//! All queues are quorum queues and dead-letter at least once: a message leaves the one only when the other has it.
//! That asks for `reject-publish`, and for RabbitMQ 3.10 or newer.

use std::time::Duration;

use lapin::options::{BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use crate::Queue;
use crate::broker::{BrokerError, EXCHANGE, in_time};

/// Delays before a message comes again, by attempts that failed. Together they outlast the restart of anything (the
/// last repeats); a queue with one TTL for all its messages is needed for each, since only the head of a queue expires.
const DELAYS_S: [u32; 5] = [1, 5, 15, 60, 300];

/// The exchange that leads to the delay after a failed attempt, counted from 1.
pub(crate) fn delay_exchange(attempt: u32) -> String {
    let step = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    delay_name(DELAYS_S.get(step).or(DELAYS_S.last()).copied().unwrap_or(1))
}

/// The queue for what cannot be handled.
pub(crate) fn parking_queue(queue: &str) -> String {
    format!("{queue}.parked")
}

fn delay_name(delay_s: u32) -> String {
    format!("rowhouse.delay.{delay_s}s")
}

/// Declares the exchange of events.
pub(crate) async fn declare_exchange(channel: &Channel) -> Result<(), BrokerError> {
    declare(channel, EXCHANGE, ExchangeKind::Topic).await
}

/// Declares a consumer's queue with everything around it, and bounds what it is given at once.
pub(crate) async fn declare_queue(channel: &Channel, queue: &Queue) -> Result<(), BrokerError> {
    declare_exchange(channel).await?;
    let parking = parking_queue(queue.name);
    quorum(channel, &parking, quorum_arguments()).await?;
    // Newer brokers give a message up after some deliveries, whatever we counted: it goes where ours would.
    quorum(channel, queue.name, dead_letters_to(quorum_arguments(), Some(&parking))).await?;
    for kind in queue.bindings {
        bind(channel, queue.name, EXCHANGE, kind).await?;
    }
    for delay_s in DELAYS_S {
        let name = delay_name(delay_s);
        declare(channel, &name, ExchangeKind::Fanout).await?;
        let mut arguments = dead_letters_to(quorum_arguments(), None);
        let ttl_ms = u32::try_from(Duration::from_secs(delay_s.into()).as_millis()).unwrap_or(u32::MAX);
        arguments.insert("x-message-ttl".into(), AMQPValue::LongUInt(ttl_ms));
        quorum(channel, &name, arguments).await?;
        bind(channel, &name, &name, "").await?;
    }
    in_time(
        "set the prefetch",
        channel.basic_qos(queue.prefetch, BasicQosOptions::default()),
    )
    .await
}

/// Asks whether the queue is there, which also shows whether the channel lives.
pub(crate) async fn look_at(channel: &Channel, queue: &Queue) -> Result<u32, BrokerError> {
    let options = QueueDeclareOptions {
        passive: true,
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let found = channel.queue_declare(queue.name.into(), options, FieldTable::default());
    Ok(in_time("look at a queue", found).await?.message_count())
}

async fn declare(channel: &Channel, name: &str, kind: ExchangeKind) -> Result<(), BrokerError> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    in_time(
        "declare an exchange",
        channel.exchange_declare(name.into(), kind, options, FieldTable::default()),
    )
    .await
}

async fn quorum(channel: &Channel, name: &str, arguments: FieldTable) -> Result<(), BrokerError> {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    in_time(
        "declare a queue",
        channel.queue_declare(name.into(), options, arguments),
    )
    .await?;
    Ok(())
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<(), BrokerError> {
    let bound = channel.queue_bind(
        queue.into(),
        exchange.into(),
        key.into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    in_time("bind a queue", bound).await
}

fn quorum_arguments() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

/// Dead letters go to `queue`, or to the queue that the message's own routing key names.
fn dead_letters_to(mut arguments: FieldTable, queue: Option<&str>) -> FieldTable {
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    if let Some(queue) = queue {
        arguments.insert("x-dead-letter-routing-key".into(), text(queue));
    }
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_the_last_repeats() {
        let names = [1, 2, 3, 4, 5, 6, 1_000].map(delay_exchange);
        let expected = ["1", "5", "15", "60", "300", "300", "300"].map(|s| format!("rowhouse.delay.{s}s"));
        assert_eq!(names, expected);
        assert_eq!(delay_exchange(0), "rowhouse.delay.1s");
    }
}
