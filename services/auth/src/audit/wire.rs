//! Audit logs as messages.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rowhouse_audit::{Batch, FaultKind, Hash, Head, Place, Query, wire};
use rowhouse_context::ServiceName;
use rowhouse_db::paging::page_size;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::timestamp;
use rowhouse_proto::well_known::{ListValue, Struct, Timestamp, Value as Field, value::Kind};
use rowhouse_status::{Failure, Violations};
use serde_json::Value;

use super::actions::{EntryPage, ListQuery, Verified, VerifiedChain};

/// Longest text to filter by, in characters.
const TEXT_MAX: usize = 200;

/// Entries on a page at most: those of all services are read for it.
const PAGE_MAX: u32 = 200;

/// Which entries to list. `services`: those that write the log.
pub(super) fn list_query(
    request: &proto::ListAuditEntriesRequest,
    services: &[ServiceName],
) -> Result<ListQuery, Failure> {
    let mut violations = Violations::default();
    let filter = request.filter.clone().unwrap_or_default();
    let size = violations.take("page_size", page_size(request.page_size));
    let service = match filter.service.as_str() {
        "" => None,
        name => violations.take("filter.service", named(name, services)),
    };
    let mut text = |field: &str, text: String| {
        if text.chars().count() > TEXT_MAX || text.chars().any(char::is_control) {
            violations.add(
                format_args!("filter.{field}"),
                format!("must be at most {TEXT_MAX} characters, none of them a control character"),
            );
        }
        (!text.is_empty()).then_some(text)
    };
    let query = Query {
        actor: text("actor", filter.actor),
        action: text("action", filter.action),
        target: text("target", filter.target),
        request_id: text("request_id", filter.request_id),
        outcome: text("outcome", filter.outcome),
        ..Query::default()
    };
    let from = time("filter.from_time", filter.from_time, &mut violations);
    let to = time("filter.to_time", filter.to_time, &mut violations);
    violations.finish(size.map(|size| ListQuery {
        query: Query { from, to, ..query },
        service,
        size: size.min(PAGE_MAX),
        token: request.page_token.clone(),
    }))
}

/// The seals that the caller has noted.
pub(super) fn known(
    heads: &[proto::AuditHead],
    services: &[ServiceName],
) -> Result<BTreeMap<ServiceName, Head>, Failure> {
    let mut violations = Violations::default();
    let mut known = BTreeMap::new();
    // One more than can be right is enough to refuse.
    for (at, head) in heads.iter().enumerate().take(services.len() + 1) {
        let service = violations.take(format_args!("known[{at}].service"), named(&head.service, services));
        let hash: Option<Hash> = violations.take(format_args!("known[{at}].hash"), head.hash.parse());
        if head.number < 1 {
            violations.add(format_args!("known[{at}].number"), "must be 1 or more");
        }
        if let Some((service, hash)) = service.zip(hash) {
            let number = head.number;
            if known.insert(service, Head { number, hash }).is_some() {
                violations.add(format_args!("known[{at}].service"), "must be named once");
            }
        }
    }
    violations.finish(Some(known))
}

/// Which seals to send.
pub(super) fn export(
    request: &proto::ExportAuditLogRequest,
    services: &[ServiceName],
) -> Result<(ServiceName, i64), Failure> {
    let mut violations = Violations::default();
    let service = violations.take("service", named(&request.service, services));
    if request.after_number < 0 {
        violations.add("after_number", "must not be negative");
    }
    violations.finish(service.map(|service| (service, request.after_number)))
}

pub(super) fn page(page: EntryPage) -> proto::ListAuditEntriesResponse {
    proto::ListAuditEntriesResponse {
        entries: page.entries.into_iter().map(entry).collect(),
        next_page_token: page.next_page_token,
        unreachable: page.unreachable.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn verified(verified: Verified) -> proto::VerifyAuditLogResponse {
    proto::VerifyAuditLogResponse {
        chains: verified.chains.into_iter().map(chain).collect(),
        next_page_token: verified.next_page_token,
        unreachable: verified.unreachable.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn seal(service: ServiceName, batch: Batch) -> proto::ExportAuditLogResponse {
    let head = proto::AuditHead {
        service: service.to_string(),
        number: batch.seal.number,
        hash: batch.seal.hash.to_string(),
    };
    proto::ExportAuditLogResponse {
        seal: Some(head),
        previous: batch.seal.previous.to_string(),
        seal_time: Some(timestamp(batch.seal.sealed_at)),
        entries: batch.entries.into_iter().map(Option::unwrap_or_default).collect(),
    }
}

fn named(name: &str, services: &[ServiceName]) -> Result<ServiceName, String> {
    let service = name.parse().ok().filter(|service| services.contains(service));
    service.ok_or_else(|| {
        let names: Vec<&str> = services.iter().map(|service| service.as_str()).collect();
        format!("must be one of {}", names.join(", "))
    })
}

fn time(field: &str, stamp: Option<Timestamp>, violations: &mut Violations) -> Option<DateTime<Utc>> {
    let stamp = stamp?;
    let time = wire::time(stamp);
    if time.is_none() {
        violations.add(field, "must be a time");
    }
    time
}

fn chain(chain: VerifiedChain) -> proto::AuditChain {
    let Place {
        number,
        hash,
        sealed_at,
        entries,
        ..
    } = chain.place;
    proto::AuditChain {
        head: Some(proto::AuditHead {
            service: chain.service.to_string(),
            number,
            hash,
        }),
        seal_time: sealed_at.map(timestamp),
        entries,
        faults: chain
            .faults
            .iter()
            .map(|fault| proto::AuditFault {
                kind: kind(fault.kind).into(),
                number: fault.number,
                entry_id: fault.entry.map(|id| id.to_string()).unwrap_or_default(),
            })
            .collect(),
        done: chain.done,
        waiting: chain.waiting,
    }
}

fn kind(kind: FaultKind) -> proto::AuditFaultKind {
    match kind {
        FaultKind::SealMissing => proto::AuditFaultKind::SealMissing,
        FaultKind::SealChanged => proto::AuditFaultKind::SealChanged,
        FaultKind::ChainBroken => proto::AuditFaultKind::ChainBroken,
        FaultKind::EntryMissing => proto::AuditFaultKind::EntryMissing,
        FaultKind::EntryChanged => proto::AuditFaultKind::EntryChanged,
        FaultKind::EntryMisdated => proto::AuditFaultKind::EntryMisdated,
        FaultKind::EntryUnsealed => proto::AuditFaultKind::EntryUnsealed,
        FaultKind::KnownDiffers => proto::AuditFaultKind::KnownDiffers,
    }
}

/// An entry's canonical JSON as message.
fn entry(mut entry: Value) -> proto::AuditEntry {
    let mut take = |name: &str| entry.get_mut(name).map(Value::take).unwrap_or_default();
    let mut text = |name: &str| match take(name) {
        Value::String(text) => text,
        _ => String::new(),
    };
    let at: Option<DateTime<Utc>> = text("at").parse().ok();
    proto::AuditEntry {
        id: text("id"),
        service: text("service"),
        time: at.map(timestamp),
        actor: text("actor"),
        on_behalf_of: text("on_behalf_of"),
        action: text("action"),
        target: text("target"),
        reason: text("reason"),
        address: text("address"),
        request_id: text("request_id"),
        outcome: text("outcome"),
        before: record(take("before")),
        after: record(take("after")),
    }
}

/// What was recorded of a thing. One that is no object stands under the name `value`.
fn record(value: Value) -> Option<Struct> {
    match value {
        Value::Null => None,
        Value::Object(fields) => Some(Struct {
            fields: fields.into_iter().map(|(name, value)| (name, field(value))).collect(),
        }),
        other => Some(Struct {
            fields: [("value".to_owned(), field(other))].into(),
        }),
    }
}

fn field(value: Value) -> Field {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(is) => Kind::BoolValue(is),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items.into_iter().map(field).collect(),
        }),
        Value::Object(fields) => Kind::StructValue(Struct {
            fields: fields.into_iter().map(|(name, value)| (name, field(value))).collect(),
        }),
    };
    Field { kind: Some(kind) }
}
