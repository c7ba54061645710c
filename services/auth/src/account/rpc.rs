//! `AccountService` and `RecoveryService`.

use std::sync::Arc;

use rowhouse_db::paging::page_size;
use rowhouse_middleware::ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::account_service_server::AccountService;
use rowhouse_proto::auth::v1::recovery_service_server::RecoveryService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::failed::{Shows, told};
use super::{actions, email, password, wire};
use crate::member;
use crate::second_factor::actions as second_factor;
use crate::session::{self, manage};
use crate::state::State;

/// Serves `AccountService`.
pub(crate) struct AccountRpc {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl AccountService for AccountRpc {
    async fn change_password(&self, request: Request<proto::ChangePasswordRequest>) -> Result<Response<()>, Status> {
        let ctx = ctx(&request)?;
        let change = wire::password_change(request.get_ref())?;
        let changed = password::change(&ctx, &self.state, &change).await;
        let changed = told(&ctx, &self.state, Shows::ChangePassword, changed);
        Ok(Response::new(changed.map_err(Failure::from)?))
    }

    async fn change_email(&self, request: Request<proto::ChangeEmailRequest>) -> Result<Response<()>, Status> {
        let ctx = ctx(&request)?;
        let change = wire::email_change(request.get_ref())?;
        let asked = email::change(&ctx, &self.state, &change).await;
        let asked = told(&ctx, &self.state, Shows::ChangeEmail, asked);
        Ok(Response::new(asked.map_err(Failure::from)?))
    }

    async fn list_sessions(
        &self,
        request: Request<proto::ListSessionsRequest>,
    ) -> Result<Response<proto::ListSessionsResponse>, Status> {
        let ctx = ctx(&request)?;
        let request = request.get_ref();
        let size = page_size(request.page_size).map_err(|fault| Failure::field("page_size", fault))?;
        let page = manage::list(&ctx, &self.state, size, &request.page_token).await;
        let page = page.map_err(Failure::from)?;
        Ok(Response::new(proto::ListSessionsResponse {
            sessions: page.items.into_iter().map(wire::session).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn revoke_session(&self, request: Request<proto::RevokeSessionRequest>) -> Result<Response<()>, Status> {
        let ctx = ctx(&request)?;
        let id = wire::session_id(request.get_ref())?;
        let revoked = manage::revoke(&ctx, &self.state, id).await;
        Ok(Response::new(revoked.map_err(Failure::from)?))
    }

    async fn revoke_sessions(
        &self,
        request: Request<proto::RevokeSessionsRequest>,
    ) -> Result<Response<proto::RevokeSessionsResponse>, Status> {
        let ctx = ctx(&request)?;
        let scope = wire::scope(request.get_ref())?;
        let ended = manage::revoke_all(&ctx, &self.state, scope)
            .await
            .map_err(Failure::from)?;
        Ok(Response::new(proto::RevokeSessionsResponse {
            revoked_count: i32::try_from(ended).unwrap_or(i32::MAX),
        }))
    }

    async fn list_tenants(
        &self,
        request: Request<proto::ListTenantsRequest>,
    ) -> Result<Response<proto::ListTenantsResponse>, Status> {
        let ctx = ctx(&request)?;
        let request = request.get_ref();
        let size = page_size(request.page_size).map_err(|fault| Failure::field("page_size", fault))?;
        let page = actions::tenants(&ctx, &self.state, size, &request.page_token).await;
        let page = page.map_err(Failure::from)?;
        Ok(Response::new(proto::ListTenantsResponse {
            tenants: page.items.into_iter().map(wire::membership).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn switch_tenant(
        &self,
        request: Request<proto::SwitchTenantRequest>,
    ) -> Result<Response<proto::TokenPair>, Status> {
        let ctx = ctx(&request)?;
        let tenant = wire::tenant_id(&request.get_ref().tenant_id)?;
        let pair = manage::switch(&ctx, &self.state, tenant).await.map_err(Failure::from)?;
        Ok(Response::new(session::to_message(pair)))
    }

    async fn leave_tenant(&self, request: Request<proto::LeaveTenantRequest>) -> Result<Response<()>, Status> {
        let ctx = ctx(&request)?;
        let tenant = wire::tenant_id(&request.get_ref().tenant_id)?;
        let left = member::actions::leave(&ctx, &self.state, tenant).await;
        Ok(Response::new(left.map_err(Failure::from)?))
    }

    async fn get_second_factor(
        &self,
        request: Request<proto::GetSecondFactorRequest>,
    ) -> Result<Response<proto::SecondFactor>, Status> {
        let ctx = ctx(&request)?;
        let known = second_factor::get(&ctx, &self.state).await.map_err(Failure::from)?;
        Ok(Response::new(wire::second_factor(known)))
    }

    async fn set_up_second_factor(
        &self,
        request: Request<proto::SetUpSecondFactorRequest>,
    ) -> Result<Response<proto::SetUpSecondFactorResponse>, Status> {
        let ctx = ctx(&request)?;
        let password = wire::current_password(&request.get_ref().current_password)?;
        let setup = second_factor::set_up(&ctx, &self.state, &password).await;
        let setup = told(&ctx, &self.state, Shows::SetUpSecondFactor, setup);
        Ok(Response::new(wire::setup(&setup.map_err(Failure::from)?)))
    }

    async fn confirm_second_factor(
        &self,
        request: Request<proto::ConfirmSecondFactorRequest>,
    ) -> Result<Response<proto::RecoveryCodes>, Status> {
        let ctx = ctx(&request)?;
        let code = wire::code(&request.get_ref().code)?;
        let codes = second_factor::confirm(&ctx, &self.state, &code).await;
        let codes = told(&ctx, &self.state, Shows::ConfirmSecondFactor, codes);
        Ok(Response::new(wire::recovery_codes(&codes.map_err(Failure::from)?)))
    }

    async fn renew_recovery_codes(
        &self,
        request: Request<proto::RenewRecoveryCodesRequest>,
    ) -> Result<Response<proto::RecoveryCodes>, Status> {
        let ctx = ctx(&request)?;
        let request = request.get_ref();
        let (password, code) = wire::both_factors(&request.current_password, &request.code)?;
        let codes = second_factor::renew_codes(&ctx, &self.state, &password, &code).await;
        let codes = told(&ctx, &self.state, Shows::RenewRecoveryCodes, codes);
        Ok(Response::new(wire::recovery_codes(&codes.map_err(Failure::from)?)))
    }

    async fn remove_second_factor(
        &self,
        request: Request<proto::RemoveSecondFactorRequest>,
    ) -> Result<Response<()>, Status> {
        let ctx = ctx(&request)?;
        let request = request.get_ref();
        let (password, code) = wire::both_factors(&request.current_password, &request.code)?;
        let removed = second_factor::remove(&ctx, &self.state, &password, &code).await;
        let removed = told(&ctx, &self.state, Shows::RemoveSecondFactor, removed);
        Ok(Response::new(removed.map_err(Failure::from)?))
    }
}

/// Serves `RecoveryService`.
pub(crate) struct RecoveryRpc {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl RecoveryService for RecoveryRpc {
    async fn request_password_reset(
        &self,
        request: Request<proto::RequestPasswordResetRequest>,
    ) -> Result<Response<()>, Status> {
        let ctx = ctx(&request)?;
        let email = wire::email(&request.get_ref().email)?;
        let asked = password::request_reset(&ctx, &self.state, &email).await;
        Ok(Response::new(asked.map_err(Failure::from)?))
    }

    async fn reset_password(&self, request: Request<proto::ResetPasswordRequest>) -> Result<Response<()>, Status> {
        let ctx = ctx(&request)?;
        let reset = wire::reset(request.get_ref())?;
        let set = password::reset(&ctx, &self.state, &reset).await;
        Ok(Response::new(set.map_err(Failure::from)?))
    }

    async fn confirm_email(&self, request: Request<proto::ConfirmEmailRequest>) -> Result<Response<()>, Status> {
        let ctx = ctx(&request)?;
        let token = wire::link(&request.get_ref().token)?;
        let confirmed = email::confirm(&ctx, &self.state, &token).await;
        Ok(Response::new(confirmed.map_err(Failure::from)?))
    }
}
