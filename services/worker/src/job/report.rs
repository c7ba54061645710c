//! Makes a report: reads the records with the requester's rights, writes the file, and says that it is there.

mod contacts;

use std::time::Duration;

use async_trait::async_trait;
use rowhouse_context::Ctx;
use rowhouse_mq::{Delivery, Event, Handler, HandlerError, Queue, outbox};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::{ATTEMPTS_MAX, Tools, delegated_ctx, report_of, retry};
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::files::Files;
use crate::peer::{PeerError, Requester};
use crate::report::actions::{FINISHED, REQUESTED};
use crate::report::store::{self, Attempt, Made};
use crate::report::{FileOwners, GIVEN_UP, Kind, State};

pub(super) const QUEUE: Queue = Queue {
    name: "worker.reports",
    bindings: &[REQUESTED],
    // Each holds up to 10 MiB of a file; reports are read from one crm and two at a time keep it busy.
    prefetch: 2,
    attempts_max: ATTEMPTS_MAX,
};

/// Longest time for one attempt at a report.
const MAKE_MAX: Duration = Duration::from_secs(15 * 60);

/// Makes reports.
pub(super) struct MakeReport {
    tools: Tools,
}

/// Why an attempt made no file.
#[derive(Debug, thiserror::Error)]
enum MakeError {
    /// The requester may not, or no longer.
    #[error("refused: {0}")]
    Refused(&'static str),
    /// A later attempt has begun.
    #[error("another attempt has taken over")]
    Superseded,
    /// A peer was away, or its answer did not end in time.
    #[error("{0}")]
    Cut(String),
    /// It may go better later.
    #[error("{0}")]
    Later(String),
}

/// What was written into a file.
struct Contents {
    row_count: i64,
    size_bytes: i64,
    owners: FileOwners,
}

/// How a report ends.
enum End<'a> {
    Made(&'a Made),
    Failed(&'a str),
}

// === impl MakeReport ===

impl MakeReport {
    pub(super) fn new(tools: Tools) -> Self {
        Self { tools }
    }

    /// Ends the report, says so, and records that the message is processed: all of it, or nothing where the report is
    /// no longer this attempt's.
    async fn finish(&self, ctx: &Ctx, delivery: &Delivery, attempt: &Attempt, end: End<'_>) -> Result<bool, Error> {
        let id = attempt.report.id;
        let mut transaction = self.tools.pool.begin().await?;
        let (ours, state) = match end {
            End::Made(made) => (store::succeed(&mut transaction, attempt, made).await?, State::Succeeded),
            End::Failed(failure) => (store::fail(&mut transaction, attempt, failure).await?, State::Failed),
        };
        let ledger = &self.tools.ledger;
        if !ours || !ledger.record(&mut transaction, QUEUE.name, delivery.id).await? {
            transaction.rollback().await?;
            return Ok(false);
        }
        let event = Event::new(ctx, FINISHED, json!({ "report_id": id }));
        outbox::append(&mut transaction, "worker", &event).await?;
        let entry = Entry {
            action: "report.finish",
            target: id.to_string(),
            after: json!({ "state": state.as_str(), "attempt": attempt.number }),
            outcome: if state == State::Succeeded { "done" } else { "failed" },
        };
        audit::record(&mut transaction, ctx, &entry).await?;
        transaction.commit().await?;
        self.tools.wake.notify();
        Ok(true)
    }

    /// Writes the file. It is there only when this has succeeded.
    async fn make(&self, ctx: &Ctx, delivery: &Delivery, attempt: &Attempt) -> Result<Made, MakeError> {
        let report = &attempt.report;
        let path = Files::path(report.tenant, report.id, attempt.number);
        let mut file = self.tools.files.writer(&path);
        let written = match report.kind {
            Kind::Contacts => self.write_contacts(ctx, delivery, attempt, &mut file).await,
        };
        match written {
            Ok(contents) => {
                file.shutdown().await?;
                Ok(Made {
                    row_count: contents.row_count,
                    size_bytes: contents.size_bytes,
                    file: path,
                    owners: contents.owners,
                })
            }
            Err(error) => {
                // Parts already sent are removed; what cannot be removed costs space and nothing else.
                let _ = file.abort().await;
                Err(error)
            }
        }
    }
}

#[async_trait]
impl Handler for MakeReport {
    async fn handle(&self, delivery: &Delivery) -> Result<(), HandlerError> {
        let (tenant, id) = report_of(delivery)?;
        let Some(attempt) = store::claim(&self.tools.pool, tenant, id).await? else {
            // Finished by an attempt whose acknowledgement was lost, or its row is gone: nothing is left to do.
            return Ok(());
        };
        let reason = attempt.report.reason.as_deref();
        let ctx = delegated_ctx(delivery, requester(&attempt), id, reason, MAKE_MAX);
        let made = tokio::time::timeout(MAKE_MAX, self.make(&ctx, delivery, &attempt)).await;
        let made = made.unwrap_or_else(|_| Err(MakeError::Later("it took too long".to_owned())));
        match made {
            Ok(made) => {
                if self.finish(&ctx, delivery, &attempt, End::Made(&made)).await? {
                    tracing::info!(report_id = %id, row_count = made.row_count, "a report was made");
                } else {
                    self.tools.files.discard(&made.file).await;
                }
                Ok(())
            }
            Err(MakeError::Superseded) => Ok(()),
            Err(MakeError::Refused(why)) => {
                tracing::info!(report_id = %id, why, "a report was refused");
                self.finish(&ctx, delivery, &attempt, End::Failed(why)).await?;
                Ok(())
            }
            Err(error) if delivery.attempt >= QUEUE.attempts_max => {
                self.finish(&ctx, delivery, &attempt, End::Failed(GIVEN_UP)).await?;
                // The requester has an answer; why it went wrong is for an operator to see.
                Err(HandlerError::Park(error.to_string()))
            }
            Err(error) => Err(retry(error)),
        }
    }
}

fn requester(attempt: &Attempt) -> Requester {
    Requester {
        tenant: attempt.report.tenant,
        user: attempt.report.requester,
        platform: attempt.report.platform,
    }
}

impl From<PeerError> for MakeError {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::Refused(why) => Self::Refused(why),
            // auth does not know the person or the tenant, or no longer.
            PeerError::NotFound => Self::Refused("the requester is no longer an active member"),
            PeerError::Cut(cause) => Self::Cut(cause),
            PeerError::Later(cause) => Self::Later(cause),
        }
    }
}

impl From<Error> for MakeError {
    fn from(error: Error) -> Self {
        Self::Later(error.to_string())
    }
}

impl From<csv::Error> for MakeError {
    fn from(error: csv::Error) -> Self {
        Self::Later(error.to_string())
    }
}

impl From<object_store::Error> for MakeError {
    fn from(error: object_store::Error) -> Self {
        Self::Later(error.to_string())
    }
}

impl From<std::io::Error> for MakeError {
    fn from(error: std::io::Error) -> Self {
        Self::Later(error.to_string())
    }
}
