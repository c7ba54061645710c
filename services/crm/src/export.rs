//! Reading all of a tenant's records, for the worker's reports.

pub(crate) mod rpc;

use std::pin::Pin;

use futures_util::Stream;
use futures_util::stream;
use rowhouse_context::Ctx;
use rowhouse_types::ContactId;

use crate::contact::Contact;
use crate::contact::actions::Contacts;
use crate::error::Result;

/// Contacts in a page of the stream. One holds at most 3 KB, so a page stays below 1.5 MB in memory and below gRPC's
/// 4 MB for a message.
const PAGE_CONTACTS: i64 = 500;

/// A page of the stream.
#[derive(Clone, Debug)]
pub(crate) struct ContactPage {
    pub(crate) contacts: Vec<Contact>,
    /// How many there were in all when the stream began.
    pub(crate) total: i64,
}

/// Where the stream is.
struct Progress {
    contacts: Contacts,
    ctx: Ctx,
    total: i64,
    after: Option<ContactId>,
    ended: bool,
}

/// All contacts that the caller reaches, are not deleted and follow `after`, page by page, each page a transaction of its own.
///
/// `after`: the last contact that a reader has, or any place in the order of ids: it is compared and not looked up.
///
/// Nothing runs ahead of the reader: a page is read when the one before has been taken, so one page is in memory at a
/// time, and a reader that goes away ends the reading. An error ends the stream.
pub(crate) async fn contacts(
    contacts: Contacts,
    ctx: Ctx,
    after: Option<ContactId>,
) -> Result<Pin<Box<dyn Stream<Item = Result<ContactPage>> + Send>>> {
    let total = contacts.count(&ctx).await?;
    let progress = Progress {
        contacts,
        ctx,
        total,
        after,
        ended: false,
    };
    Ok(Box::pin(stream::try_unfold(progress, next)))
}

async fn next(mut progress: Progress) -> Result<Option<(ContactPage, Progress)>> {
    if progress.ended {
        return Ok(None);
    }
    let first = progress.after.is_none();
    let read = progress
        .contacts
        .page_by_id(&progress.ctx, progress.after, PAGE_CONTACTS);
    let contacts = read.await?;
    progress.ended = i64::try_from(contacts.len()).is_ok_and(|count| count < PAGE_CONTACTS);
    progress.after = contacts.last().map(|last| last.id);
    if contacts.is_empty() && !first {
        return Ok(None);
    }
    // A tenant without contacts gets one page that says so.
    let page = ContactPage {
        contacts,
        total: progress.total,
    };
    Ok(Some((page, progress)))
}
