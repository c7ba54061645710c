//! `RightsService`.

use std::sync::Arc;

use rowhouse_middleware::ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::rights_service_server::RightsService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::{actions, wire};
use crate::state::State;

/// Serves `RightsService`.
pub(crate) struct RightsRpc {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl RightsService for RightsRpc {
    async fn renew_lease(
        &self,
        request: Request<proto::RenewLeaseRequest>,
    ) -> Result<Response<proto::RenewLeaseResponse>, Status> {
        let ctx = ctx(&request)?;
        let renewal = wire::renewal(&ctx, request.get_ref())?;
        let news = actions::renew_lease(&ctx, &self.state, &renewal).await;
        Ok(Response::new(wire::news(news.map_err(Failure::from)?)))
    }

    async fn get_rights(&self, request: Request<proto::GetRightsRequest>) -> Result<Response<proto::Rights>, Status> {
        let ctx = ctx(&request)?;
        let query = wire::query(request.get_ref())?;
        let rights = actions::rights_now(&ctx, &self.state, &query).await;
        Ok(Response::new(wire::rights(&rights.map_err(Failure::from)?)))
    }
}
