//! What a caller may do with reports. One function each.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use rowhouse_client::LimitsClient;
use rowhouse_context::{Ctx, Principal, Reach};
use rowhouse_db::requests::{Claimed, Once};
use rowhouse_mq::{Event, Wake, outbox};
use rowhouse_types::ReportId;
use serde_json::json;
use sqlx::PgPool;

use super::{NewReport, Report, State, store};
use crate::audit::{self, Entry};
use crate::error::{Error, Result};
use crate::files::Files;
use crate::peer::Requester;
use crate::{purge, request};

/// Says that a report is to be made.
pub(crate) const REQUESTED: &str = "worker.report_requested.v1";
/// Says that a report has succeeded or failed.
pub(crate) const FINISHED: &str = "worker.report_finished.v1";

/// Largest piece of a file in one message, in bytes, as the API promises.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// What a caller may do with reports. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Reports {
    pool: PgPool,
    files: Files,
    wake: Wake,
    limits: LimitsClient,
}

// === impl Reports ===

impl Reports {
    /// `limits`: what tenants may use.
    pub(crate) fn new(pool: PgPool, files: Files, wake: Wake, limits: LimitsClient) -> Self {
        Self {
            pool,
            files,
            wake,
            limits,
        }
    }

    /// Queues a report: the row, its event and the audit entry, or none of them.
    pub(crate) async fn run(&self, ctx: &Ctx, new: NewReport) -> Result<Report> {
        let requester = requester(ctx)?;
        let id = ReportId::generate();
        // Before the transaction: a question to another service must not hold a connection.
        let limits = self.limits.limits(ctx, requester.tenant).await;
        let mut transaction = self.pool.begin().await?;
        if !purge::store::admits(&mut transaction, requester.tenant).await? {
            return Err(Error::TenantGone {
                tenant: requester.tenant,
            });
        }
        if let Some(once) = recognised_by(new, requester) {
            let tenant = requester.tenant.uuid();
            match request::TABLE.claim(&mut transaction, tenant, &once, id.uuid()).await? {
                Claimed::First => {}
                Claimed::Repeated(earlier) => {
                    transaction.rollback().await?;
                    return self.get(ctx, ReportId::from_uuid(earlier)).await;
                }
                Claimed::Reused => return Err(Error::RequestReused),
            }
        }
        if let Some(most) = limits.jobs_in_flight
            && store::in_flight(&mut transaction, requester.tenant).await? >= i64::from(most)
        {
            let tenant = requester.tenant;
            return Err(Error::QuotaExceeded { tenant, most });
        }
        let report = store::insert(&mut transaction, id, new, requester, ctx.reason()).await?;
        let event = Event::new(ctx, REQUESTED, json!({ "report_id": id }));
        outbox::append(&mut transaction, "worker", &event).await?;
        let entry = Entry {
            action: "report.run",
            target: id.to_string(),
            after: json!({ "kind": new.kind.as_str() }),
            outcome: "done",
        };
        audit::record(&mut transaction, ctx, &entry).await?;
        transaction.commit().await?;
        self.wake.notify();
        Ok(report)
    }

    /// How far a report is that the caller reaches.
    pub(crate) async fn get(&self, ctx: &Ctx, id: ReportId) -> Result<Report> {
        let report = store::get(&self.pool, ctx.tenant()?, id).await?;
        let report = report.filter(|report| ctx.reach().includes(report.requester));
        report.ok_or(Error::ReportUnknown { id })
    }

    /// The file of a report that the caller reaches and that has succeeded, in pieces of at most 64 KiB.
    ///
    /// A file holds what its requester reached, which may be more than the caller does, and more than the requester does by
    /// now. `exports`: whose records the caller could have exported themselves. Without everybody's they get no file but their
    /// own, and that only where all of its records are still among these.
    pub(crate) async fn download(
        &self,
        ctx: &Ctx,
        id: ReportId,
        exports: &Reach,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let report = self.get(ctx, id).await?;
        let sees_all = *exports == Reach::All;
        if !sees_all && ctx.principal().user() != Some(report.requester) {
            return Err(Error::ReportUnknown { id });
        }
        let Some(file) = report.file.as_ref().filter(|_| report.state == State::Succeeded) else {
            return Err(Error::NoFile {
                id,
                state: report.state,
            });
        };
        if !sees_all && !store::owners(&self.pool, &report).await?.are_within(exports) {
            return Err(Error::ReportUnknown { id });
        }
        let bytes = self.files.read(file).await?.map_err(Error::from);
        Ok(bytes
            .map_ok(|bytes| futures_util::stream::iter(pieces(bytes).into_iter().map(Ok)))
            .try_flatten()
            .boxed())
    }
}

/// Cuts bytes into pieces that a message may hold, without copying them.
fn pieces(mut bytes: Bytes) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(bytes.len().div_ceil(CHUNK_BYTES_MAX));
    while bytes.len() > CHUNK_BYTES_MAX {
        pieces.push(bytes.split_to(CHUNK_BYTES_MAX));
    }
    if !bytes.is_empty() {
        pieces.push(bytes);
    }
    pieces
}

/// The person behind a call. Work for a tenant needs one: it is done later with that person's rights.
fn requester(ctx: &Ctx) -> Result<Requester> {
    let platform = match ctx.principal() {
        Principal::Operator { .. } => true,
        Principal::Delegate { operator, .. } => *operator,
        Principal::Member { .. }
        | Principal::Impersonated { .. }
        | Principal::Anonymous
        | Principal::Service { .. } => false,
    };
    Ok(Requester {
        tenant: ctx.tenant()?,
        user: ctx.principal().user().ok_or(Error::NoPerson)?,
        platform,
    })
}

/// How a call that names a request id is recognised when it comes again.
fn recognised_by(new: NewReport, requester: Requester) -> Option<Once> {
    let asked = format!("{}\n{}\n{}", new.kind.as_str(), requester.user, requester.platform);
    new.request.map(|key| Once::new("RunReport", key, &asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_small_and_lose_nothing() {
        for length in [
            0,
            1,
            CHUNK_BYTES_MAX - 1,
            CHUNK_BYTES_MAX,
            CHUNK_BYTES_MAX + 1,
            5 * CHUNK_BYTES_MAX + 3,
        ] {
            let bytes = Bytes::from((0..length).map(|at| at.to_le_bytes()[0]).collect::<Vec<u8>>());
            let pieces = pieces(bytes.clone());
            assert!(pieces.iter().all(|piece| (1..=CHUNK_BYTES_MAX).contains(&piece.len())));
            assert_eq!(pieces.concat(), bytes);
        }
    }
}
