//! What a suite's RabbitMQ holds: messages in queues, delays and parking queues, with their headers.

use anyhow::{Context as _, Result, ensure};
use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use rowhouse_devkit::http;
use rowhouse_devkit::suite::Suite;
use serde::Deserialize;

/// Messages that are looked at in one queue; a test's are few.
const LETTERS_MAX: usize = 1_000;

/// A message.
#[derive(Debug)]
pub(crate) struct Letter {
    /// Nobody works on it any more.
    pub(crate) is_parked: bool,
    /// Its queue, properties, headers and body.
    pub(crate) text: String,
}

#[derive(Deserialize)]
struct Queue {
    name: String,
}

/// Every queue that a suite has declared.
async fn queues(suite: &Suite) -> Result<Vec<String>> {
    let (_, virtual_host) = suite.amqp_url().rsplit_once('/').context("a virtual host")?;
    let servers = suite.databases().servers();
    let url = format!(
        "{}/api/queues/{virtual_host}?columns=name",
        servers.rabbitmq_admin_url()?
    );
    let (status, text) = http::request("GET", &url).await?;
    ensure!(status == 200, "{status} {text}");
    let queues: Vec<Queue> = serde_json::from_str(&text)?;
    ensure!(!queues.is_empty(), "the suite has declared no queue");
    Ok(queues.into_iter().map(|queue| queue.name).collect())
}

/// How many messages are parked: nobody works on them any more.
pub(crate) async fn parked(suite: &Suite) -> Result<u32> {
    let connection = connect(suite).await?;
    let channel = connection.create_channel().await?;
    let looking = QueueDeclareOptions {
        passive: true,
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let mut count = 0;
    for queue in queues(suite).await?.iter().filter(|queue| is_parking(queue)) {
        let queue = channel.queue_declare(queue.as_str().into(), looking, FieldTable::default());
        count += queue.await?.message_count();
    }
    connection.close(200, "looked".into()).await?;
    Ok(count)
}

/// Every message in every queue, to be asked for once, when consumers have ended: a message that is looked at is not theirs
/// meanwhile, and goes back to its queue some time after.
pub(crate) async fn all(suite: &Suite) -> Result<Vec<Letter>> {
    let connection = connect(suite).await?;
    let channel = connection.create_channel().await?;
    let mut letters = Vec::new();
    for queue in queues(suite).await? {
        for _ in 0..LETTERS_MAX {
            let got = channel.basic_get(queue.as_str().into(), BasicGetOptions::default());
            let Some(got) = got.await? else { break };
            let (properties, body) = (&got.delivery.properties, String::from_utf8_lossy(&got.delivery.data));
            let headers = properties.headers().as_ref().map(table).unwrap_or_default();
            letters.push(Letter {
                is_parked: is_parking(&queue),
                text: format!("{queue} {properties:?} {headers} {body}"),
            });
        }
    }
    // Nothing was acknowledged, so all of it goes back.
    connection.close(200, "looked".into()).await?;
    Ok(letters)
}

async fn connect(suite: &Suite) -> Result<Connection> {
    Ok(Connection::connect(suite.amqp_url(), ConnectionProperties::default()).await?)
}

fn is_parking(queue: &str) -> bool {
    queue.ends_with(".parked")
}

/// As text: the driver prints the bytes of a string as numbers.
fn table(table: &FieldTable) -> String {
    let fields = table.inner().iter();
    let fields: Vec<String> = fields.map(|(name, field)| format!("{name}={}", value(field))).collect();
    fields.join(" ")
}

fn value(field: &AMQPValue) -> String {
    match field {
        AMQPValue::LongString(text) => text.to_string(),
        AMQPValue::ByteArray(bytes) => String::from_utf8_lossy(bytes.as_slice()).into_owned(),
        AMQPValue::FieldArray(fields) => fields.as_slice().iter().map(value).collect::<Vec<_>>().join(" "),
        AMQPValue::FieldTable(inner) => table(inner),
        other => format!("{other:?}"),
    }
}
