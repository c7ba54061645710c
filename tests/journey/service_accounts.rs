//! In every placement, a program acts in a tenant by an API key: it writes, what it writes is its own, its reports are made, and
//! its key is replaced without a pause.

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::journey;
use rowhouse_proto::auth::v1::{
    CreateApiKeyRequest, CreateServiceAccountRequest, DeleteServiceAccountRequest, ExchangeApiKeyRequest,
    ListApiKeysRequest, ListSessionsRequest, RevokeApiKeyRequest, ServiceAccount, WhoAmIRequest,
};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::crm::v1::{GetContactRequest, ListContactsRequest};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::support::world::{PLACEMENTS, World, slug_in};

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// A key of the account: its id, and itself.
async fn key(administrator: &Caller, account: &str) -> Result<(String, String)> {
    let request = CreateApiKeyRequest {
        service_account_id: account.to_owned(),
        lifetime_days: 30,
        request_id: Uuid::new_v4().to_string(),
    };
    let mut accounts = administrator.service_accounts();
    let created = accounts.create_api_key(request.clone()).await?.into_inner();
    let listed = created.api_key.context("the key as it is listed")?;
    ensure!(
        created.key.starts_with(&listed.prefix),
        "it is recognised by its first characters"
    );
    let again = accounts.create_api_key(request).await.unwrap_err();
    let details = again.get_error_details();
    let named = details.resource_info().map(|about| about.resource_name.as_str());
    ensure!(
        again.code() == Code::AlreadyExists && named == Some(listed.id.as_str()),
        "a call that is repeated names the key and does not tell it: {again:?}"
    );
    Ok((listed.id, created.key))
}

/// The program, after an exchange of its key.
async fn program(world: &World, key: &str) -> Result<Caller, Status> {
    let request = ExchangeApiKeyRequest { key: key.to_owned() };
    let token = world
        .anyone
        .service_accounts()
        .exchange_api_key(request)
        .await?
        .into_inner();
    Ok(world
        .anyone
        .with_token(&token.access_token)
        .expect("a token is metadata"))
}

#[tokio::test]
async fn a_program_works_in_a_tenant_by_its_key() -> Result<()> {
    let world = World::start("service-accounts").await?;
    for placement in PLACEMENTS {
        program_in(&world, placement).await?;
    }
    Ok(())
}

async fn program_in(world: &World, placement: Placement) -> Result<()> {
    let (_, administrator) = world.tenant_in(placement, &slug_in(placement, "acme")).await?;
    let administrator = &administrator.caller;
    let service_account = Some(ServiceAccount {
        display_name: "Importer".to_owned(),
        role: "manager".to_owned(),
        ..ServiceAccount::default()
    });
    let request = CreateServiceAccountRequest {
        service_account,
        request_id: Uuid::new_v4().to_string(),
    };
    let mut accounts = administrator.service_accounts();
    let account = accounts.create_service_account(request.clone()).await?.into_inner();
    let again = accounts.create_service_account(request).await?.into_inner();
    ensure!(
        again == account,
        "a call that is repeated answers what it made: {again:?}"
    );
    let (first_id, first) = key(administrator, &account.id).await?;
    let importer = program(world, &first).await?;
    let known = importer.auth().who_am_i(WhoAmIRequest {}).await?.into_inner();
    ensure!(
        known.user_id == account.user_id && known.display_name == "Importer" && known.email.is_empty(),
        "{known:?}"
    );

    let contact = journey::create_contact(&importer, "Imported", "imported@acme.example").await?;
    ensure!(
        contact.owner_id == account.user_id,
        "what it writes is its own: {contact:?}"
    );
    let theirs = journey::create_contact(administrator, "Of the administrator", "").await?;
    let beyond = importer
        .contacts()
        .get_contact(GetContactRequest { id: theirs.id })
        .await
        .unwrap_err();
    ensure!(
        beyond.code() == Code::NotFound,
        "a manager without a team reaches their own: {beyond:?}"
    );
    let report = journey::run_report(&importer).await?;
    let report = journey::finished_report(&importer, &report.id, journey::BACKGROUND_MAX).await?;
    let file = journey::download(administrator, &report.id).await?;
    journey::check_report(&report, &file, std::slice::from_ref(&contact))?;
    // What is about a person's account is not for it.
    let refused = importer.account().list_sessions(ListSessionsRequest::default()).await;
    ensure!(
        refused.map_or(true, |page| page.get_ref().sessions.is_empty()),
        "it has no sessions"
    );
    let refused = program(world, &first.to_uppercase()).await.unwrap_err();
    ensure!(reason(&refused) == "LOGIN_FAILED", "{refused:?}");

    let (_, second) = key(administrator, &account.id).await?;
    let replaced = program(world, &second).await?;
    accounts.revoke_api_key(RevokeApiKeyRequest { id: first_id }).await?;
    let list = |caller: Caller| async move { caller.contacts().list_contacts(ListContactsRequest::default()).await };
    let ended = list(importer.clone()).await.unwrap_err();
    ensure!(
        reason(&ended) == "SESSION_REVOKED",
        "the tokens of a revoked key end with it: {ended:?}"
    );
    list(replaced.clone()).await?;
    let request = ListApiKeysRequest {
        service_account_id: account.id.clone(),
        ..ListApiKeysRequest::default()
    };
    let keys = accounts.list_api_keys(request).await?.into_inner().api_keys;
    ensure!(
        keys.len() == 2 && keys.iter().all(|key| key.use_time.is_some()),
        "{keys:?}"
    );

    let (id, etag) = (account.id, String::new());
    accounts
        .delete_service_account(DeleteServiceAccountRequest { id, etag })
        .await?;
    ensure!(
        list(replaced).await.is_err() && program(world, &second).await.is_err(),
        "it is gone"
    );
    let kept = administrator
        .contacts()
        .get_contact(GetContactRequest { id: contact.id })
        .await?;
    ensure!(kept.into_inner().owner_id == account.user_id, "what it wrote stays");
    Ok(())
}
