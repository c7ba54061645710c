//! What ends a program's rights.

use anyhow::Result;
use rowhouse_proto::auth::v1::{
    CreateApiKeyRequest, CreateServiceAccountRequest, DeleteServiceAccountRequest, ExchangeApiKeyRequest,
    RevokeApiKeyRequest, ServiceAccount, ServiceAccountState, UpdateServiceAccountRequest,
};

use super::Arena;
use super::hammer::Attempt;

/// How it ends.
#[derive(Clone, Copy, Debug)]
enum Way {
    Revoked,
    Disabled,
    Deleted,
}

// === impl Arena ===

impl Arena {
    /// A program with a key that is revoked, of an account that is disabled, and of one that is deleted.
    pub(super) async fn programs(&self) -> Result<()> {
        for way in [Way::Revoked, Way::Disabled, Way::Deleted] {
            self.program(way).await?;
        }
        Ok(())
    }

    async fn program(&self, way: Way) -> Result<()> {
        let mut accounts = self.administrator().service_accounts();
        let service_account = Some(ServiceAccount {
            display_name: format!("To be {way:?}"),
            role: "manager".to_owned(),
            ..ServiceAccount::default()
        });
        let request = CreateServiceAccountRequest {
            service_account,
            ..CreateServiceAccountRequest::default()
        };
        let account = accounts.create_service_account(request).await?.into_inner();
        let request = CreateApiKeyRequest {
            service_account_id: account.id.clone(),
            lifetime_days: 1,
            ..CreateApiKeyRequest::default()
        };
        let created = accounts.create_api_key(request).await?.into_inner();
        let exchange = ExchangeApiKeyRequest { key: created.key };
        let anyone = &self.world.anyone;
        let token = anyone.service_accounts().exchange_api_key(exchange).await?.into_inner();
        let program = anyone.with_token(&token.access_token)?;
        let end = async || {
            match way {
                Way::Revoked => {
                    let id = created.api_key.unwrap_or_default().id;
                    drop(accounts.revoke_api_key(RevokeApiKeyRequest { id }).await?);
                }
                Way::Disabled => {
                    let disabled = ServiceAccount {
                        id: account.id,
                        state: ServiceAccountState::Disabled.into(),
                        ..ServiceAccount::default()
                    };
                    let request = UpdateServiceAccountRequest {
                        service_account: Some(disabled),
                        update_mask: None,
                    };
                    drop(accounts.update_service_account(request).await?);
                }
                Way::Deleted => {
                    let (id, etag) = (account.id, String::new());
                    let request = DeleteServiceAccountRequest { id, etag };
                    drop(accounts.delete_service_account(request).await?);
                }
            }
            Ok(())
        };
        let how = format!("a program, {way:?}");
        self.take(&how, &program, Attempt::ALL, end).await
    }
}
