//! Reading and checking audit logs.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::future::join_all;
use futures_util::{Stream, TryStreamExt as _, stream};
use rowhouse_audit::{Batch, Chain, Check, Fault, Head, Place, Query};
use rowhouse_context::ServiceName;
use rowhouse_db::paging::PageScope;
use rowhouse_status::Failure;
use rowhouse_types::AuditEntryId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::logs::{Logs, Reader, is_away};
use super::{Entry, record};
use crate::error::Error;
use crate::state::State;

/// Entries, and seals, of one chain that one call checks: a second or two of hashing and reading.
const CHECKED_MAX: i64 = 20_000;

/// Which entries to list.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListQuery {
    /// But for place and size.
    pub(crate) query: Query,
    pub(crate) service: Option<ServiceName>,
    pub(crate) size: u32,
    pub(crate) token: String,
}

/// A page of entries of several services.
#[derive(Debug, Default)]
pub(crate) struct EntryPage {
    /// As JSON, the newest first.
    pub(crate) entries: Vec<Value>,
    pub(crate) next_page_token: String,
    pub(crate) unreachable: Vec<ServiceName>,
}

/// What a call of a check has found.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    pub(crate) chains: Vec<VerifiedChain>,
    pub(crate) next_page_token: String,
    pub(crate) unreachable: Vec<ServiceName>,
}

/// One chain of it.
#[derive(Debug)]
pub(crate) struct VerifiedChain {
    pub(crate) service: ServiceName,
    pub(crate) place: Place,
    pub(crate) faults: Vec<Fault>,
    /// How many entries wait for their seal; known where it is done.
    pub(crate) waiting: i64,
    pub(crate) done: bool,
}

/// How far a check is, from one call to the next.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Progress {
    /// By the service's name.
    chains: BTreeMap<String, (Place, bool)>,
}

/// A page of the log, merged by the entries' ids.
pub(crate) async fn list(reader: &Reader, state: &State, logs: &Logs, list: &ListQuery) -> Result<EntryPage, Failure> {
    let services: Vec<ServiceName> = match list.service {
        Some(service) => vec![service],
        None => reader.services().to_vec(),
    };
    let scope = scope(
        reader,
        "ListAuditEntries",
        format!("{:?} {:?}", list.query, list.service),
    );
    let paging = state.pages.begin::<AuditEntryId>(scope, list.size, &list.token);
    let paging = paging.map_err(|_| Error::PageToken)?;
    let query = Query {
        before: paging.after().copied(),
        limit: paging.limit(),
        ..list.query.clone()
    };
    let pages = services.iter().map(|service| logs.page(reader, *service, &query));
    let pages = join_all(pages).await;
    let (mut entries, mut unreachable) = (Vec::new(), Vec::new());
    for (service, page) in services.iter().zip(pages) {
        match page {
            Ok(page) => entries.extend(
                page.iter()
                    .map(|text| identified(text))
                    .collect::<Result<Vec<_>, _>>()?,
            ),
            Err(failure) if is_away(&failure) => {
                tell_away(*service, &failure);
                unreachable.push(*service);
            }
            Err(failure) => return Err(failure),
        }
    }
    entries.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
    let limit = usize::try_from(paging.limit()).unwrap_or(usize::MAX);
    entries.truncate(limit);
    let page = paging.finish(entries, |(id, _)| *id);
    Ok(EntryPage {
        entries: page.items.into_iter().map(|(_, entry)| entry).collect(),
        next_page_token: page.next_page_token,
        unreachable,
    })
}

/// Checks the chains, each up to a bound; goes on where the call that `token` is from has stopped.
pub(crate) async fn verify(
    reader: &Reader,
    state: &State,
    logs: &Logs,
    known: &BTreeMap<ServiceName, Head>,
    token: &str,
) -> Result<Verified, Failure> {
    let scope = scope(reader, "VerifyAuditLog", format!("{known:?}"));
    let progress: Progress = match token {
        "" => Progress::default(),
        token => state.pages.open(&scope, token).map_err(|_| Error::PageToken)?,
    };
    let checks = reader.services().iter().map(|service| async {
        let (place, done) = progress.chains.get(service.as_str()).cloned().unwrap_or_default();
        let chain = Chain {
            service: *service,
            tenant: reader.tenant(),
        };
        let mut check = Check::new(chain, place, known.get(service).copied());
        let outcome = if done {
            Ok(Some(0))
        } else {
            go_through(reader, logs, &mut check, *service).await
        };
        (*service, check, outcome)
    });
    let (mut verified, mut next) = (Verified::default(), Progress::default());
    let mut goes_on = false;
    for (service, check, outcome) in join_all(checks).await {
        let waiting = match outcome {
            Ok(waiting) => waiting,
            Err(failure) if is_away(&failure) => {
                tell_away(service, &failure);
                verified.unreachable.push(service);
                None
            }
            Err(failure) => return Err(failure),
        };
        let done = waiting.is_some();
        goes_on |= !done;
        next.chains
            .insert(service.as_str().to_owned(), (check.place().clone(), done));
        verified.chains.push(VerifiedChain {
            service,
            place: check.place().clone(),
            faults: check.faults().to_vec(),
            waiting: waiting.unwrap_or(0),
            done,
        });
    }
    if goes_on {
        verified.next_page_token = state.pages.seal(&scope, &next);
    }
    Ok(verified)
}

/// Checks one chain until its end and says how many entries wait for their seal, or nothing where the call's bound came first.
async fn go_through(
    reader: &Reader,
    logs: &Logs,
    check: &mut Check,
    service: ServiceName,
) -> Result<Option<i64>, Failure> {
    let (entries, number) = (check.place().entries + CHECKED_MAX, check.place().number + CHECKED_MAX);
    while check.place().entries < entries && check.place().number < number {
        let batches = logs.seals(reader, service, check.place().number).await?;
        if batches.is_empty() {
            let unsealed = logs.unsealed(reader, service).await?;
            check.end(&unsealed.lost);
            return Ok(Some(unsealed.waiting));
        }
        batches.iter().for_each(|batch| check.take(batch));
    }
    Ok(None)
}

/// One service's seals after a number, for as long as somebody takes them.
pub(crate) async fn export(
    reader: Reader,
    state: &State,
    logs: Arc<Logs>,
    service: ServiceName,
    after: i64,
) -> Result<impl Stream<Item = Result<Batch, Failure>> + use<>, Error> {
    let entry = Entry::new("audit.export", service).after(json!({ "after_number": after }));
    let mut tx = state.begin().await?;
    record(&mut tx, &reader.ctx, entry).await?;
    tx.commit().await?;
    let progress = (reader, logs, after);
    let pages = stream::try_unfold(progress, move |(reader, logs, after)| async move {
        let batches = logs.seals(&reader, service, after).await?;
        let Some(last) = batches.last().map(|batch| batch.seal.number) else {
            return Ok(None);
        };
        let batches = batches.into_iter().map(Ok::<_, Failure>);
        Ok::<_, Failure>(Some((stream::iter(batches), (reader, logs, last))))
    });
    Ok(pages.try_flatten())
}

fn identified(text: &str) -> Result<(AuditEntryId, Value), Failure> {
    let entry: Value = serde_json::from_str(text).map_err(Failure::internal)?;
    let id = entry.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok());
    let id = id.ok_or_else(|| Failure::internal("an audit entry has no id"))?;
    Ok((id, entry))
}

fn scope(reader: &Reader, method: &'static str, question: String) -> PageScope {
    PageScope {
        method,
        tenant: reader.tenant(),
        user: reader.ctx.principal().user(),
        fingerprint: digest(&SHA256, question.as_bytes()).as_ref().to_vec(),
    }
}

/// What the answer says by name alone.
fn tell_away(service: ServiceName, failure: &Failure) {
    let cause = failure.cause().unwrap_or_default();
    tracing::warn!(%service, cause, "the log of a service was not read");
}
