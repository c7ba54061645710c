//! The connection to RabbitMQ.
//!
//! It is made when it is first needed and made anew by whoever finds it lost. The driver's own recovery is left off: it
//! replays what it believes was declared, does not send unconfirmed messages again, and a consumer that it failed to
//! restore looks like a quiet queue. Here each user declares what it needs on each new channel, which is idempotent, and
//! a failure always shows where it can be handled.

use std::sync::Arc;
use std::time::Duration;

use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties};
use rowhouse_config::Secret;
use tokio::sync::Mutex;

/// The topic exchange of all events.
pub const EXCHANGE: &str = "rowhouse.events";

/// Longest wait for a connection or for the answer to one command.
pub(crate) const COMMAND_MAX: Duration = Duration::from_secs(5);

/// Both sides give a connection up after two of these without a sign of life.
const HEARTBEAT_S: u16 = 10;

/// RabbitMQ: connects when it is first needed and again whenever the connection was lost. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    uri: AMQPUri,
    publishing: Mutex<Option<Connection>>,
    consuming: Mutex<Option<Connection>>,
}

/// What a channel is for. RabbitMQ stops reading from connections that publish while it is short of memory or disk;
/// acknowledgements must not wait behind that, so they have a connection of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Publish,
    Consume,
}

/// What went wrong with RabbitMQ.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BrokerError {
    /// The URL cannot be understood.
    #[error("the AMQP URL cannot be understood")]
    Url,
    /// RabbitMQ did not do in time what it was asked.
    #[error("RabbitMQ did not {0} in time")]
    Late(&'static str),
    /// RabbitMQ refused, or the connection failed.
    #[error("RabbitMQ: {0}")]
    Amqp(#[from] lapin::Error),
    /// No queue takes messages of this kind at present.
    #[error("no queue takes messages of this kind")]
    Unroutable,
    /// RabbitMQ refused to take responsibility for the message, or it cannot be one.
    #[error("RabbitMQ did not take the message")]
    Refused,
    /// The stream of messages ended: the queue was deleted, or its leader moved.
    #[error("RabbitMQ ended the delivery of messages")]
    Ended,
}

// === impl Broker ===

impl Broker {
    /// RabbitMQ at `url` (`amqp://user:password@host:port/vhost`). Nothing is connected until it is needed, so services
    /// start in any order.
    ///
    /// # Errors
    /// [`BrokerError::Url`] where `url` is not an AMQP URL. That RabbitMQ is away is no error.
    pub fn connect(url: &Secret) -> Result<Self, BrokerError> {
        let mut uri: AMQPUri = url.expose().parse().map_err(|_| BrokerError::Url)?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
        Ok(Self {
            inner: Arc::new(Inner {
                uri,
                publishing: Mutex::default(),
                consuming: Mutex::default(),
            }),
        })
    }

    /// Whether RabbitMQ answers, for readiness: a round trip on the connection that publishes.
    ///
    /// # Errors
    /// Why not.
    pub async fn ping(&self) -> Result<(), BrokerError> {
        let channel = self.channel(Purpose::Publish).await?;
        in_time("close a channel", channel.close(200, "ping".into())).await
    }

    /// Ends the connections, after everything that uses them has ended.
    pub async fn close(&self) {
        for line in [&self.inner.publishing, &self.inner.consuming] {
            if let Some(connection) = line.lock().await.take() {
                // Whether or not the broker hears of it: the process is about to end.
                let _ = in_time("close", connection.close(200, "shutdown".into())).await;
            }
        }
    }

    /// A channel of its user's own: an error on a shared one would end it for everybody.
    pub(crate) async fn channel(&self, purpose: Purpose) -> Result<Channel, BrokerError> {
        let line = match purpose {
            Purpose::Publish => &self.inner.publishing,
            Purpose::Consume => &self.inner.consuming,
        };
        let mut line = line.lock().await;
        if let Some(connection) = line.as_ref().filter(|connection| connection.status().connected())
            && let Ok(channel) = in_time("open a channel", connection.create_channel()).await
        {
            return Ok(channel);
        }
        *line = None;
        let name = match purpose {
            Purpose::Publish => "rowhouse publish",
            Purpose::Consume => "rowhouse consume",
        };
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let connection = in_time("connect", Connection::connect_uri(self.inner.uri.clone(), properties)).await?;
        let channel = in_time("open a channel", connection.create_channel()).await?;
        *line = Some(connection);
        Ok(channel)
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URI holds the password.
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

/// Waits for one command, but not for ever.
pub(crate) async fn in_time<T>(
    what: &'static str,
    command: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BrokerError> {
    match tokio::time::timeout(COMMAND_MAX, command).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(BrokerError::Late(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_is_none_is_refused_and_no_password_is_printed() {
        let connect = |url: &str| Broker::connect(&Secret::new(url.to_owned()));
        assert!(matches!(connect("http://localhost"), Err(BrokerError::Url)));
        let broker = connect("amqp://rowhouse:hunter2@localhost/%2f").unwrap();
        assert!(!format!("{broker:?}").contains("hunter2"));
    }
}
