//! `TenantRecordsService`.

use std::sync::Arc;

use rowhouse_middleware::ctx;
use rowhouse_proto::common::v1 as proto;
use rowhouse_proto::common::v1::tenant_records_service_server::TenantRecordsService;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::{OperationId, TenantId};
use tonic::{Request, Response, Status};

use super::{Purged, purge};
use crate::state::State;

/// Serves `TenantRecordsService`.
pub(crate) struct RecordsRpc {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl TenantRecordsService for RecordsRpc {
    async fn purge_records(
        &self,
        request: Request<proto::PurgeRecordsRequest>,
    ) -> Result<Response<proto::PurgeRecordsResponse>, Status> {
        let ctx = ctx(&request)?;
        let (tenant, operation) = read(request.get_ref())?;
        let purged = purge(&ctx, &self.state, tenant, operation).await;
        Ok(Response::new(write(purged.map_err(Failure::from)?)))
    }
}

fn read(request: &proto::PurgeRecordsRequest) -> Result<(TenantId, OperationId), Failure> {
    let mut violations = Violations::default();
    let tenant = violations.take("tenant_id", request.tenant_id.parse());
    let operation = violations.take("operation_id", request.operation_id.parse());
    violations.finish(tenant.zip(operation))
}

fn write(purged: Purged) -> proto::PurgeRecordsResponse {
    let removed = purged.removed.into_iter();
    proto::PurgeRecordsResponse {
        removed: removed
            .map(|(kind, count)| proto::PurgedRecords { kind, count })
            .collect(),
        done: purged.done,
    }
}
