//! Service accounts and API keys as messages.

use rowhouse_db::paging::page_size;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::timestamp;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::{ApiKeyId, Etag, ServiceAccountId, TenantId};

use super::{
    AccountName, AccountState, ApiKey, Change, LIFETIME_DAYS, LIFETIME_DAYS_DEFAULT, ListedKey, NewAccount, NewKey,
    ServiceAccount, user_of,
};
use crate::error::Error;
use crate::key::AccessToken;
use crate::wire::{optional, wanted};

pub(super) fn new_account(request: &proto::CreateServiceAccountRequest) -> Result<NewAccount, Failure> {
    let account = request.service_account.as_ref();
    let account = account.ok_or_else(|| Failure::field("service_account", "must be set"))?;
    let mut violations = Violations::default();
    let name = AccountName::parse_required(&account.display_name);
    let name = violations.take("service_account.display_name", name);
    let role = violations.take("service_account.role", account.role.parse());
    let request_id = violations.take("request_id", optional(&request.request_id));
    let read = name.zip(role).zip(request_id);
    violations.finish(read.map(|((name, role), request)| NewAccount { name, role, request }))
}

/// The change that a mask and its values ask for. Without a mask, the fields that are set count (AIP-134).
pub(super) fn change(request: &proto::UpdateServiceAccountRequest) -> Result<Change, Failure> {
    let account = request.service_account.as_ref();
    let account = account.ok_or_else(|| Failure::field("service_account", "must be set"))?;
    let mut violations = Violations::default();
    let id = violations.take("service_account.id", account.id.parse());
    let etag = violations.take("service_account.etag", optional(&account.etag));
    let fields = [
        ("display_name", !account.display_name.is_empty()),
        ("role", !account.role.is_empty()),
        ("state", account.state != 0),
    ];
    let [wants_name, wants_role, wants_state] = wanted(request.update_mask.as_ref(), fields, &mut violations);
    let name = wants_name.then(|| {
        let name = AccountName::parse_required(&account.display_name);
        violations.take("service_account.display_name", name)
    });
    let role = wants_role.then(|| violations.take("service_account.role", account.role.parse()));
    let state = wants_state.then(|| violations.take("service_account.state", state(account.state())));
    violations.finish(id.zip(etag).map(|(id, etag)| Change {
        id,
        name: name.flatten(),
        role: role.flatten(),
        state: state.flatten(),
        etag,
    }))
}

fn state(state: proto::ServiceAccountState) -> Result<AccountState, &'static str> {
    match state {
        proto::ServiceAccountState::Active => Ok(AccountState::Active),
        proto::ServiceAccountState::Disabled => Ok(AccountState::Disabled),
        proto::ServiceAccountState::Unspecified => {
            Err("must be SERVICE_ACCOUNT_STATE_ACTIVE or SERVICE_ACCOUNT_STATE_DISABLED")
        }
    }
}

pub(super) fn id(text: &str) -> Result<ServiceAccountId, Failure> {
    text.parse().map_err(|fault| Failure::field("id", fault))
}

/// Which account to remove, and the etag where one is given.
pub(super) fn removal(
    request: &proto::DeleteServiceAccountRequest,
) -> Result<(ServiceAccountId, Option<Etag>), Failure> {
    let mut violations = Violations::default();
    let id = violations.take("id", request.id.parse());
    let etag = violations.take("etag", optional(&request.etag));
    violations.finish(id.zip(etag))
}

pub(super) fn new_key(request: &proto::CreateApiKeyRequest) -> Result<NewKey, Failure> {
    let mut violations = Violations::default();
    let account = violations.take("service_account_id", request.service_account_id.parse());
    let days = match request.lifetime_days {
        0 => Ok(LIFETIME_DAYS_DEFAULT),
        days if LIFETIME_DAYS.contains(&days) => Ok(days),
        _ => {
            let (least, most) = (LIFETIME_DAYS.start(), LIFETIME_DAYS.end());
            Err(format!("must be {least} to {most} days, or 0"))
        }
    };
    let days = violations.take("lifetime_days", days);
    let request_id = violations.take("request_id", optional(&request.request_id));
    let read = account.zip(days).zip(request_id);
    violations.finish(read.map(|((account, days), request)| NewKey { account, days, request }))
}

/// Whose keys to list, and how many.
pub(super) fn key_list(request: &proto::ListApiKeysRequest) -> Result<(ServiceAccountId, u32), Failure> {
    let mut violations = Violations::default();
    let account = violations.take("service_account_id", request.service_account_id.parse());
    let size = violations.take("page_size", page_size(request.page_size));
    violations.finish(account.zip(size))
}

pub(super) fn key_id(request: &proto::RevokeApiKeyRequest) -> Result<ApiKeyId, Failure> {
    let id = request.id.parse();
    id.map_err(|fault| Failure::field("id", fault))
}

/// A text that cannot be a key of ours is answered like one that is not good: neither tells more than the other.
pub(super) fn presented(request: &proto::ExchangeApiKeyRequest) -> Result<ApiKey, Failure> {
    if request.key.is_empty() {
        return Err(Failure::field("key", "must not be empty"));
    }
    ApiKey::presented(&request.key).ok_or_else(|| Error::ApiKeyInvalid.into())
}

pub(super) fn account(account: ServiceAccount) -> proto::ServiceAccount {
    let state = match account.state {
        AccountState::Active => proto::ServiceAccountState::Active,
        AccountState::Disabled => proto::ServiceAccountState::Disabled,
    };
    proto::ServiceAccount {
        id: account.id.to_string(),
        display_name: account.name,
        role: account.role.to_string(),
        state: state.into(),
        user_id: user_of(account.id).to_string(),
        create_time: Some(timestamp(account.created)),
        update_time: Some(timestamp(account.updated)),
        etag: account.etag.to_string(),
    }
}

pub(super) fn key(key: &ListedKey) -> proto::ApiKey {
    proto::ApiKey {
        id: key.id.to_string(),
        prefix: key.prefix.clone(),
        create_time: Some(timestamp(key.created)),
        expire_time: Some(timestamp(key.expires)),
        revoke_time: key.revoked.map(timestamp),
        use_time: key.used.map(timestamp),
    }
}

pub(super) fn token(token: AccessToken, tenant: TenantId) -> proto::ExchangeApiKeyResponse {
    proto::ExchangeApiKeyResponse {
        access_token: token.text,
        expire_time: Some(timestamp(token.expires)),
        tenant_id: tenant.to_string(),
    }
}
