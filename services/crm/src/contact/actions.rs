//! What a caller may do with contacts. One function each. Every one keeps to the contacts that the caller reaches
//! (`Ctx::reach`); any other is as if it were not there. Whoever creates a contact owns it, so that is always reached.
//!
//! Every action but the stream and [`reassign`] is one transaction of one statement, which decides, changes, records and
//! emits; COMMIT travels with it. So an action is one round trip.

pub(super) mod reassign;

use rowhouse_client::LimitsClient;
use rowhouse_context::Ctx;
use rowhouse_db::paging::{Page, PageScope, PageTokens};
use rowhouse_db::requests::{Once, fingerprint};
use rowhouse_db::{Mode, TenantDb};
use rowhouse_mq::Wake;
use rowhouse_types::{ContactId, Etag, IdempotencyKey};
use serde_json::json;

use super::filter::Filter;
use super::order::Order;
use super::owner::Owners;
use super::quota::Quota;
use super::store::{self, Cursor, ListScope, Outcome, Record};
use super::{Contact, Details, Patch, now};
use crate::error::{Error, Result};
use crate::request::{self, Known};

/// What a caller may do with contacts. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Contacts {
    db: TenantDb,
    tokens: PageTokens,
    wake: Wake,
    quota: Quota,
    owners: Owners,
}

/// A contact to create.
#[derive(Clone, Debug)]
pub(crate) struct NewContact {
    pub(crate) details: Details,
    /// The caller's id of this call, by which a repeated one is recognised.
    pub(crate) request_id: Option<IdempotencyKey>,
}

/// Which contact to change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) id: ContactId,
    /// What the caller last saw; `None` where a change in between does not matter.
    pub(crate) etag: Option<Etag>,
}

/// Which contacts to list.
#[derive(Clone, Debug)]
pub(crate) struct ListQuery {
    /// How many at most.
    pub(crate) size: u32,
    /// Of the page before; empty for the first.
    pub(crate) token: String,
    pub(crate) filter: Filter,
    pub(crate) order: Order,
    pub(crate) show_deleted: bool,
}

/// The name under which creates are remembered.
const CREATE_METHOD: &str = "CreateContact";

// === impl Contacts ===

impl Contacts {
    /// `wake`: hurries the relay after a commit. `limits`: what tenants may use. `owners`: whom contacts may be given to.
    pub(crate) fn new(db: TenantDb, tokens: PageTokens, wake: Wake, limits: LimitsClient, owners: Owners) -> Self {
        Self {
            db,
            tokens,
            wake,
            quota: Quota::new(limits),
            owners,
        }
    }

    /// Creates a contact; a repeated call gets the one that the first created, as it was then.
    pub(crate) async fn create(&self, ctx: &Ctx, new: NewContact) -> Result<Contact> {
        let owner = ctx.principal().user().ok_or(Error::NoUser)?;
        let once = new.recognised_by(ctx);
        let room = match self.quota.take(ctx, &self.db).await {
            // A repeated call needs none.
            Err(exceeded @ Error::QuotaExceeded { .. }) => {
                return store::created(self.earlier(ctx, once.as_ref(), exceeded).await?);
            }
            taken => taken?,
        };
        let contact = Contact::new(ContactId::generate(), new.details, owner, now());
        let record = Record::of(ctx, contact.created_at);
        let mut tx = self.db.begin_single(ctx, Mode::Write).await?;
        if let Some(earlier) = store::create(&mut tx, &contact, &record, once.as_ref()).await? {
            return Ok(earlier);
        }
        room.keep();
        self.wake.notify();
        Ok(contact)
    }

    /// One contact.
    pub(crate) async fn get(&self, ctx: &Ctx, id: ContactId) -> Result<Contact> {
        let mut tx = self.db.begin_single(ctx, Mode::Read).await?;
        let contact = store::get(&mut tx, ctx.reach(), id).await?;
        contact.ok_or(Error::ContactUnknown { id })
    }

    /// A page of contacts.
    pub(crate) async fn list(&self, ctx: &Ctx, query: &ListQuery) -> Result<Page<Contact>> {
        let scope = PageScope {
            method: "ListContacts",
            tenant: Some(ctx.tenant()?),
            user: ctx.principal().user(),
            fingerprint: query.fingerprint(),
        };
        let paging = self.tokens.begin(scope, query.size, &query.token);
        let paging = paging.map_err(|_| Error::PageToken)?;
        let wanted = ListScope {
            reach: ctx.reach(),
            filter: &query.filter,
            order: query.order,
            show_deleted: query.show_deleted,
            after: paging.after().cloned(),
            limit: paging.limit(),
        };
        let mut tx = self.db.begin_single(ctx, Mode::Read).await?;
        let contacts = store::list(&mut tx, wanted).await?;
        Ok(paging.finish(contacts, |last| Cursor::of(last, query.order.field)))
    }

    /// Changes the details that the patch holds, and gives the contact to whom it names.
    pub(crate) async fn update(&self, ctx: &Ctx, change: Change, patch: &Patch) -> Result<Contact> {
        if let Some(owner) = patch.owner
            && !self.owners.admits(ctx, owner).await?
        {
            return Err(Error::OwnerUnknown);
        }
        let record = Record::of(ctx, now());
        let mut tx = self.db.begin_single(ctx, Mode::Write).await?;
        let outcome = store::update(&mut tx, ctx.reach(), change.id, change.etag, patch, &record).await?;
        self.settle(change, outcome)
    }

    /// Marks a contact as deleted.
    pub(crate) async fn delete(&self, ctx: &Ctx, change: Change) -> Result<Contact> {
        let record = Record::of(ctx, now());
        let mut tx = self.db.begin_single(ctx, Mode::Write).await?;
        let outcome = store::delete(&mut tx, ctx.reach(), change.id, change.etag, &record).await?;
        self.settle(change, outcome)
    }

    /// Brings a deleted contact back.
    pub(crate) async fn undelete(&self, ctx: &Ctx, change: Change) -> Result<Contact> {
        let room = self.quota.take(ctx, &self.db).await?;
        let record = Record::of(ctx, now());
        let mut tx = self.db.begin_single(ctx, Mode::Write).await?;
        let outcome = store::undelete(&mut tx, ctx.reach(), change.id, change.etag, &record).await?;
        match outcome {
            Some(found) if !found.is_changed && found.contact.deleted_at.is_none() => {
                Err(Error::NotDeleted { id: change.id })
            }
            outcome => {
                let contact = self.settle(change, outcome)?;
                room.keep();
                Ok(contact)
            }
        }
    }

    /// How many contacts that the caller reaches are not deleted. For streams.
    pub(crate) async fn count(&self, ctx: &Ctx) -> Result<i64> {
        let mut tx = self.db.bulk().begin_single(ctx, Mode::Read).await?;
        store::count(&mut tx, ctx.reach()).await
    }

    /// The contacts that the caller reaches and that follow `after` in the order of their ids, without deleted ones; empty
    /// after the last.
    ///
    /// For streams, so they use none of the tenant's lanes. Each page is a transaction of its own, so a home that is frozen in
    /// between refuses the next one.
    pub(crate) async fn page_by_id(&self, ctx: &Ctx, after: Option<ContactId>, limit: i64) -> Result<Vec<Contact>> {
        let mut tx = self.db.bulk().begin_single(ctx, Mode::Read).await?;
        store::page_by_id(&mut tx, ctx.reach(), after, limit).await
    }

    /// What an earlier call has left that this one repeats; otherwise it is refused.
    async fn earlier(&self, ctx: &Ctx, once: Option<&Once>, refusal: Error) -> Result<Known> {
        let Some(once) = once else {
            return Err(refusal);
        };
        let mut tx = self.db.begin_single(ctx, Mode::Read).await?;
        let earlier = request::answered(&mut tx, once).await?;
        earlier.ok_or(refusal)
    }

    /// Reads what a statement found and did to one contact.
    fn settle(&self, change: Change, outcome: Option<Outcome>) -> Result<Contact> {
        match outcome {
            Some(found) if found.is_changed => {
                self.wake.notify();
                Ok(found.contact)
            }
            Some(_) => Err(Error::EtagMismatch { id: change.id }),
            None => Err(Error::ContactUnknown { id: change.id }),
        }
    }
}

// === impl NewContact ===

impl NewContact {
    fn recognised_by(&self, ctx: &Ctx) -> Option<Once> {
        let details = &self.details;
        let content = [
            details.display_name.as_str(),
            details.email.as_str(),
            details.phone.as_str(),
            details.company.as_str(),
            details.job_title.as_str(),
        ];
        self.request_id
            .map(|key| request::once(ctx, CREATE_METHOD, key, &content))
    }
}

// === impl ListQuery ===

impl ListQuery {
    /// What all pages of one list have in common beside caller and tenant.
    fn fingerprint(&self) -> Vec<u8> {
        let order = format!("{:?}", self.order);
        fingerprint(&json!([self.filter.text, order, self.show_deleted]))
    }
}
