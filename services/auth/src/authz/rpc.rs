//! `AuthzService`.

use std::sync::Arc;

use rowhouse_client::Rights;
use rowhouse_middleware::ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::authz_service_server::AuthzService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::{actions, wire};
use crate::state::State;

/// Serves `AuthzService`.
pub(crate) struct AuthzRpc {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl AuthzService for AuthzRpc {
    async fn check(&self, request: Request<proto::CheckRequest>) -> Result<Response<proto::CheckResponse>, Status> {
        let permission = wire::permission(&request.get_ref().permission)?;
        let allowed = rights(&request)?.grants.allow(permission.name);
        Ok(Response::new(proto::CheckResponse { allowed }))
    }

    async fn batch_check(
        &self,
        request: Request<proto::BatchCheckRequest>,
    ) -> Result<Response<proto::BatchCheckResponse>, Status> {
        let permissions = wire::permissions(request.get_ref())?;
        let grants = &rights(&request)?.grants;
        let allowed = permissions.iter().map(|permission| grants.allow(permission.name));
        Ok(Response::new(proto::BatchCheckResponse {
            allowed: allowed.collect(),
        }))
    }

    async fn list_member_permissions(
        &self,
        request: Request<proto::ListMemberPermissionsRequest>,
    ) -> Result<Response<proto::ListMemberPermissionsResponse>, Status> {
        let ctx = ctx(&request)?;
        let user = wire::user(request.get_ref())?;
        let known = actions::known(&ctx, &self.state, user).await.map_err(Failure::from)?;
        Ok(Response::new(wire::member_permissions(&known)))
    }

    async fn explain(
        &self,
        request: Request<proto::ExplainRequest>,
    ) -> Result<Response<proto::ExplainResponse>, Status> {
        let ctx = ctx(&request)?;
        let (user, permission) = wire::question(request.get_ref())?;
        let known = actions::known(&ctx, &self.state, user).await.map_err(Failure::from)?;
        Ok(Response::new(wire::explanation(&known, permission)))
    }
}

/// The rights with which this very call was let in: what is answered is what was decided.
fn rights<T>(request: &Request<T>) -> Result<&Rights, Failure> {
    let rights = request.extensions().get::<Rights>();
    rights.ok_or_else(|| Failure::internal("a call came to its answer without rights"))
}
