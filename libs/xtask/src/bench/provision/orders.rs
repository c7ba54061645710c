//! Orders to crm's `provision`, as the tenant service gives them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rowhouse_auth_kit::ServiceSigner;
use rowhouse_client::Peer;
use rowhouse_config::secret::SecretKey;
use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_devkit::suite::{Listener, Process, Suite};
use rowhouse_proto::common::v1::tenant_participant_service_client::TenantParticipantServiceClient;
use rowhouse_proto::common::v1::{HomeState, Placement, PrepareRequest};
use rowhouse_types::{OperationId, TenantId};

use crate::bench::load::Measured;

/// Longer than any order takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// Gives orders to one suite.
pub(super) struct Orders {
    peer: Peer,
    server: String,
}

// === impl Orders ===

impl Orders {
    pub(super) fn of(suite: &Suite) -> Result<Self> {
        let seed = SecretKey::from_base64(&suite.settings().service_key(Process::Tenant)).context("a key")?;
        let signer = ServiceSigner::new(ServiceName::Tenant, seed.expose())?;
        let url = suite.url(Process::CrmProvision, Listener::Internal);
        Ok(Self {
            peer: Peer::connect(ServiceName::Crm, &url, &signer.into())?,
            server: "data1".to_owned(),
        })
    }

    /// Has a home made ready for each, one after the other.
    pub(super) async fn prepare(&self, tenants: &[TenantId]) -> Result<Measured> {
        let begun = Instant::now();
        let mut calls = Vec::new();
        for tenant in tenants {
            let request = PrepareRequest {
                tenant_id: tenant.to_string(),
                server: self.server.clone(),
                placement: Placement::Schema.into(),
                operation_id: OperationId::generate().to_string(),
            };
            let principal = Principal::Service {
                name: ServiceName::Tenant,
            };
            let deadline = tokio::time::Instant::now() + DEADLINE;
            let ctx = Ctx::new(RequestId::generate(), principal, None, deadline);
            let mut client = TenantParticipantServiceClient::new(self.peer.channel());
            let call = Instant::now();
            let home = client
                .prepare(rowhouse_client::request(&ctx, request))
                .await?
                .into_inner();
            calls.push(call.elapsed());
            ensure!(home.state() == HomeState::Active, "a home is {:?}", home.state());
        }
        Ok(Measured::new(calls, begun.elapsed()))
    }
}
