//! TenantParticipantService.

use rowhouse_proto::common::v1 as proto;
use rowhouse_proto::common::v1::tenant_participant_service_server::TenantParticipantService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::{Homes, fleet, wire};

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
    async fn prepare_spare(&self, request: Request<proto::PrepareSpareRequest>) -> Answer<proto::Home> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let (place, placement) = wire::spare(request.get_ref())?;
        let home = self.homes.prepare_spare(&ctx, &place, placement).await;
        Ok(Response::new(wire::home(&home.map_err(Failure::from)?)))
    }

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

    async fn restrict(&self, request: Request<proto::RestrictRequest>) -> Answer<proto::Home> {
        let proto::RestrictRequest {
            tenant_id,
            server,
            operation_id,
        } = request.get_ref();
        let (place, operation) = wire::change(tenant_id, server, operation_id)?;
        let home = self.homes.restrict(&place, operation).await.map_err(Failure::from)?;
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
        Ok(Response::new(proto::DropResponse {
            dropped: dropped.home,
            login_left: dropped.login_left,
        }))
    }

    async fn describe(&self, request: Request<proto::DescribeRequest>) -> Answer<proto::Home> {
        let place = wire::place(&request.get_ref().tenant_id, &request.get_ref().server)?;
        let home = self.homes.describe(&place).await.map_err(Failure::from)?;
        Ok(Response::new(wire::home(&home)))
    }

    async fn set_limits(&self, request: Request<proto::SetLimitsRequest>) -> Answer<proto::Home> {
        let (place, order, timeout_ms) = wire::limits(request.get_ref())?;
        let home = self
            .homes
            .set_limits(&place, order, timeout_ms)
            .await
            .map_err(Failure::from)?;
        Ok(Response::new(wire::home(&home)))
    }

    async fn check_server(&self, request: Request<proto::CheckServerRequest>) -> Answer<proto::CheckServerResponse> {
        let server = wire::server(&request.get_ref().server)?;
        self.homes.check_server(&server).await.map_err(Failure::from)?;
        Ok(Response::new(proto::CheckServerResponse {}))
    }

    async fn describe_fleet(
        &self,
        request: Request<proto::DescribeFleetRequest>,
    ) -> Answer<proto::DescribeFleetResponse> {
        let server = wire::server(&request.get_ref().server)?;
        let fleet = self.homes.describe_fleet(&server).await.map_err(Failure::from)?;
        Ok(Response::new(fleet::wire::description(&server, fleet)))
    }

    async fn list_houses(&self, request: Request<proto::ListHousesRequest>) -> Answer<proto::ListHousesResponse> {
        let (server, query) = fleet::wire::house_query(request.get_ref())?;
        let page = self.homes.list_houses(&server, &query).await.map_err(Failure::from)?;
        Ok(Response::new(fleet::wire::house_page(&server, page)))
    }

    async fn migrate_batch(&self, request: Request<proto::MigrateBatchRequest>) -> Answer<proto::MigrateBatchResponse> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let (server, order) = fleet::wire::order(&ctx, request.get_ref())?;
        let batch = self.homes.migrate_batch(&server, &order).await;
        Ok(Response::new(fleet::wire::batch(
            &server,
            batch.map_err(Failure::from)?,
        )))
    }

    async fn check_drift(&self, request: Request<proto::CheckDriftRequest>) -> Answer<proto::CheckDriftResponse> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let query = fleet::wire::drift_query(request.get_ref())?;
        let page = self.homes.check_drift(&ctx, &query).await.map_err(Failure::from)?;
        Ok(Response::new(fleet::wire::drift_page(page)))
    }
}
