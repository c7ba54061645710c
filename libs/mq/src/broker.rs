//! The connection to RabbitMQ.

use rowhouse_config::Secret;

/// The topic exchange of all events.
pub const EXCHANGE: &str = "rowhouse.events";

/// RabbitMQ: connects when it is first needed and again whenever the connection was lost. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Broker {}

/// What went wrong with RabbitMQ.
#[derive(Debug, thiserror::Error)]
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
    /// RabbitMQ refused to take responsibility for the message.
    #[error("RabbitMQ did not take the message")]
    Refused,
}

// === impl Broker ===

impl Broker {
    /// RabbitMQ at `url` (`amqp://user:password@host:port/vhost`). Nothing is connected until it is needed, so services
    /// start in any order.
    ///
    /// # Errors
    /// [`BrokerError::Url`] where `url` is not an AMQP URL. That RabbitMQ is away is no error.
    pub fn connect(_url: &Secret) -> Result<Self, BrokerError> {
        Ok(Self {})
    }

    /// Whether RabbitMQ answers, for readiness.
    ///
    /// # Errors
    /// Why not.
    pub async fn ping(&self) -> Result<(), BrokerError> {
        Err(BrokerError::Late("answer"))
    }

    /// Ends the connection, after everything that uses it has ended.
    pub async fn close(&self) {}
}
