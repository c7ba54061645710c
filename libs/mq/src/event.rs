//! What an outbox row holds.

use rowhouse_context::Ctx;
use rowhouse_types::TenantId;
use serde_json::Value;
use uuid::Uuid;

/// Something that happened. It carries ids, never secrets or personal data: who needs those asks their owner.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Also the message's id, by which consumers recognise a message that comes twice.
    pub id: Uuid,
    /// The tenant it happened in, where there is one.
    pub tenant: Option<TenantId>,
    /// Routing key: `auth.invitation_created.v1`.
    pub kind: String,
    /// What happened, as JSON.
    pub payload: Value,
    /// Id of the request that caused it.
    pub request_id: String,
    /// W3C trace context of that request.
    pub traceparent: Option<String>,
}

// === impl Event ===

impl Event {
    /// An event caused by the call or job of `ctx`, in its tenant and within the current trace.
    #[must_use]
    pub fn new(ctx: &Ctx, kind: &str, payload: Value) -> Self {
        Self {
            id: Uuid::now_v7(),
            tenant: ctx.tenant_opt(),
            kind: kind.to_owned(),
            payload,
            request_id: ctx.request_id().to_string(),
            traceparent: rowhouse_telemetry::trace::current_traceparent(),
        }
    }
}
