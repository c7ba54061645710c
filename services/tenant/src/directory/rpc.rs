//! DirectoryService.

use rowhouse_context::ServiceName;
use rowhouse_proto::common::v1 as common;
use rowhouse_proto::tenant::v1::directory_service_server::DirectoryService;
use rowhouse_proto::tenant::v1::{GetLimitsRequest, ResolveRequest};
use rowhouse_status::{Failure, Violations};
use rowhouse_types::{HomeState, TenantId};
use sqlx::PgPool;
use tonic::{Request, Response, Status};

use super::{Home, store};
use crate::error::Error;
use crate::plan;
use crate::tenant::wire::placement_to_wire;

/// Answers where homes are.
#[derive(Debug)]
pub(crate) struct DirectoryRpc {
    pool: PgPool,
}

// === impl DirectoryRpc ===

impl DirectoryRpc {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

#[tonic::async_trait]
impl DirectoryService for DirectoryRpc {
    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<common::Home>, Status> {
        let (tenant, participant) = read(&request.into_inner())?;
        let home = store::find(&self.pool, tenant, participant)
            .await
            .map_err(Failure::from)?;
        Ok(Response::new(write(&home)))
    }

    async fn get_limits(&self, request: Request<GetLimitsRequest>) -> Result<Response<common::Limits>, Status> {
        let tenant: TenantId = request
            .get_ref()
            .tenant_id
            .parse()
            .map_err(|fault| Failure::field("tenant_id", fault))?;
        let mut connection = self.pool.acquire().await.map_err(Error::from).map_err(Failure::from)?;
        let plan = plan::store::of_tenant(&mut connection, tenant)
            .await
            .map_err(Failure::from)?;
        let plan = plan.ok_or_else(|| Failure::not_found("tenant", tenant))?;
        Ok(Response::new(plan::wire::limits(plan.limits)))
    }
}

fn read(request: &ResolveRequest) -> Result<(TenantId, ServiceName), Failure> {
    let mut violations = Violations::default();
    let tenant = violations.take("tenant_id", request.tenant_id.parse());
    let participant = violations.take("participant", request.participant.parse());
    violations.finish(tenant.zip(participant))
}

fn write(home: &Home) -> common::Home {
    let state = match home.state {
        HomeState::Active => common::HomeState::Active,
        HomeState::ReadOnly => common::HomeState::ReadOnly,
        HomeState::Frozen => common::HomeState::Frozen,
        HomeState::Spare => common::HomeState::Spare,
    };
    common::Home {
        tenant_id: home.tenant.to_string(),
        participant: home.participant.to_string(),
        server: home.server.to_string(),
        placement: placement_to_wire(home.placement).into(),
        generation: home.generation,
        version: home.version,
        state: state.into(),
        transactions_max: home.transactions_max,
    }
}
