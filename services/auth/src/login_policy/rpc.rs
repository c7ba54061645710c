//! `LoginPolicyService`.

use std::sync::Arc;

use rowhouse_middleware::ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::login_policy_service_server::LoginPolicyService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::{actions, wire};
use crate::state::State;

/// Serves `LoginPolicyService`.
pub(crate) struct LoginPolicyRpc {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl LoginPolicyService for LoginPolicyRpc {
    async fn get_login_policy(
        &self,
        request: Request<proto::GetLoginPolicyRequest>,
    ) -> Result<Response<proto::LoginPolicy>, Status> {
        let ctx = ctx(&request)?;
        let policy = actions::get(&ctx, &self.state).await.map_err(Failure::from)?;
        Ok(Response::new(wire::policy(&policy)))
    }

    async fn update_login_policy(
        &self,
        request: Request<proto::UpdateLoginPolicyRequest>,
    ) -> Result<Response<proto::LoginPolicy>, Status> {
        let ctx = ctx(&request)?;
        let change = wire::change(request.get_ref())?;
        let policy = actions::update(&ctx, &self.state, &change).await;
        Ok(Response::new(wire::policy(&policy.map_err(Failure::from)?)))
    }
}
