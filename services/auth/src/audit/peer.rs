//! The logs of the other services, read with the rights of the caller.

use std::time::Duration;

use rowhouse_audit::log::Unsealed;
use rowhouse_audit::{Batch, Query, wire};
use rowhouse_client::{IdentifiedChannel, Peer, failure, request, request_as_user};
use rowhouse_context::{Ctx, ServiceName};
use rowhouse_proto::common::v1 as proto;
use rowhouse_proto::common::v1::audit_log_service_client::AuditLogServiceClient;
use rowhouse_proto::common::v1::platform_audit_log_service_client::PlatformAuditLogServiceClient;
use rowhouse_status::Failure;
use tokio::time::Instant;
use tonic::Request;

use super::logs::{Reader, Whose};

/// Longest wait for one answer of a service: one that is away must not take the whole call.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The log of another service.
pub(crate) struct RemoteLog {
    pub(super) service: ServiceName,
    tenants: AuditLogServiceClient<IdentifiedChannel>,
    platform: PlatformAuditLogServiceClient<IdentifiedChannel>,
}

// === impl RemoteLog ===

impl RemoteLog {
    pub(crate) fn new(peer: &Peer) -> Self {
        Self {
            service: peer.name(),
            tenants: AuditLogServiceClient::new(peer.channel()),
            platform: PlatformAuditLogServiceClient::new(peer.channel()),
        }
    }

    /// Entries as canonical JSON, the newest first.
    pub(super) async fn page(&self, reader: &Reader, query: &Query) -> Result<Vec<String>, Failure> {
        let request = reader.request(wire::question(query))?;
        let answer = match reader.whose {
            Whose::Tenant { .. } => self.tenants.clone().list_log_entries(request).await,
            Whose::Platform => self.platform.clone().list_log_entries(request).await,
        };
        Ok(answer.map_err(failure)?.into_inner().entries)
    }

    /// Some seals after a number; none after the last.
    pub(super) async fn seals(&self, reader: &Reader, after_number: i64) -> Result<Vec<Batch>, Failure> {
        let request = reader.request(proto::ListLogSealsRequest { after_number })?;
        let answer = match reader.whose {
            Whose::Tenant { .. } => self.tenants.clone().list_log_seals(request).await,
            Whose::Platform => self.platform.clone().list_log_seals(request).await,
        };
        let seals = answer.map_err(failure)?.into_inner().seals;
        seals.into_iter().map(wire::batch).collect()
    }

    /// What is not sealed.
    pub(super) async fn unsealed(&self, reader: &Reader) -> Result<Unsealed, Failure> {
        let request = reader.request(proto::ListUnsealedEntriesRequest {})?;
        let answer = match reader.whose {
            Whose::Tenant { .. } => self.tenants.clone().list_unsealed_entries(request).await,
            Whose::Platform => self.platform.clone().list_unsealed_entries(request).await,
        };
        let answer = answer.map_err(failure)?.into_inner();
        let lost: Result<_, _> = answer.ids.iter().map(|id| id.parse()).collect();
        Ok(Unsealed {
            lost: lost.map_err(Failure::internal)?,
            waiting: answer.waiting,
        })
    }
}

// === impl Reader ===

impl Reader {
    /// A question to another service, whose answer is only for us: why an operator asks is not passed on.
    fn request<T>(&self, message: T) -> Result<Request<T>, Failure> {
        let deadline = self.ctx.deadline().min(Instant::now() + ANSWER_MAX);
        let (id, principal) = (self.ctx.request_id().clone(), self.ctx.principal().clone());
        let ctx = Ctx::new(id, principal, self.ctx.tenant_opt(), deadline);
        match &self.whose {
            Whose::Tenant { tenant, token } => request_as_user(&ctx, token, Some(*tenant), message),
            Whose::Platform => Ok(request(&ctx, message)),
        }
    }
}
