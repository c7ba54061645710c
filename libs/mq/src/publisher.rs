//! Confirmed publishing.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel};
use lapin::{Confirmation, PublisherConfirm};
use tokio::sync::Mutex;

use crate::broker::{Broker, BrokerError, COMMAND_MAX, Purpose, in_time};
use crate::topology;

/// RabbitMQ writes messages with this mode to disk.
const PERSISTENT: u8 = 2;

/// Publishes messages and waits until the broker has taken them. One channel, made anew after any trouble.
#[derive(Debug)]
pub(crate) struct Publisher {
    broker: Broker,
    channel: Mutex<Option<Channel>>,
}

/// A message to publish.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    /// Whether a message that no queue takes counts as not published.
    pub(crate) mandatory: bool,
    pub(crate) id: String,
    pub(crate) headers: FieldTable,
    pub(crate) payload: Vec<u8>,
}

// === impl Publisher ===

impl Publisher {
    pub(crate) fn new(broker: Broker) -> Self {
        Self {
            broker,
            channel: Mutex::default(),
        }
    }

    /// Publishes one message.
    pub(crate) async fn publish(&self, message: &Message) -> Result<(), BrokerError> {
        let mut outcomes = self.publish_all(std::slice::from_ref(message)).await;
        outcomes.pop().unwrap_or(Err(BrokerError::Refused))
    }

    /// Publishes messages whose ids differ, without waiting for one before sending the next; an outcome for each.
    pub(crate) async fn publish_all(&self, messages: &[Message]) -> Vec<Result<(), BrokerError>> {
        let mut slot = self.channel.lock().await;
        let channel = match self.open(slot.take()).await {
            Ok(channel) => channel,
            Err(error) => return messages.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut sent = Vec::with_capacity(messages.len());
        for message in messages {
            sent.push(send(&channel, message).await);
        }
        let confirmed = join_all(sent.into_iter().map(confirmation)).await;
        let outcomes = judge(messages, confirmed);
        // A confirm that may still come belongs to a message that is given up: it must not meet the next batch.
        let sound = |outcome: &Result<(), BrokerError>| {
            matches!(outcome, Ok(()) | Err(BrokerError::Unroutable | BrokerError::Refused))
        };
        if outcomes.iter().all(sound) {
            *slot = Some(channel);
        }
        outcomes
    }

    async fn open(&self, channel: Option<Channel>) -> Result<Channel, BrokerError> {
        if let Some(channel) = channel.filter(|channel| channel.status().connected()) {
            return Ok(channel);
        }
        let channel = self.broker.channel(Purpose::Publish).await?;
        in_time(
            "turn on confirms",
            channel.confirm_select(ConfirmSelectOptions::default()),
        )
        .await?;
        topology::declare_exchange(&channel).await?;
        Ok(channel)
    }
}

async fn send(channel: &Channel, message: &Message) -> Result<PublisherConfirm, BrokerError> {
    let short = |text: &str| ShortString::try_new(text).map_err(|_| BrokerError::Refused);
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(short(&message.id)?)
        .with_headers(message.headers.clone());
    let options = BasicPublishOptions {
        mandatory: message.mandatory,
        ..BasicPublishOptions::default()
    };
    let publish = channel.basic_publish(
        short(&message.exchange)?,
        short(&message.routing_key)?,
        options,
        &message.payload,
        properties,
    );
    in_time("accept a message", publish).await
}

async fn confirmation(sent: Result<PublisherConfirm, BrokerError>) -> Result<Confirmation, BrokerError> {
    let confirm = sent?;
    match tokio::time::timeout(COMMAND_MAX, confirm).await {
        Ok(confirmation) => Ok(confirmation?),
        Err(_) => Err(BrokerError::Late("confirm a message")),
    }
}

/// The driver hands a returned message to whichever confirm comes next, so returned ones are told by their ids.
fn judge(messages: &[Message], confirmed: Vec<Result<Confirmation, BrokerError>>) -> Vec<Result<(), BrokerError>> {
    let mut returned = BTreeSet::new();
    let taken: Vec<Result<bool, BrokerError>> = confirmed
        .into_iter()
        .map(|confirmation| {
            let confirmation = confirmation?;
            let taken = confirmation.is_ack();
            if let Some(back) = confirmation.take_message() {
                let id = back.delivery.properties.message_id().as_ref().map(ToString::to_string);
                returned.extend(id);
            }
            Ok(taken)
        })
        .collect();
    messages
        .iter()
        .zip(taken)
        .map(|(message, taken)| match taken {
            Err(error) => Err(error),
            Ok(_) if returned.contains(&message.id) => Err(BrokerError::Unroutable),
            Ok(true) => Ok(()),
            Ok(false) => Err(BrokerError::Refused),
        })
        .collect()
}

/// Headers of text; absent values are left out.
pub(crate) fn headers<'a>(pairs: impl IntoIterator<Item = (&'static str, Option<&'a str>)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        if let Some(value) = value {
            table.insert(name.into(), AMQPValue::LongString(value.into()));
        }
    }
    table
}
