//! Contacts in a tenant's home. `$1` is the tenant, supplied by `TenantTx`; a row of another tenant is never seen.

mod condition;
mod list;
mod reassign;
mod row;
mod statement;

use chrono::{DateTime, TimeDelta, Utc};
use rowhouse_context::{Ctx, Reach};
use rowhouse_db::{Statement, TenantTx};
use rowhouse_telemetry::trace::current_traceparent;
use rowhouse_types::{ContactId, Etag};
use uuid::Uuid;

use super::{Contact, Patch, now};
use crate::error::Result;
use row::Answer;
use statement::{COUNT, COUNT_UP_TO, CREATE, CREATE_ONCE, DELETE, GET, IS_REMEMBERED, PAGE_BY_ID, UNDELETE, UPDATE};

#[cfg(test)]
pub(super) use list::own_list;
pub(super) use list::{Cursor, ListScope, list};
#[cfg(test)]
pub(super) use reassign::taken_of;
pub(super) use reassign::{Claimed, Reassigned, Taking, answered, claim, give, left, remember, take};
pub(super) use row::Outcome;
#[cfg(test)]
pub(super) use statement::STATEMENTS;

/// The name under which creates are remembered.
const CREATE_METHOD: &str = "CreateContact";

/// How long a request is remembered (design of the API: 24 hours).
const REMEMBERED: TimeDelta = TimeDelta::hours(24);

/// What is written about a change: who did it, where from, and the ids of the entry and of the event.
#[derive(Clone, Debug)]
pub(super) struct Record {
    at: DateTime<Utc>,
    entry: Uuid,
    event: Uuid,
    actor: String,
    on_behalf_of: Option<String>,
    reason: Option<String>,
    address: Option<String>,
    request_id: String,
    traceparent: Option<String>,
}

/// By what a repeated call is recognised.
#[derive(Clone, Copy, Debug)]
pub(super) struct Once<'a> {
    pub(super) request_id: Uuid,
    /// 32 bytes.
    pub(super) fingerprint: &'a Vec<u8>,
}

/// What a create did.
#[derive(Clone, Debug)]
pub(super) enum Created {
    /// It created the contact.
    Now,
    /// An earlier call had created this one.
    Before(Box<Contact>),
    /// An earlier call with the same request id had other content.
    Reused,
}

// === impl Record ===

impl Record {
    /// About a change that the call of `ctx` makes at `at`.
    pub(super) fn of(ctx: &Ctx, at: DateTime<Utc>) -> Self {
        Self {
            at,
            entry: Uuid::now_v7(),
            event: Uuid::now_v7(),
            actor: ctx.principal().actor(),
            on_behalf_of: ctx.principal().on_behalf_of(),
            reason: ctx.reason().map(str::to_owned),
            address: ctx.address().map(str::to_owned),
            request_id: ctx.request_id().to_string(),
            traceparent: current_traceparent(),
        }
    }
}

/// Whose contacts a statement may touch, as it is bound: `None` stands for everybody's.
fn owners(reach: &Reach) -> Option<Vec<Uuid>> {
    match reach {
        Reach::All => None,
        Reach::Owners(owners) => Some(owners.iter().map(|owner| owner.uuid()).collect()),
    }
}

/// One contact within `reach` that is not deleted.
pub(super) async fn get(tx: &mut TenantTx, reach: &Reach, id: ContactId) -> Result<Option<Contact>> {
    Ok(tx.fetch_optional(&GET, &[&id, &owners(reach)]).await?)
}

/// Writes a new contact.
pub(super) async fn create(tx: &mut TenantTx, contact: &Contact, record: &Record) -> Result<Created> {
    let details = &contact.details;
    tx.fetch_one(
        &CREATE,
        &[
            &contact.id,
            &record.at,
            &details.display_name.as_str(),
            &details.email.as_str(),
            &details.phone.as_str(),
            &details.company.as_str(),
            &details.job_title.as_str(),
            &contact.owner,
            &record.entry,
            &record.event,
            &record.actor,
            &record.on_behalf_of,
            &record.reason,
            &record.address,
            &record.request_id,
            &record.traceparent,
            &contact.id.to_string(),
        ],
    )
    .await?;
    Ok(Created::Now)
}

/// Writes a new contact, unless a call with the same request id has done so.
pub(super) async fn create_once(
    tx: &mut TenantTx,
    contact: &Contact,
    record: &Record,
    once: &Once<'_>,
) -> Result<Created> {
    let details = &contact.details;
    let answer = serde_json::to_value(Answer::of(contact))?;
    let known = tx
        .fetch_one(
            &CREATE_ONCE,
            &[
                &contact.id,
                &record.at,
                &details.display_name.as_str(),
                &details.email.as_str(),
                &details.phone.as_str(),
                &details.company.as_str(),
                &details.job_title.as_str(),
                &contact.owner,
                &record.entry,
                &record.event,
                &record.actor,
                &record.on_behalf_of,
                &record.reason,
                &record.address,
                &record.request_id,
                &record.traceparent,
                &contact.id.to_string(),
                &CREATE_METHOD,
                &once.request_id,
                once.fingerprint,
                &answer,
                &(record.at + REMEMBERED),
            ],
        )
        .await?;
    if known.resource_id == contact.id {
        return Ok(Created::Now);
    }
    if known.fingerprint != *once.fingerprint {
        return Ok(Created::Reused);
    }
    let earlier: Answer = serde_json::from_value(known.answer)?;
    Ok(Created::Before(Box::new(earlier.into_contact(known.resource_id)?)))
}

/// Changes the details that the patch holds. `None`: there is no such contact within `reach`. Not changed: its revision is
/// not `etag`.
pub(super) async fn update(
    tx: &mut TenantTx,
    reach: &Reach,
    id: ContactId,
    etag: Option<Etag>,
    patch: &Patch,
    record: &Record,
) -> Result<Option<Outcome>> {
    let found = tx
        .fetch_optional(
            &UPDATE,
            &[
                &id,
                &record.at,
                &etag.map(Etag::revision),
                &record.entry,
                &record.event,
                &record.actor,
                &record.on_behalf_of,
                &record.reason,
                &record.address,
                &record.request_id,
                &record.traceparent,
                &id.to_string(),
                &patch.display_name.as_ref().map(|text| text.as_str()),
                &patch.email.as_ref().map(|email| email.as_str()),
                &patch.phone.as_ref().map(|text| text.as_str()),
                &patch.company.as_ref().map(|text| text.as_str()),
                &patch.job_title.as_ref().map(|text| text.as_str()),
                &owners(reach),
                &patch.owner,
            ],
        )
        .await?;
    Ok(found)
}

/// Marks a contact as deleted. As [`update`].
pub(super) async fn delete(
    tx: &mut TenantTx,
    reach: &Reach,
    id: ContactId,
    etag: Option<Etag>,
    record: &Record,
) -> Result<Option<Outcome>> {
    mark(tx, &DELETE, reach, id, etag, record).await
}

/// Takes the mark of deletion away. As [`update`]; also not changed where the contact is not deleted.
pub(super) async fn undelete(
    tx: &mut TenantTx,
    reach: &Reach,
    id: ContactId,
    etag: Option<Etag>,
    record: &Record,
) -> Result<Option<Outcome>> {
    mark(tx, &UNDELETE, reach, id, etag, record).await
}

async fn mark(
    tx: &mut TenantTx,
    statement: &Statement<Outcome>,
    reach: &Reach,
    id: ContactId,
    etag: Option<Etag>,
    record: &Record,
) -> Result<Option<Outcome>> {
    let found = tx
        .fetch_optional(
            statement,
            &[
                &id,
                &record.at,
                &etag.map(Etag::revision),
                &record.entry,
                &record.event,
                &record.actor,
                &record.on_behalf_of,
                &record.reason,
                &record.address,
                &record.request_id,
                &record.traceparent,
                &id.to_string(),
                &owners(reach),
            ],
        )
        .await?;
    Ok(found)
}

/// How many contacts within `reach` are not deleted.
pub(super) async fn count(tx: &mut TenantTx, reach: &Reach) -> Result<i64> {
    Ok(tx.fetch_one(&COUNT, &[&owners(reach)]).await?.total)
}

/// How many contacts of the tenant are not deleted, `most` where there are more.
pub(super) async fn count_up_to(tx: &mut TenantTx, most: i64) -> Result<i64> {
    Ok(tx.fetch_one(&COUNT_UP_TO, &[&most]).await?.total)
}

/// Whether an earlier call with this request id created a contact, or tried to.
pub(super) async fn is_remembered(tx: &mut TenantTx, request_id: Uuid) -> Result<bool> {
    let found = tx
        .fetch_one(&IS_REMEMBERED, &[&CREATE_METHOD, &request_id, &now()])
        .await?;
    Ok(found.total > 0)
}

/// Up to `limit` contacts within `reach` after `after` in the order of their ids, without deleted ones.
pub(super) async fn page_by_id(
    tx: &mut TenantTx,
    reach: &Reach,
    after: Option<ContactId>,
    limit: i64,
) -> Result<Vec<Contact>> {
    // The smallest UUID stands for the beginning; no contact has it.
    let after = after.map_or_else(Uuid::nil, |id| id.uuid());
    Ok(tx.fetch_all(&PAGE_BY_ID, &[&after, &limit, &owners(reach)]).await?)
}
