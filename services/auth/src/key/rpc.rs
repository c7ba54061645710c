//! `KeyService`.

use std::sync::Arc;

use rowhouse_middleware::ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::key_service_server::KeyService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::{actions, wire};
use crate::state::State;

/// Serves `KeyService`.
pub(crate) struct KeyRpc {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl KeyService for KeyRpc {
    async fn list_signing_keys(
        &self,
        request: Request<proto::ListSigningKeysRequest>,
    ) -> Result<Response<proto::ListSigningKeysResponse>, Status> {
        let ctx = ctx(&request)?;
        let keys = actions::list(&ctx, &self.state).await.map_err(Failure::from)?;
        Ok(Response::new(proto::ListSigningKeysResponse {
            keys: keys.iter().map(wire::key).collect(),
        }))
    }

    async fn rotate_signing_key(
        &self,
        request: Request<proto::RotateSigningKeyRequest>,
    ) -> Result<Response<proto::SigningKey>, Status> {
        let ctx = ctx(&request)?;
        let next = actions::rotate(&ctx, &self.state).await.map_err(Failure::from)?;
        Ok(Response::new(wire::key(&next)))
    }

    async fn revoke_signing_key(
        &self,
        request: Request<proto::RevokeSigningKeyRequest>,
    ) -> Result<Response<proto::SigningKey>, Status> {
        let ctx = ctx(&request)?;
        let (id, reason) = wire::revocation(request.get_ref())?;
        let revoked = actions::revoke(&ctx, &self.state, id, &reason).await;
        Ok(Response::new(wire::key(&revoked.map_err(Failure::from)?)))
    }
}
