//! TenantParticipantService.

use rowhouse_proto::common::v1 as proto;
use rowhouse_proto::common::v1::tenant_participant_service_server::TenantParticipantService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::{Homes, wire};

type Answer<T> = Result<Response<T>, Status>;

/// Serves the tenant service.
#[derive(Debug)]
pub(crate) struct ParticipantRpc {
    homes: Homes,
}

// === impl ParticipantRpc ===

impl ParticipantRpc {
    pub(crate) fn new(homes: Homes) -> Self {
        Self { homes }
    }
}

#[tonic::async_trait]
impl TenantParticipantService for ParticipantRpc {
    async fn prepare(&self, request: Request<proto::PrepareRequest>) -> Answer<proto::Home> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let order = wire::order(request.get_ref())?;
        let home = self.homes.prepare(&ctx, &order).await.map_err(Failure::from)?;
        Ok(Response::new(wire::home(&home)))
    }

    async fn migrate(&self, request: Request<proto::MigrateRequest>) -> Answer<proto::Home> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let place = wire::place(&request.get_ref().tenant_id, &request.get_ref().server)?;
        let home = self.homes.migrate(&ctx, &place).await.map_err(Failure::from)?;
        Ok(Response::new(wire::home(&home)))
    }

    async fn freeze(&self, request: Request<proto::FreezeRequest>) -> Answer<proto::Home> {
        let proto::FreezeRequest {
            tenant_id,
            server,
            operation_id,
        } = request.get_ref();
        let (place, operation) = wire::change(tenant_id, server, operation_id)?;
        let home = self.homes.freeze(&place, operation).await.map_err(Failure::from)?;
        Ok(Response::new(wire::home(&home)))
    }

    async fn thaw(&self, request: Request<proto::ThawRequest>) -> Answer<proto::Home> {
        let proto::ThawRequest {
            tenant_id,
            server,
            operation_id,
        } = request.get_ref();
        let (place, operation) = wire::change(tenant_id, server, operation_id)?;
        let home = self.homes.thaw(&place, operation).await.map_err(Failure::from)?;
        Ok(Response::new(wire::home(&home)))
    }

    async fn drop(&self, request: Request<proto::DropRequest>) -> Answer<proto::DropResponse> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let place = wire::place(&request.get_ref().tenant_id, &request.get_ref().server)?;
        let dropped = self.homes.drop(&ctx, &place).await.map_err(Failure::from)?;
        Ok(Response::new(proto::DropResponse { dropped }))
    }

    async fn describe(&self, request: Request<proto::DescribeRequest>) -> Answer<proto::Home> {
        let place = wire::place(&request.get_ref().tenant_id, &request.get_ref().server)?;
        let home = self.homes.describe(&place).await.map_err(Failure::from)?;
        Ok(Response::new(wire::home(&home)))
    }

    async fn check_server(&self, request: Request<proto::CheckServerRequest>) -> Answer<proto::CheckServerResponse> {
        let server = wire::server(&request.get_ref().server)?;
        self.homes.check_server(&server).await.map_err(Failure::from)?;
        Ok(Response::new(proto::CheckServerResponse {}))
    }
}
