//! RabbitMQ: the topology, publishing with confirms, the relay from outbox tables, and the loop of consumers.
//!
//! - [`event`]: [`Event`], what an outbox row holds.
//! - [`outbox`]: [`OutboxTable`], where rows are appended and claimed.
//! - [`broker`]: [`Broker`], the connection and what is declared on it.
//! - [`relay`]: [`Relay`], from outbox to broker; [`Wake`] hurries it after a commit; [`DatabasesRelay`], the
//!   same for databases that come and go.
//! - [`consumer`]: [`Consumer`], from a queue to a [`Handler`], with counted attempts, growing delays and parking.
//! - [`ledger`]: [`Ledger`], the tables that count attempts and remember what was processed.

pub mod broker;
pub mod consumer;
pub mod event;
pub mod ledger;
pub mod outbox;
mod publisher;
pub mod relay;
mod topology;

pub use broker::{Broker, BrokerError};
pub use consumer::{Consumer, Delivery, Handler, HandlerError, Queue};
pub use event::Event;
pub use ledger::Ledger;
pub use outbox::OutboxTable;
pub use relay::{Companion, DatabasesRelay, Relay, Wake};

#[cfg(test)]
mod tests;
