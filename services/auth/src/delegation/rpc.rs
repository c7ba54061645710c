//! `DelegationService`.

use std::sync::Arc;

use rowhouse_middleware::ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::delegation_service_server::DelegationService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::{actions, wire};
use crate::state::State;

/// Serves `DelegationService`.
pub(crate) struct DelegationRpc {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl DelegationService for DelegationRpc {
    async fn issue_job_token(
        &self,
        request: Request<proto::IssueJobTokenRequest>,
    ) -> Result<Response<proto::IssueJobTokenResponse>, Status> {
        let ctx = ctx(&request)?;
        let work = wire::work(request.get_ref())?;
        let token = actions::issue_job_token(&ctx, &self.state, &work).await;
        Ok(Response::new(wire::token(token.map_err(Failure::from)?)))
    }
}
