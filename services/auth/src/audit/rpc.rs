//! `AuditService` and `PlatformAuditService`.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use rowhouse_context::Ctx;
use rowhouse_middleware::ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::audit_service_server::AuditService;
use rowhouse_proto::auth::v1::platform_audit_service_server::PlatformAuditService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::logs::{Logs, Reader};
use super::{actions, wire};
use crate::state::State;

type Answer<T> = Result<Response<T>, Status>;
type Seals = Pin<Box<dyn Stream<Item = Result<proto::ExportAuditLogResponse, Status>> + Send>>;

/// Serves both.
#[derive(Clone)]
pub(crate) struct AuditRpc {
    pub(crate) state: Arc<State>,
    pub(crate) logs: Arc<Logs>,
}

// === impl AuditRpc ===

impl AuditRpc {
    async fn of_tenant(&self, ctx: &Ctx) -> Result<Reader, Failure> {
        Reader::of_tenant(ctx, &self.state).await.map_err(Failure::from)
    }

    async fn list(
        &self,
        reader: Reader,
        request: &proto::ListAuditEntriesRequest,
    ) -> Answer<proto::ListAuditEntriesResponse> {
        let query = wire::list_query(request, reader.services())?;
        let page = actions::list(&reader, &self.state, &self.logs, &query).await?;
        Ok(Response::new(wire::page(page)))
    }

    async fn verify(
        &self,
        reader: Reader,
        request: &proto::VerifyAuditLogRequest,
    ) -> Answer<proto::VerifyAuditLogResponse> {
        let known = wire::known(&request.known, reader.services())?;
        let verified = actions::verify(&reader, &self.state, &self.logs, &known, &request.page_token).await?;
        Ok(Response::new(wire::verified(verified)))
    }

    async fn export(&self, reader: Reader, request: &proto::ExportAuditLogRequest) -> Answer<Seals> {
        let (service, after) = wire::export(request, reader.services())?;
        let batches = actions::export(reader, &self.state, Arc::clone(&self.logs), service, after).await;
        let batches = batches.map_err(Failure::from)?;
        let answers = batches.map(move |batch| batch.map(|batch| wire::seal(service, batch)).map_err(Status::from));
        Ok(Response::new(Box::pin(answers)))
    }
}

#[tonic::async_trait]
impl AuditService for AuditRpc {
    type ExportAuditLogStream = Seals;

    async fn list_audit_entries(
        &self,
        request: Request<proto::ListAuditEntriesRequest>,
    ) -> Answer<proto::ListAuditEntriesResponse> {
        let reader = self.of_tenant(&ctx(&request)?).await?;
        self.list(reader, request.get_ref()).await
    }

    async fn verify_audit_log(
        &self,
        request: Request<proto::VerifyAuditLogRequest>,
    ) -> Answer<proto::VerifyAuditLogResponse> {
        let reader = self.of_tenant(&ctx(&request)?).await?;
        self.verify(reader, request.get_ref()).await
    }

    async fn export_audit_log(&self, request: Request<proto::ExportAuditLogRequest>) -> Answer<Seals> {
        let reader = self.of_tenant(&ctx(&request)?).await?;
        self.export(reader, request.get_ref()).await
    }
}

#[tonic::async_trait]
impl PlatformAuditService for AuditRpc {
    type ExportAuditLogStream = Seals;

    async fn list_audit_entries(
        &self,
        request: Request<proto::ListAuditEntriesRequest>,
    ) -> Answer<proto::ListAuditEntriesResponse> {
        self.list(Reader::of_platform(&ctx(&request)?), request.get_ref()).await
    }

    async fn verify_audit_log(
        &self,
        request: Request<proto::VerifyAuditLogRequest>,
    ) -> Answer<proto::VerifyAuditLogResponse> {
        self.verify(Reader::of_platform(&ctx(&request)?), request.get_ref())
            .await
    }

    async fn export_audit_log(&self, request: Request<proto::ExportAuditLogRequest>) -> Answer<Seals> {
        self.export(Reader::of_platform(&ctx(&request)?), request.get_ref())
            .await
    }
}
