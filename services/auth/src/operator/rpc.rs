//! `OperatorService`.

use std::sync::Arc;

use rowhouse_db::paging::page_size;
use rowhouse_middleware::ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::operator_service_server::OperatorService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::{actions, wire};
use crate::account::failed::{Shows, told};
use crate::state::State;

type Answer<T> = Result<Response<T>, Status>;

/// Serves `OperatorService`.
pub(crate) struct OperatorRpc {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl OperatorService for OperatorRpc {
    async fn get_operator(&self, request: Request<proto::GetOperatorRequest>) -> Answer<proto::Operator> {
        let ctx = ctx(&request)?;
        let user = wire::user(&request.get_ref().user_id)?;
        let operator = actions::get(&ctx, &self.state, user).await;
        Ok(Response::new(wire::operator(operator.map_err(Failure::from)?)))
    }

    async fn list_operators(
        &self,
        request: Request<proto::ListOperatorsRequest>,
    ) -> Answer<proto::ListOperatorsResponse> {
        let ctx = ctx(&request)?;
        let request = request.get_ref();
        let size = page_size(request.page_size).map_err(|fault| Failure::field("page_size", fault))?;
        let page = actions::list(&ctx, &self.state, size, &request.page_token).await;
        let page = page.map_err(Failure::from)?;
        Ok(Response::new(proto::ListOperatorsResponse {
            operators: page.items.into_iter().map(wire::operator).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn grant_operator(&self, request: Request<proto::GrantOperatorRequest>) -> Answer<proto::Operator> {
        let ctx = ctx(&request)?;
        let grant = wire::grant(request.get_ref())?;
        let operator = actions::grant(&ctx, &self.state, &grant).await;
        let operator = told(&ctx, &self.state, Shows::GrantOperator, operator);
        Ok(Response::new(wire::operator(operator.map_err(Failure::from)?)))
    }

    async fn revoke_operator(&self, request: Request<proto::RevokeOperatorRequest>) -> Answer<()> {
        let ctx = ctx(&request)?;
        let (user, reason) = wire::revocation(request.get_ref())?;
        let revoked = actions::revoke(&ctx, &self.state, user, &reason).await;
        // Whether it was this call that took it, is the log's matter.
        revoked.map_err(Failure::from)?;
        Ok(Response::new(()))
    }
}
