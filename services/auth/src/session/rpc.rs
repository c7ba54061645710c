//! `AuthService`.

use std::sync::Arc;

use rowhouse_middleware::ctx;
use rowhouse_proto::auth::v1::auth_service_server::AuthService;
use rowhouse_proto::auth::v1::{
    AcceptInvitationRequest, AcceptInvitationResponse, GetJwksRequest, GetJwksResponse, LoginRequest, LogoutRequest,
    RefreshRequest, TokenPair, WhoAmIRequest, WhoAmIResponse,
};
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::{actions, refresh, wire};
use crate::state::State;
use crate::{invitation, key};

/// Serves `AuthService`.
pub(crate) struct AuthRpc {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl AuthService for AuthRpc {
    async fn accept_invitation(
        &self,
        request: Request<AcceptInvitationRequest>,
    ) -> Result<Response<AcceptInvitationResponse>, Status> {
        let ctx = ctx(&request)?;
        let acceptance = wire::acceptance(request.get_ref())?;
        let joined = invitation::accept(&ctx, &self.state, &acceptance).await;
        Ok(Response::new(wire::joined(joined.map_err(Failure::from)?)))
    }

    async fn login(&self, request: Request<LoginRequest>) -> Result<Response<TokenPair>, Status> {
        let ctx = ctx(&request)?;
        let attempt = wire::attempt(request.get_ref())?;
        let pair = actions::login(&ctx, &self.state, &attempt).await;
        Ok(Response::new(wire::pair(pair.map_err(Failure::from)?)))
    }

    async fn refresh(&self, request: Request<RefreshRequest>) -> Result<Response<TokenPair>, Status> {
        let ctx = ctx(&request)?;
        let token = wire::refresh_token(request.get_ref())?;
        let pair = refresh::refresh(&ctx, &self.state, &token).await;
        Ok(Response::new(wire::pair(pair.map_err(Failure::from)?)))
    }

    async fn logout(&self, request: Request<LogoutRequest>) -> Result<Response<()>, Status> {
        let ctx = ctx(&request)?;
        actions::logout(&ctx, &self.state).await.map_err(Failure::from)?;
        Ok(Response::new(()))
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        let ctx = ctx(&request)?;
        let identity = actions::who_am_i(&ctx, &self.state).await;
        Ok(Response::new(wire::identity(identity.map_err(Failure::from)?)))
    }

    async fn get_jwks(&self, _request: Request<GetJwksRequest>) -> Result<Response<GetJwksResponse>, Status> {
        let keys = key::published(&self.state).await.map_err(Failure::from)?;
        Ok(Response::new(key::to_jwks(keys)))
    }
}
