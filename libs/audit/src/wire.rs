//! Logs as messages between services, both ways.

use chrono::{DateTime, Datelike as _, Utc};
use rowhouse_proto::common::v1 as proto;
use rowhouse_proto::timestamp;
use rowhouse_proto::well_known::Timestamp;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::AuditEntryId;

use crate::log::{PAGE_MAX, Query};
use crate::seal::{Batch, Hash, Seal};

/// What is asked for.
pub(crate) fn query(request: &proto::ListLogEntriesRequest) -> Result<Query, Failure> {
    let mut violations = Violations::default();
    let before = match request.before_id.as_str() {
        "" => Some(None),
        id => violations.take("before_id", id.parse::<AuditEntryId>()).map(Some),
    };
    let query = before.map(|before| Query {
        before,
        limit: i64::from(request.page_size).clamp(1, PAGE_MAX),
        actor: optional(&request.actor),
        action: optional(&request.action),
        target: optional(&request.target),
        request_id: optional(&request.request_id),
        outcome: optional(&request.outcome),
        from: request.from_time.and_then(time),
        to: request.to_time.and_then(time),
    });
    violations.finish(query)
}

/// The question as a message.
#[must_use]
pub fn question(query: &Query) -> proto::ListLogEntriesRequest {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    proto::ListLogEntriesRequest {
        before_id: query.before.map(|id| id.to_string()).unwrap_or_default(),
        page_size: i32::try_from(query.limit).unwrap_or(i32::MAX),
        actor: text(&query.actor),
        action: text(&query.action),
        target: text(&query.target),
        request_id: text(&query.request_id),
        outcome: text(&query.outcome),
        from_time: query.from.map(timestamp),
        to_time: query.to.map(timestamp),
    }
}

/// A seal and its entries as a message.
pub(crate) fn seal(batch: Batch) -> proto::LogSeal {
    let Batch { seal, entries } = batch;
    let leaves = seal.leaves.iter().map(Some).chain(std::iter::repeat(None));
    let sealed = seal.entries.iter().zip(leaves).zip(entries);
    proto::LogSeal {
        number: seal.number,
        previous: seal.previous.bytes().to_vec(),
        seal_time: Some(timestamp(seal.sealed_at)),
        hash: seal.hash.bytes().to_vec(),
        entries: sealed
            .map(|((id, leaf), entry)| proto::SealedEntry {
                id: id.to_string(),
                hash: leaf.map(|leaf| leaf.bytes().to_vec()).unwrap_or_default(),
                entry: entry.unwrap_or_default(),
            })
            .collect(),
    }
}

/// A seal and its entries as another service has sent them. What cannot be read is zeros, and then the seal does not hold.
///
/// # Errors
/// INTERNAL where an entry has no id.
pub fn batch(message: proto::LogSeal) -> Result<Batch, Failure> {
    let hash = |bytes: &[u8]| Hash::from_bytes(bytes).unwrap_or(Hash::zero());
    let ids: Result<Vec<AuditEntryId>, _> = message.entries.iter().map(|entry| entry.id.parse()).collect();
    Ok(Batch {
        seal: Seal {
            number: message.number,
            previous: hash(&message.previous),
            entries: ids.map_err(|_| Failure::internal("a seal names an entry that has no id"))?,
            leaves: message.entries.iter().map(|entry| hash(&entry.hash)).collect(),
            sealed_at: message.seal_time.and_then(time).unwrap_or_default(),
            hash: hash(&message.hash),
        },
        entries: message
            .entries
            .into_iter()
            .map(|entry| optional(&entry.entry))
            .collect(),
    })
}

fn optional(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A message as time; none where it is no time of the years 1 to 9999, which is what the message may hold.
#[must_use]
pub fn time(stamp: Timestamp) -> Option<DateTime<Utc>> {
    let time = DateTime::from_timestamp(stamp.seconds, u32::try_from(stamp.nanos).ok()?)?;
    (1..=9999).contains(&time.year()).then_some(time)
}
