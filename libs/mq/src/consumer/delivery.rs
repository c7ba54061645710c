//! A message as its handler sees it.

use lapin::message::Delivery as Raw;
use lapin::types::AMQPValue;
use rowhouse_context::{RequestId, metadata};
use rowhouse_types::TenantId;
use serde_json::Value;
use uuid::Uuid;

/// A message as its handler sees it.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The outbox row's id; the same whenever the message comes again.
    pub id: Uuid,
    /// Routing key under which the event was published.
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

/// Keeps an event's kind on its way through a delay, where the routing key names the queue to return to.
pub(super) const KIND: &str = "x-rowhouse-kind";

/// Why a message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message of the suite: {0}")]
pub(super) struct Unreadable(&'static str);

/// Reads a message; `attempt` is set later.
pub(super) fn read(raw: &Raw) -> Result<Delivery, Unreadable> {
    let id = raw.properties.message_id().as_ref().map(ToString::to_string);
    let id = id
        .and_then(|id| id.parse().ok())
        .ok_or(Unreadable("its id is not a UUID"))?;
    let tenant = match header(raw, metadata::TENANT_ID) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| Unreadable("its tenant is no tenant id"))?),
    };
    let request_id = header(raw, metadata::REQUEST_ID).and_then(|text| text.parse().ok());
    Ok(Delivery {
        id,
        kind: header(raw, KIND).unwrap_or_else(|| raw.routing_key.to_string()),
        tenant,
        // A job without a request behind it is still traced under an id.
        request_id: request_id.unwrap_or_else(RequestId::generate),
        traceparent: header(raw, metadata::TRACEPARENT),
        payload: serde_json::from_slice(&raw.data).map_err(|_| Unreadable("its body is not JSON"))?,
        attempt: 0,
    })
}

fn header(raw: &Raw, name: &str) -> Option<String> {
    let headers = raw.properties.headers().as_ref()?;
    match headers.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}
