//! One entry, and the text of it that is hashed.

use chrono::{DateTime, SecondsFormat, Utc};
use rowhouse_context::{Ctx, ServiceName};
use rowhouse_types::{AuditEntryId, TenantId};
use serde_json::{Value, json};

/// One entry of an audit log: who did what to what, as whom, why, from where, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// UUIDv7: ids sort by the time of the call.
    pub id: AuditEntryId,
    /// The service that has written it.
    pub service: ServiceName,
    /// Whose log it stands in; none for the platform's.
    pub tenant: Option<TenantId>,
    /// When.
    pub at: DateTime<Utc>,
    /// Who: `user_...`, `service:worker`.
    pub actor: String,
    /// On whose behalf, where that is somebody else.
    pub on_behalf_of: Option<String>,
    /// What was done: `member.update`; for a refusal the RPC.
    pub action: String,
    /// To what, as the API writes its id; empty where nothing was named.
    pub target: String,
    /// What was there before.
    pub before: Option<Value>,
    /// What is there since.
    pub after: Option<Value>,
    /// Why a platform operator did it.
    pub reason: Option<String>,
    /// The address that the call came from.
    pub address: Option<String>,
    /// The call.
    pub request_id: String,
    /// `done`, `succeeded`, `accepted` where an operation follows, `failed`, `refused`.
    pub outcome: String,
}

// === impl Entry ===

impl Entry {
    /// The outcome of what was done.
    pub const DONE: &'static str = "done";

    /// An entry about what the call of `ctx` has done, in the log of the tenant that it is for.
    #[must_use]
    pub fn done(service: ServiceName, ctx: &Ctx, action: &str, target: impl ToString) -> Self {
        Self {
            id: AuditEntryId::generate(),
            service,
            tenant: ctx.tenant_opt(),
            at: Utc::now(),
            actor: ctx.principal().actor(),
            on_behalf_of: ctx.principal().on_behalf_of(),
            action: action.to_owned(),
            target: target.to_string(),
            before: None,
            after: None,
            reason: ctx.reason().map(str::to_owned),
            address: ctx.address().map(str::to_owned),
            request_id: ctx.request_id().to_string(),
            outcome: Self::DONE.to_owned(),
        }
    }

    /// The entry as JSON in one spelling: keys in the order of their bytes, nothing between the tokens, numbers as
    /// `serde_json` writes them. An export holds these bytes, so whoever checks one need not spell it again.
    #[must_use]
    pub fn canonical(&self) -> String {
        let fields = json!({
            "id": self.id.to_string(),
            "service": self.service.as_str(),
            "tenant": self.tenant.map(|tenant| tenant.to_string()),
            "at": moment(self.at),
            "actor": self.actor,
            "on_behalf_of": self.on_behalf_of,
            "action": self.action,
            "target": self.target,
            "before": self.before,
            "after": self.after,
            "reason": self.reason,
            "address": self.address,
            "request_id": self.request_id,
            "outcome": self.outcome,
        });
        let mut text = String::new();
        write_canonical(&fields, &mut text);
        text
    }
}

/// A time as it is hashed: UTC with microseconds, which is what PostgreSQL keeps.
pub(crate) fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Writes `value` with the keys of its objects in the order of their bytes, whatever order they are held in.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (at, (key, value)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_one_line_of_json_with_its_keys_in_order() {
        let mut text = String::new();
        let value: Value =
            serde_json::from_str(r#"{"b": [1, {"z": null, "a": true}], "a\"": "é\n", "Z": 1.50}"#).unwrap();
        write_canonical(&value, &mut text);
        assert_eq!(text, r#"{"Z":1.5,"a\"":"é\n","b":[1,{"a":true,"z":null}]}"#);
    }
}
