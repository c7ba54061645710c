//! ReportService.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use rowhouse_client::reach;
use rowhouse_context::{Ctx, Reach};
use rowhouse_proto::policy;
use rowhouse_proto::worker::v1 as proto;
use rowhouse_proto::worker::v1::report_service_server::ReportService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::actions::Reports;
use super::wire;

type Answer<T> = Result<Response<T>, Status>;

/// Serves reports.
#[derive(Debug)]
pub(crate) struct ReportRpc {
    reports: Reports,
}

// === impl ReportRpc ===

impl ReportRpc {
    pub(crate) fn new(reports: Reports) -> Self {
        Self { reports }
    }
}

#[tonic::async_trait]
impl ReportService for ReportRpc {
    type DownloadReportStream = Pin<Box<dyn Stream<Item = Result<proto::DownloadReportResponse, Status>> + Send>>;

    async fn run_report(&self, request: Request<proto::RunReportRequest>) -> Answer<proto::Report> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let new = wire::new_report(request.get_ref())?;
        let report = self.reports.run(&ctx, new).await.map_err(Failure::from)?;
        Ok(Response::new(wire::report(&report)))
    }

    async fn get_report(&self, request: Request<proto::GetReportRequest>) -> Answer<proto::Report> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let id = wire::id(&request.get_ref().id)?;
        let report = self.reports.get(&ctx, id).await.map_err(Failure::from)?;
        Ok(Response::new(wire::report(&report)))
    }

    async fn download_report(
        &self,
        request: Request<proto::DownloadReportRequest>,
    ) -> Answer<Self::DownloadReportStream> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let id = wire::id(&request.get_ref().id)?;
        let chunks = self.reports.download(&ctx, id, &exports(&ctx, &request)).await;
        let chunks = chunks.map_err(Failure::from)?;
        let answers = chunks.map(|chunk| match chunk {
            Ok(chunk) => Ok(proto::DownloadReportResponse { chunk }),
            Err(error) => Err(Failure::from(error).into()),
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Whose records the caller could have exported themselves.
fn exports<T>(ctx: &Ctx, request: &Request<T>) -> Reach {
    let known = rowhouse_middleware::rights(request).zip(ctx.principal().user());
    let exports = policy::permission("contacts:export");
    let reach = known
        .zip(exports)
        .and_then(|((rights, user), exports)| reach(&rights.grants, user, &rights.team, exports));
    reach.unwrap_or_else(Reach::nobody)
}
