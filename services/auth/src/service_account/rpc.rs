//! `ServiceAccountService`.

use std::sync::Arc;

use rowhouse_db::paging::page_size;
use rowhouse_middleware::ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::service_account_service_server::ServiceAccountService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::{actions, keys, wire};
use crate::state::State;
use crate::wire::optional;

type Answer<T> = Result<Response<T>, Status>;

/// Serves `ServiceAccountService`.
pub(crate) struct ServiceAccountRpc {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl ServiceAccountService for ServiceAccountRpc {
    async fn create_service_account(
        &self,
        request: Request<proto::CreateServiceAccountRequest>,
    ) -> Answer<proto::ServiceAccount> {
        let ctx = ctx(&request)?;
        let new = wire::new_account(request.get_ref())?;
        let account = actions::create(&ctx, &self.state, &new).await;
        Ok(Response::new(wire::account(account.map_err(Failure::from)?)))
    }

    async fn get_service_account(
        &self,
        request: Request<proto::GetServiceAccountRequest>,
    ) -> Answer<proto::ServiceAccount> {
        let ctx = ctx(&request)?;
        let id = wire::id(&request.get_ref().id)?;
        let account = actions::get(&ctx, &self.state, id).await;
        Ok(Response::new(wire::account(account.map_err(Failure::from)?)))
    }

    async fn list_service_accounts(
        &self,
        request: Request<proto::ListServiceAccountsRequest>,
    ) -> Answer<proto::ListServiceAccountsResponse> {
        let ctx = ctx(&request)?;
        let request = request.get_ref();
        let size = page_size(request.page_size).map_err(|fault| Failure::field("page_size", fault))?;
        let role = optional(&request.role).map_err(|fault| Failure::field("role", fault))?;
        let page = actions::list(&ctx, &self.state, role.as_ref(), size, &request.page_token).await;
        let page = page.map_err(Failure::from)?;
        Ok(Response::new(proto::ListServiceAccountsResponse {
            service_accounts: page.items.into_iter().map(wire::account).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_service_account(
        &self,
        request: Request<proto::UpdateServiceAccountRequest>,
    ) -> Answer<proto::ServiceAccount> {
        let ctx = ctx(&request)?;
        let change = wire::change(request.get_ref())?;
        let account = actions::update(&ctx, &self.state, &change).await;
        Ok(Response::new(wire::account(account.map_err(Failure::from)?)))
    }

    async fn delete_service_account(&self, request: Request<proto::DeleteServiceAccountRequest>) -> Answer<()> {
        let ctx = ctx(&request)?;
        let (id, etag) = wire::removal(request.get_ref())?;
        let deleted = actions::delete(&ctx, &self.state, id, etag).await;
        Ok(Response::new(deleted.map_err(Failure::from)?))
    }

    async fn create_api_key(
        &self,
        request: Request<proto::CreateApiKeyRequest>,
    ) -> Answer<proto::CreateApiKeyResponse> {
        let ctx = ctx(&request)?;
        let new = wire::new_key(request.get_ref())?;
        let created = keys::create(&ctx, &self.state, &new).await;
        let (listed, key) = created.map_err(Failure::from)?;
        Ok(Response::new(proto::CreateApiKeyResponse {
            api_key: Some(wire::key(&listed)),
            key: key.expose().to_owned(),
        }))
    }

    async fn list_api_keys(&self, request: Request<proto::ListApiKeysRequest>) -> Answer<proto::ListApiKeysResponse> {
        let ctx = ctx(&request)?;
        let (account, size) = wire::key_list(request.get_ref())?;
        let page = keys::list(&ctx, &self.state, account, size, &request.get_ref().page_token).await;
        let page = page.map_err(Failure::from)?;
        Ok(Response::new(proto::ListApiKeysResponse {
            api_keys: page.items.iter().map(wire::key).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn revoke_api_key(&self, request: Request<proto::RevokeApiKeyRequest>) -> Answer<proto::ApiKey> {
        let ctx = ctx(&request)?;
        let id = wire::key_id(request.get_ref())?;
        let revoked = keys::revoke(&ctx, &self.state, id).await;
        Ok(Response::new(wire::key(&revoked.map_err(Failure::from)?)))
    }

    async fn exchange_api_key(
        &self,
        request: Request<proto::ExchangeApiKeyRequest>,
    ) -> Answer<proto::ExchangeApiKeyResponse> {
        let ctx = ctx(&request)?;
        let presented = wire::presented(request.get_ref())?;
        let exchanged = keys::exchange(&ctx, &self.state, &presented).await;
        let (token, tenant) = exchanged.map_err(Failure::from)?;
        Ok(Response::new(wire::token(token, tenant)))
    }
}
