//! Who knows the rights and gives leases: auth, asked over the network by everybody else.

use std::sync::Arc;

use async_trait::async_trait;
use rowhouse_context::Ctx;
use rowhouse_proto::auth::v1::rights_service_client::RightsServiceClient;
use rowhouse_proto::auth::v1::{RenewLeaseRequest, RenewLeaseResponse};
use rowhouse_status::Reason;

use crate::failure::failure;
use crate::peer::{IdentifiedChannel, Peer};
use crate::request::request;
use crate::rights::{Rights, RightsError, RightsQuery, RightsSource};

/// Auth, as whoever holds a lease knows it. Its [`RightsSource::rights`] reads them for each question.
#[async_trait]
pub trait RightsAuthority: RightsSource {
    /// Extends a lease and tells what changed after the version that its holder has confirmed.
    ///
    /// # Errors
    /// [`RightsError`]; then the lease may have been extended or not.
    async fn renew_lease(&self, ctx: &Ctx, renewal: RenewLeaseRequest) -> Result<RenewLeaseResponse, RightsError>;
}

/// Auth in another process.
#[derive(Clone, Debug)]
pub(crate) struct RemoteAuth {
    client: RightsServiceClient<IdentifiedChannel>,
}

// === impl RemoteAuth ===

impl RemoteAuth {
    pub(crate) fn new(auth: &Peer) -> Self {
        Self {
            client: RightsServiceClient::new(auth.channel()),
        }
    }
}

#[async_trait]
impl RightsSource for RemoteAuth {
    async fn rights(&self, ctx: &Ctx, query: &RightsQuery) -> Result<Arc<Rights>, RightsError> {
        let asked = self.client.clone().get_rights(request(ctx, query.to_message())).await;
        Ok(Arc::new(asked.map_err(refused)?.into_inner().into()))
    }
}

#[async_trait]
impl RightsAuthority for RemoteAuth {
    async fn renew_lease(&self, ctx: &Ctx, renewal: RenewLeaseRequest) -> Result<RenewLeaseResponse, RightsError> {
        let renewed = self.client.clone().renew_lease(request(ctx, renewal)).await;
        Ok(renewed.map_err(refused)?.into_inner())
    }
}

fn refused(status: tonic::Status) -> RightsError {
    let code = status.code();
    match failure(status).reason() {
        Reason::DeadlineExceeded => RightsError::DeadlineExceeded,
        reason => RightsError::Unavailable(format!("auth answered {code:?} ({})", reason.as_info())),
    }
}
