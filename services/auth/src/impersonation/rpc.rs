//! `ImpersonationService`.

use std::sync::Arc;

use rowhouse_middleware::ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::impersonation_service_server::ImpersonationService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::{actions, wire};
use crate::state::State;

type Answer<T> = Result<Response<T>, Status>;

/// Serves `ImpersonationService`.
pub(crate) struct ImpersonationRpc {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl ImpersonationService for ImpersonationRpc {
    async fn start_impersonation(
        &self,
        request: Request<proto::StartImpersonationRequest>,
    ) -> Answer<proto::Impersonation> {
        let ctx = ctx(&request)?;
        let start = wire::start(request.get_ref())?;
        let started = actions::start(&ctx, &self.state, &start).await;
        Ok(Response::new(wire::impersonation(started.map_err(Failure::from)?)))
    }

    async fn renew_impersonation(
        &self,
        request: Request<proto::RenewImpersonationRequest>,
    ) -> Answer<proto::Impersonation> {
        let ctx = ctx(&request)?;
        let id = wire::session(&request.get_ref().session_id)?;
        let renewed = actions::renew(&ctx, &self.state, id).await;
        Ok(Response::new(wire::impersonation(renewed.map_err(Failure::from)?)))
    }

    async fn end_impersonation(
        &self,
        request: Request<proto::EndImpersonationRequest>,
    ) -> Answer<proto::EndImpersonationResponse> {
        let ctx = ctx(&request)?;
        let id = wire::session(&request.get_ref().session_id)?;
        let ended = actions::end(&ctx, &self.state, id).await;
        ended.map_err(Failure::from)?;
        Ok(Response::new(proto::EndImpersonationResponse {}))
    }
    async fn list_impersonations(
        &self,
        request: Request<proto::ListImpersonationsRequest>,
    ) -> Answer<proto::ListImpersonationsResponse> {
        let ctx = ctx(&request)?;
        let (tenant, size) = wire::list(request.get_ref())?;
        let page = actions::list(&ctx, &self.state, tenant, size, &request.get_ref().page_token).await;
        let page = page.map_err(Failure::from)?;
        Ok(Response::new(proto::ListImpersonationsResponse {
            impersonations: page.items.into_iter().map(wire::running).collect(),
            next_page_token: page.next_page_token,
        }))
    }
}
