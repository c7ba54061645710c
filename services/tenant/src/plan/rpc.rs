//! PlanService.

use rowhouse_db::paging::page_size;
use rowhouse_proto::tenant::v1 as proto;
use rowhouse_proto::tenant::v1::plan_service_server::PlanService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::actions::Plans;
use super::wire;

type Answer<T> = Result<Response<T>, Status>;

/// Serves plans.
#[derive(Debug)]
pub(crate) struct PlanRpc {
    plans: Plans,
}

// === impl PlanRpc ===

impl PlanRpc {
    pub(crate) fn new(plans: Plans) -> Self {
        Self { plans }
    }
}

#[tonic::async_trait]
impl PlanService for PlanRpc {
    async fn create_plan(&self, request: Request<proto::CreatePlanRequest>) -> Answer<proto::Plan> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let new = wire::new_plan(request.into_inner())?;
        let plan = self.plans.create(&ctx, new).await.map_err(Failure::from)?;
        Ok(Response::new(wire::plan(&plan)))
    }

    async fn get_plan(&self, request: Request<proto::GetPlanRequest>) -> Answer<proto::Plan> {
        let name = wire::name("name", &request.get_ref().name)?;
        let plan = self.plans.get(&name).await.map_err(Failure::from)?;
        Ok(Response::new(wire::plan(&plan)))
    }

    async fn list_plans(&self, request: Request<proto::ListPlansRequest>) -> Answer<proto::ListPlansResponse> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let request = request.into_inner();
        let size = page_size(request.page_size).map_err(|fault| Failure::field("page_size", fault))?;
        let page = self.plans.list(&ctx, size, &request.page_token).await;
        let page = page.map_err(Failure::from)?;
        Ok(Response::new(proto::ListPlansResponse {
            plans: page.items.iter().map(wire::plan).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_plan(&self, request: Request<proto::UpdatePlanRequest>) -> Answer<proto::Plan> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let change = wire::change(request.into_inner())?;
        let plan = self.plans.update(&ctx, change).await.map_err(Failure::from)?;
        Ok(Response::new(wire::plan(&plan)))
    }

    async fn delete_plan(&self, request: Request<proto::DeletePlanRequest>) -> Answer<proto::DeletePlanResponse> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let (name, etag) = wire::name_and_etag(request.get_ref())?;
        self.plans.delete(&ctx, &name, etag).await.map_err(Failure::from)?;
        Ok(Response::new(proto::DeletePlanResponse {}))
    }

    async fn get_tenant_plan(&self, request: Request<proto::GetTenantPlanRequest>) -> Answer<proto::TenantPlan> {
        let tenant = request.get_ref().tenant_id.parse();
        let tenant = tenant.map_err(|fault| Failure::field("tenant_id", fault))?;
        let plan = self.plans.of_tenant(tenant).await.map_err(Failure::from)?;
        Ok(Response::new(wire::tenant_plan(&plan)))
    }

    async fn set_tenant_plan(&self, request: Request<proto::SetTenantPlanRequest>) -> Answer<proto::TenantPlan> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let wire::Assignment {
            tenant,
            plan,
            overrides,
            reason,
        } = wire::assignment(request.into_inner())?;
        let plan = self.plans.assign(&ctx, tenant, &plan, overrides, &reason).await;
        Ok(Response::new(wire::tenant_plan(&plan.map_err(Failure::from)?)))
    }
}
