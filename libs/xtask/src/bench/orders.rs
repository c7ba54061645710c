//! Orders to crm's `provision`, as the tenant service gives them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rowhouse_auth_kit::ServiceSigner;
use rowhouse_client::Peer;
use rowhouse_config::secret::SecretKey;
use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_devkit::settings::DATA_SERVER;
use rowhouse_devkit::suite::{Listener, Process, Suite};
use rowhouse_proto::common::v1::tenant_participant_service_client::TenantParticipantServiceClient;
use rowhouse_proto::common::v1::{Home, HomeState, Placement, PrepareRequest};
use rowhouse_types::{OperationId, TenantId};

use super::load::Measured;

/// Longer than any order takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// Gives orders to one suite.
pub(super) struct Orders {
    peer: Peer,
}

// === impl Orders ===

impl Orders {
    pub(super) fn of(suite: &Suite) -> Result<Self> {
        let seed = SecretKey::from_base64(&suite.settings().service_key(Process::Tenant)).context("a key")?;
        let signer = ServiceSigner::new(ServiceName::Tenant, seed.expose())?;
        let url = suite.url(Process::CrmProvision, Listener::Internal);
        Ok(Self {
            peer: Peer::connect(ServiceName::Crm, &url, &signer.into())?,
        })
    }

    /// Has a home made ready for each, one after the other.
    pub(super) async fn prepare_each(&self, tenants: &[TenantId]) -> Result<Measured> {
        let begun = Instant::now();
        let mut calls = Vec::new();
        for tenant in tenants {
            let call = Instant::now();
            self.prepare(*tenant).await?;
            calls.push(call.elapsed());
        }
        Ok(Measured::new(calls, begun.elapsed()))
    }

    /// Has a home made ready.
    pub(super) async fn prepare(&self, tenant: TenantId) -> Result<Home> {
        let request = PrepareRequest {
            tenant_id: tenant.to_string(),
            server: DATA_SERVER.to_owned(),
            placement: Placement::Schema.into(),
            operation_id: OperationId::generate().to_string(),
        };
        let principal = Principal::Service {
            name: ServiceName::Tenant,
        };
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let ctx = Ctx::new(RequestId::generate(), principal, None, deadline);
        let mut client = TenantParticipantServiceClient::new(self.peer.channel());
        let home = client
            .prepare(rowhouse_client::request(&ctx, request))
            .await?
            .into_inner();
        ensure!(home.state() == HomeState::Active, "a home is {:?}", home.state());
        Ok(home)
    }
}
