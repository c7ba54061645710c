//! Contacts in a tenant's home. `$1` is the tenant, supplied by `TenantTx`; a row of another tenant is never seen.

mod condition;
mod list;
mod reassign;
mod row;
mod statement;

use chrono::{DateTime, Utc};
use rowhouse_context::{Ctx, Reach};
use rowhouse_db::requests::Once;
use rowhouse_db::{Statement, TenantTx};
use rowhouse_telemetry::trace::current_traceparent;
use rowhouse_types::{ContactId, Etag};
use uuid::Uuid;

use super::{Contact, Patch};
use crate::error::Result;
use crate::request::{Known, REMEMBERED};
use row::Answer;
use statement::{COUNT, COUNT_UP_TO, CREATE, CREATE_ONCE, DELETE, GET, PAGE_BY_ID, UNDELETE, UPDATE};

#[cfg(test)]
pub(super) use list::own_list;
pub(super) use list::{Cursor, ListScope, list};
#[cfg(test)]
pub(super) use reassign::taken_of;
pub(super) use reassign::{Reassigned, Taking, give, left, take};
pub(super) use row::Outcome;
#[cfg(test)]
pub(super) use statement::STATEMENTS;

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

/// Writes a new contact, unless an earlier call with the same request id has written one: then it answers that one.
///
/// # Errors
/// [`crate::error::Error::RequestReused`] where the earlier call had other content.
pub(super) async fn create(
    tx: &mut TenantTx,
    contact: &Contact,
    record: &Record,
    once: Option<&Once>,
) -> Result<Option<Contact>> {
    let details = &contact.details;
    let statement = if once.is_some() { &CREATE_ONCE } else { &CREATE };
    let answer = once.map(|_| serde_json::to_value(Answer::of(contact))).transpose()?;
    let known = tx
        .fetch_one(
            statement,
            &[
                &contact.id,
                &record.at,
                &once.map(|once| once.method),
                &once.map(|once| once.key.uuid()),
                &once.map(|once| once.fingerprint.as_slice()),
                &answer,
                &(record.at + REMEMBERED),
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
    let Some(once) = once else {
        return Ok(None);
    };
    let earlier = known.earlier(contact.id.uuid(), once)?;
    earlier.map(created).transpose()
}

/// The contact that an earlier call has created, as it was then.
pub(super) fn created(earlier: Known) -> Result<Contact> {
    let id = ContactId::from_uuid(earlier.resource);
    let answer: Answer = earlier.answer()?;
    Ok(answer.into_contact(id))
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
