//! `AuditLogService` and `PlatformAuditLogService`: a log for the service that merges them.

use std::sync::Arc;

use rowhouse_context::Ctx;
use rowhouse_middleware::ctx;
use rowhouse_proto::common::v1 as proto;
use rowhouse_proto::common::v1::audit_log_service_server::AuditLogService;
use rowhouse_proto::common::v1::platform_audit_log_service_server::PlatformAuditLogService;
use rowhouse_status::Failure;
use rowhouse_types::TenantId;
use tonic::{Request, Response, Status};

use crate::log::AuditLog;
use crate::wire;

type Answer<T> = Result<Response<T>, Status>;

/// Serves both.
pub struct AuditLogRpc {
    log: Arc<dyn AuditLog>,
}

// === impl AuditLogRpc ===

impl AuditLogRpc {
    /// Serves `log`.
    #[must_use]
    pub fn new(log: Arc<dyn AuditLog>) -> Self {
        Self { log }
    }

    async fn entries(
        &self,
        ctx: &Ctx,
        tenant: Option<TenantId>,
        request: &proto::ListLogEntriesRequest,
    ) -> Answer<proto::ListLogEntriesResponse> {
        let query = wire::query(request)?;
        let entries = self.log.page(ctx, tenant, &query).await?;
        Ok(Response::new(proto::ListLogEntriesResponse {
            entries: entries.iter().map(crate::Entry::canonical).collect(),
        }))
    }

    async fn seals(&self, ctx: &Ctx, tenant: Option<TenantId>, after: i64) -> Answer<proto::ListLogSealsResponse> {
        let seals = self.log.seals(ctx, tenant, after).await?;
        Ok(Response::new(proto::ListLogSealsResponse {
            seals: seals.into_iter().map(wire::seal).collect(),
        }))
    }

    async fn unsealed(&self, ctx: &Ctx, tenant: Option<TenantId>) -> Answer<proto::ListUnsealedEntriesResponse> {
        let unsealed = self.log.unsealed(ctx, tenant).await?;
        Ok(Response::new(proto::ListUnsealedEntriesResponse {
            ids: unsealed.lost.iter().map(ToString::to_string).collect(),
            waiting: unsealed.waiting,
        }))
    }
}

/// The tenant of the call. One that names none is none for these RPCs, never the platform.
fn tenant(ctx: &Ctx) -> Result<Option<TenantId>, Failure> {
    ctx.tenant().map(Some).map_err(Failure::internal)
}

#[tonic::async_trait]
impl AuditLogService for AuditLogRpc {
    async fn list_log_entries(
        &self,
        request: Request<proto::ListLogEntriesRequest>,
    ) -> Answer<proto::ListLogEntriesResponse> {
        let ctx = ctx(&request)?;
        self.entries(&ctx, tenant(&ctx)?, request.get_ref()).await
    }

    async fn list_log_seals(
        &self,
        request: Request<proto::ListLogSealsRequest>,
    ) -> Answer<proto::ListLogSealsResponse> {
        let ctx = ctx(&request)?;
        self.seals(&ctx, tenant(&ctx)?, request.get_ref().after_number).await
    }

    async fn list_unsealed_entries(
        &self,
        request: Request<proto::ListUnsealedEntriesRequest>,
    ) -> Answer<proto::ListUnsealedEntriesResponse> {
        let ctx = ctx(&request)?;
        self.unsealed(&ctx, tenant(&ctx)?).await
    }
}

#[tonic::async_trait]
impl PlatformAuditLogService for AuditLogRpc {
    async fn list_log_entries(
        &self,
        request: Request<proto::ListLogEntriesRequest>,
    ) -> Answer<proto::ListLogEntriesResponse> {
        self.entries(&ctx(&request)?, None, request.get_ref()).await
    }

    async fn list_log_seals(
        &self,
        request: Request<proto::ListLogSealsRequest>,
    ) -> Answer<proto::ListLogSealsResponse> {
        self.seals(&ctx(&request)?, None, request.get_ref().after_number).await
    }

    async fn list_unsealed_entries(
        &self,
        request: Request<proto::ListUnsealedEntriesRequest>,
    ) -> Answer<proto::ListUnsealedEntriesResponse> {
        self.unsealed(&ctx(&request)?, None).await
    }
}
