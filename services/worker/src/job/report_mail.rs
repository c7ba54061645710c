//! Mails the requester of a report that it is ready, or that it will not be made.

use async_trait::async_trait;
use rowhouse_mq::{Delivery, Handler, HandlerError, Queue};
use rowhouse_types::TenantId;

use super::{ASK_MAX, ATTEMPTS_MAX, Tools, own_ctx, report_of};
use crate::email::{Letter, ReportText, store as mails};
use crate::peer::{PeerError, Requester};
use crate::report::actions::FINISHED;
use crate::report::{State, store};

pub(super) const QUEUE: Queue = Queue {
    name: "worker.report_mails",
    bindings: &[FINISHED],
    // Each holds a connection of the database while the mail server is spoken to.
    prefetch: 4,
    attempts_max: ATTEMPTS_MAX,
};

/// Mails requesters of reports.
pub(super) struct SendReportFinished {
    tools: Tools,
}

// === impl SendReportFinished ===

impl SendReportFinished {
    pub(super) fn new(tools: Tools) -> Self {
        Self { tools }
    }

    async fn letter(&self, delivery: &Delivery) -> Result<Option<Letter>, HandlerError> {
        let (tenant, id) = report_of(delivery)?;
        let Some(report) = store::get(&self.tools.pool, tenant, id).await? else {
            return Ok(None);
        };
        if !self.may_be_sent(delivery, tenant).await? {
            tracing::info!(%tenant, report = %id, "a mail was left out: the plan allows no more today");
            return Ok(None);
        }
        let requester = Requester {
            tenant,
            user: report.requester,
            platform: report.platform,
        };
        let recipient = match self.tools.auth.recipient(&own_ctx(delivery, ASK_MAX), requester).await {
            Ok(recipient) => recipient,
            // No longer a member: what goes on in the tenant is no longer their business.
            Err(PeerError::NotFound | PeerError::Refused(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let text = ReportText {
            name: recipient.display_name.clone(),
            succeeded: report.state == State::Succeeded,
            report_id: id.to_string(),
            row_count: report.row_count,
            failure: report.failure.unwrap_or_default(),
            link: format!("{}/reports/{id}", self.tools.app_url),
        };
        Ok(Some(self.tools.post.report_finished(
            recipient.to,
            &recipient.display_name,
            &text,
        )?))
    }
}

impl SendReportFinished {
    /// Whether the tenant's plan allows one more mail today. The report can be looked up without it.
    async fn may_be_sent(&self, delivery: &Delivery, tenant: TenantId) -> Result<bool, HandlerError> {
        let limits = self.tools.limits.limits(&own_ctx(delivery, ASK_MAX), tenant).await;
        let Some(most) = limits.mails_per_day else {
            return Ok(true);
        };
        Ok(mails::within_a_day(&self.tools.pool, tenant).await? < i64::from(most))
    }
}

#[async_trait]
impl Handler for SendReportFinished {
    async fn handle(&self, delivery: &Delivery) -> Result<(), HandlerError> {
        let letter = self.letter(delivery).await?;
        self.tools.post.deliver(QUEUE.name, delivery, letter).await
    }
}
