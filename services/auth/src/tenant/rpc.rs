//! `ProvisioningService`.

use std::sync::Arc;

use rowhouse_middleware::ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::provisioning_service_server::ProvisioningService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::{actions, wire};
use crate::state::State;

/// Serves `ProvisioningService`.
pub(crate) struct ProvisioningRpc {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl ProvisioningService for ProvisioningRpc {
    async fn create_first_administrator(
        &self,
        request: Request<proto::CreateFirstAdministratorRequest>,
    ) -> Result<Response<proto::CreateFirstAdministratorResponse>, Status> {
        let ctx = ctx(&request)?;
        let founding = wire::founding(request.get_ref())?;
        let invitation = actions::create_first_administrator(&ctx, &self.state, &founding).await;
        let invitation_id = invitation.map_err(Failure::from)?.to_string();
        Ok(Response::new(proto::CreateFirstAdministratorResponse { invitation_id }))
    }

    async fn set_tenant_state(
        &self,
        request: Request<proto::SetTenantStateRequest>,
    ) -> Result<Response<proto::SetTenantStateResponse>, Status> {
        let ctx = ctx(&request)?;
        let change = wire::access_change(request.get_ref())?;
        let version = actions::set_access(&ctx, &self.state, &change).await;
        let version = version.map_err(Failure::from)?.0;
        Ok(Response::new(proto::SetTenantStateResponse { version }))
    }
}
