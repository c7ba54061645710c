//! `RoleService`.

use std::sync::Arc;

use rowhouse_db::paging::page_size;
use rowhouse_middleware::ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::role_service_server::RoleService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::{actions, wire};
use crate::state::State;

/// Serves `RoleService`.
pub(crate) struct RoleRpc {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl RoleService for RoleRpc {
    async fn create_role(&self, request: Request<proto::CreateRoleRequest>) -> Result<Response<proto::Role>, Status> {
        let ctx = ctx(&request)?;
        let new = wire::new_role(request.get_ref())?;
        let role = actions::create(&ctx, &self.state, &new).await;
        Ok(Response::new(wire::role(role.map_err(Failure::from)?)))
    }

    async fn get_role(&self, request: Request<proto::GetRoleRequest>) -> Result<Response<proto::Role>, Status> {
        let ctx = ctx(&request)?;
        let name = wire::tenant_role(request.get_ref())?;
        let role = actions::get(&ctx, &self.state, &name).await;
        Ok(Response::new(wire::role(role.map_err(Failure::from)?)))
    }

    async fn list_roles(
        &self,
        request: Request<proto::ListRolesRequest>,
    ) -> Result<Response<proto::ListRolesResponse>, Status> {
        let ctx = ctx(&request)?;
        let request = request.get_ref();
        let size = page_size(request.page_size).map_err(|fault| Failure::field("page_size", fault))?;
        let page = actions::list(&ctx, &self.state, size, &request.page_token).await;
        let page = page.map_err(Failure::from)?;
        Ok(Response::new(proto::ListRolesResponse {
            roles: page.items.into_iter().map(wire::role).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_role(&self, request: Request<proto::UpdateRoleRequest>) -> Result<Response<proto::Role>, Status> {
        let ctx = ctx(&request)?;
        let change = wire::change(request.get_ref())?;
        let role = actions::update(&ctx, &self.state, &change).await;
        Ok(Response::new(wire::role(role.map_err(Failure::from)?)))
    }

    async fn delete_role(&self, request: Request<proto::DeleteRoleRequest>) -> Result<Response<()>, Status> {
        let ctx = ctx(&request)?;
        let (name, etag) = wire::removal(request.get_ref())?;
        let deleted = actions::delete(&ctx, &self.state, &name, etag).await;
        Ok(Response::new(deleted.map_err(Failure::from)?))
    }
}
