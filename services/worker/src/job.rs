//! What is done with messages: one module a queue. To add one: its module, a line here, and where it speaks of an event
//! of another service, that event's name.

mod account_mail;
mod invitation_mail;
mod report;
mod report_mail;

use std::sync::Arc;
use std::time::Duration;

use rowhouse_client::LimitsClient;
use rowhouse_context::{Ctx, Principal, ServiceName};
use rowhouse_mq::{Broker, Consumer, Delivery, Handler, HandlerError, Ledger, Queue, Wake};
use rowhouse_types::{ReportId, TenantId};
use sqlx::PgPool;
use tokio::time::Instant;

use crate::email::PostOffice;
use crate::files::Files;
use crate::peer::{Auth, Crm, PeerError, Requester};

/// Attempts at a message. With the delays of libs/mq they span about a quarter of an hour: longer than the restart of
/// anything, shorter than anybody's patience.
const ATTEMPTS_MAX: u32 = 8;

/// Longest time for one question to a peer.
const ASK_MAX: Duration = Duration::from_secs(10);

/// What jobs work with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tools {
    pub(crate) pool: PgPool,
    pub(crate) ledger: Ledger,
    pub(crate) auth: Auth,
    pub(crate) crm: Crm,
    pub(crate) files: Files,
    pub(crate) post: PostOffice,
    pub(crate) limits: LimitsClient,
    pub(crate) wake: Wake,
    /// Base of the links in mails.
    pub(crate) app_url: String,
}

/// The consumers of all queues, with their names.
pub(crate) fn consumers(broker: &Broker, tools: &Tools) -> Vec<(&'static str, Consumer)> {
    let jobs: [(Queue, Arc<dyn Handler>); 4] = [
        (report::QUEUE, Arc::new(report::MakeReport::new(tools.clone()))),
        (
            invitation_mail::QUEUE,
            Arc::new(invitation_mail::SendInvitation::new(tools.clone())),
        ),
        (
            account_mail::QUEUE,
            Arc::new(account_mail::SendAccountMail::new(tools.clone())),
        ),
        (
            report_mail::QUEUE,
            Arc::new(report_mail::SendReportFinished::new(tools.clone())),
        ),
    ];
    jobs.into_iter()
        .map(|(queue, handler)| {
            let ledger = tools.ledger.clone();
            (queue.name, Consumer::new(broker.clone(), queue, ledger, handler))
        })
        .collect()
}

/// The context of a job that has nobody behind it, or of its questions. `bound`: how long it may take.
fn own_ctx(delivery: &Delivery, bound: Duration) -> Ctx {
    let principal = Principal::Service {
        name: ServiceName::Worker,
    };
    Ctx::new(
        delivery.request_id.clone(),
        principal,
        delivery.tenant,
        Instant::now() + bound,
    )
}

/// The context of a job that is done for somebody, for audit entries and for calls with that person's rights.
fn delegated_ctx(
    delivery: &Delivery,
    requester: Requester,
    job: ReportId,
    reason: Option<&str>,
    bound: Duration,
) -> Ctx {
    let principal = Principal::Delegate {
        user: requester.user,
        tenant: requester.tenant,
        operator: requester.platform,
        service: ServiceName::Worker,
        job: job.to_string(),
    };
    let until = Instant::now() + bound;
    Ctx::new(delivery.request_id.clone(), principal, Some(requester.tenant), until)
        .with_origin(reason.map(str::to_owned), None)
}

/// The tenant and the report that a message speaks of.
fn report_of(delivery: &Delivery) -> Result<(TenantId, ReportId), HandlerError> {
    let tenant = delivery.tenant.ok_or_else(|| park("it names no tenant"))?;
    let id = delivery.payload.get("report_id").and_then(|id| id.as_str());
    let id = id
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| park("it names no report"))?;
    Ok((tenant, id))
}

fn park(what: &str) -> HandlerError {
    HandlerError::Park(what.to_owned())
}

fn retry(fault: impl std::fmt::Display) -> HandlerError {
    HandlerError::Retry(fault.to_string())
}

impl From<PeerError> for HandlerError {
    fn from(error: PeerError) -> Self {
        Self::Retry(error.to_string())
    }
}

impl From<crate::error::Error> for HandlerError {
    fn from(error: crate::error::Error) -> Self {
        // Also a fault of ours: the next version may know better, and after the last attempt it is parked.
        Self::Retry(error.to_string())
    }
}

#[cfg(test)]
mod tests;
