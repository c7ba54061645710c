//! TenantService.

use rowhouse_db::paging::page_size;
use rowhouse_proto::tenant::v1 as proto;
use rowhouse_proto::tenant::v1::tenant_service_server::TenantService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::actions::Tenants;
use super::wire;
use crate::purge;

type Answer<T> = Result<Response<T>, Status>;

/// Serves tenants.
#[derive(Debug)]
pub(crate) struct TenantRpc {
    tenants: Tenants,
}

// === impl TenantRpc ===

impl TenantRpc {
    pub(crate) fn new(tenants: Tenants) -> Self {
        Self { tenants }
    }
}

#[tonic::async_trait]
impl TenantService for TenantRpc {
    async fn create_tenant(&self, request: Request<proto::CreateTenantRequest>) -> Answer<proto::Tenant> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let new = wire::new_tenant(request.into_inner())?;
        let tenant = self.tenants.create(&ctx, new).await.map_err(Failure::from)?;
        Ok(Response::new(wire::tenant(&tenant)))
    }

    async fn get_tenant(&self, request: Request<proto::GetTenantRequest>) -> Answer<proto::Tenant> {
        let id = wire::id(&request.get_ref().id)?;
        let tenant = self.tenants.get(id).await.map_err(Failure::from)?;
        Ok(Response::new(wire::tenant(&tenant)))
    }

    async fn list_tenants(&self, request: Request<proto::ListTenantsRequest>) -> Answer<proto::ListTenantsResponse> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let request = request.into_inner();
        let size = page_size(request.page_size).map_err(|fault| Failure::field("page_size", fault))?;
        let page = self.tenants.list(&ctx, request.show_deleted, size, &request.page_token);
        let page = page.await.map_err(Failure::from)?;
        Ok(Response::new(proto::ListTenantsResponse {
            tenants: page.items.iter().map(wire::tenant).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_tenant(&self, request: Request<proto::UpdateTenantRequest>) -> Answer<proto::Tenant> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let change = wire::change(request.into_inner())?;
        let tenant = self.tenants.update(&ctx, change).await.map_err(Failure::from)?;
        Ok(Response::new(wire::tenant(&tenant)))
    }

    async fn suspend_tenant(&self, request: Request<proto::SuspendTenantRequest>) -> Answer<proto::Tenant> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let request = request.into_inner();
        let (id, reason) = wire::id_and_reason(&request.id, &request.reason)?;
        let tenant = self.tenants.suspend(&ctx, id, &reason).await.map_err(Failure::from)?;
        Ok(Response::new(wire::tenant(&tenant)))
    }

    async fn resume_tenant(&self, request: Request<proto::ResumeTenantRequest>) -> Answer<proto::Tenant> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let request = request.into_inner();
        let (id, reason) = wire::id_and_reason(&request.id, &request.reason)?;
        let tenant = self.tenants.resume(&ctx, id, &reason).await.map_err(Failure::from)?;
        Ok(Response::new(wire::tenant(&tenant)))
    }

    async fn set_tenant_read_only(&self, request: Request<proto::SetTenantReadOnlyRequest>) -> Answer<proto::Tenant> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let request = request.into_inner();
        let (id, reason) = wire::id_and_reason(&request.id, &request.reason)?;
        let tenant = self
            .tenants
            .set_read_only(&ctx, id, &reason)
            .await
            .map_err(Failure::from)?;
        Ok(Response::new(wire::tenant(&tenant)))
    }

    async fn delete_tenant(&self, request: Request<proto::DeleteTenantRequest>) -> Answer<proto::Tenant> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let (id, reason, etag) = wire::deletion(request.get_ref())?;
        let tenant = self.tenants.delete(&ctx, id, &reason, etag).await;
        Ok(Response::new(wire::tenant(&tenant.map_err(Failure::from)?)))
    }

    async fn purge_tenant(&self, request: Request<proto::PurgeTenantRequest>) -> Answer<proto::Tenant> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let request = request.into_inner();
        let (id, reason) = wire::id_and_reason(&request.id, &request.reason)?;
        let tenant = self.tenants.purge(&ctx, id, &reason, &request.slug).await;
        Ok(Response::new(wire::tenant(&tenant.map_err(Failure::from)?)))
    }

    async fn get_purge(&self, request: Request<proto::GetPurgeRequest>) -> Answer<proto::Purge> {
        let id = wire::id(&request.get_ref().id)?;
        let purge = self.tenants.get_purge(id).await.map_err(Failure::from)?;
        Ok(Response::new(purge::wire::purge(purge)))
    }

    async fn undelete_tenant(&self, request: Request<proto::UndeleteTenantRequest>) -> Answer<proto::Tenant> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let request = request.into_inner();
        let (id, reason) = wire::id_and_reason(&request.id, &request.reason)?;
        let tenant = self.tenants.undelete(&ctx, id, &reason).await.map_err(Failure::from)?;
        Ok(Response::new(wire::tenant(&tenant)))
    }
}
