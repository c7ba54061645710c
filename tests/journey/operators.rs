//! Operators make and unmake each other: who is made one works at once, who is none any more is refused at once and stays a
//! member, and one is always left. All of them hear of it by mail. And whatever they look at in a tenant, its administrator reads
//! who did, why and when.

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::journey;
use rowhouse_devkit::smtp::Mail;
use rowhouse_devkit::wait;
use rowhouse_proto::auth::v1::{
    AuditEntry, GetOperatorRequest, GrantOperatorRequest, ListAuditEntriesRequest, ListOperatorsRequest, Operator,
    RevokeOperatorRequest, WhoAmIRequest,
};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::crm::v1::ListContactsRequest;
use rowhouse_proto::tenant::v1::ListTenantsRequest;
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::journey::audit;
use crate::support::world::{House, OPERATOR, PASSWORD, PLACEMENTS, World, slug_in};

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

async fn grant(by: &Caller, email: &str, current_password: &str) -> Result<Operator, Status> {
    let request = GrantOperatorRequest {
        email: email.to_owned(),
        reason: "joins the team".to_owned(),
        current_password: current_password.to_owned(),
        code: String::new(),
    };
    Ok(by.operators().grant_operator(request).await?.into_inner())
}

async fn revoke(by: &Caller, user_id: &str) -> Result<(), Status> {
    let request = RevokeOperatorRequest {
        user_id: user_id.to_owned(),
        reason: "has left".to_owned(),
    };
    by.operators().revoke_operator(request).await.map(drop)
}

/// Waits for the mail to an operator that tells of another, by the first.
async fn told(world: &World, address: &str, subject: &str, about: &str) -> Result<()> {
    let tells = |mail: &Mail| mail.subject == subject && mail.text.contains(about) && mail.text.contains(OPERATOR);
    let mail = world.suite.wait_for_mail(address, journey::BACKGROUND_MAX, tells).await;
    mail.map(drop).context(subject.to_owned())
}

/// The addresses of the operators.
async fn listed(by: &Caller) -> Result<Vec<String>, Status> {
    let listed = by.operators().list_operators(ListOperatorsRequest::default()).await?;
    let operators = listed.into_inner().operators;
    Ok(operators.into_iter().map(|operator| operator.email).collect())
}

#[tokio::test]
async fn operators_make_and_unmake_each_other() -> Result<()> {
    let world = World::start("operators").await?;
    let (first, (tenant, member)) = (&world.operator, world.tenant_in(Placement::Schema, "acme").await?);
    ensure!(listed(first).await? == [OPERATOR]);
    let refused = listed(&member.caller).await.unwrap_err();
    ensure!(reason(&refused) == "AUDIENCE_MISMATCH", "{refused:?}");

    // An access token alone, as a thief has it.
    for password in ["", PASSWORD] {
        let refused = grant(first, &member.email, password).await.unwrap_err();
        ensure!(reason(&refused) == "FIELD_INVALID", "{refused:?}");
        let details = refused.get_error_details();
        let named = details.bad_request().map(|bad| &bad.field_violations);
        let named = named.and_then(|violations| violations.first());
        let named = named.map(|violation| violation.field.as_str());
        ensure!(named == Some("current_password"), "{refused:?}");
    }
    ensure!(listed(first).await? == [OPERATOR]);
    let made = grant(first, &member.email, &world.operator_password).await?;
    ensure!(made.user_id == member.tokens.user_id, "{made:?}");
    for address in [OPERATOR, &member.email] {
        told(
            &world,
            address,
            "A platform operator was made on Rowhouse",
            &member.email,
        )
        .await?;
    }
    let tokens = journey::log_in(&world.anyone, &member.email, PASSWORD, "").await?;
    let second = world.anyone.with_token(&tokens.access_token)?;
    ensure!(listed(&second).await? == [OPERATOR, &member.email]);
    let tenants = second.tenants().list_tenants(ListTenantsRequest::default()).await?;
    ensure!(tenants.get_ref().tenants.len() == 1, "{tenants:?}");

    revoke(first, &made.user_id).await?;
    let refused = listed(&second).await.unwrap_err();
    ensure!(reason(&refused) == "SESSION_REVOKED", "{refused:?}");
    let refused = second
        .tenants()
        .list_tenants(ListTenantsRequest::default())
        .await
        .unwrap_err();
    ensure!(reason(&refused) == "SESSION_REVOKED", "{refused:?}");
    let as_member = member.caller.auth().who_am_i(WhoAmIRequest {}).await?.into_inner();
    ensure!(as_member.tenant_id == tenant.id, "a member still: {as_member:?}");
    let gone = GetOperatorRequest { user_id: made.user_id };
    let refused = first.operators().get_operator(gone).await.unwrap_err();
    ensure!(reason(&refused) == "RESOURCE_NOT_FOUND", "{refused:?}");

    let own = first.auth().who_am_i(WhoAmIRequest {}).await?.into_inner().user_id;
    let refused = revoke(first, &own).await.unwrap_err();
    ensure!(reason(&refused) == "STATE_FORBIDS", "the last one stays: {refused:?}");
    for address in [OPERATOR, &member.email] {
        let subject = "A platform operator's role on Rowhouse has ended";
        told(&world, address, subject, &member.email).await?;
    }
    ensure!(listed(first).await? == [OPERATOR]);
    Ok(())
}

/// That operators were let in, the newest first, as the tenant's administrator reads it.
async fn accesses(house: &House) -> Result<Vec<AuditEntry>> {
    let only = audit::filter(|filter| filter.action = "operator.access".to_owned());
    audit::list(&house.administrator.caller, only).await
}

/// Waits until the tenant's log says that an operator was let in for a reason.
async fn is_told(house: &House, why: &str) -> Result<()> {
    wait::until("an operator in the log", journey::BACKGROUND_MAX, || async {
        Ok(accesses(house).await?.iter().any(|entry| entry.reason == why))
    })
    .await
}

#[tokio::test]
async fn what_an_operator_looks_at_in_a_tenant_stands_in_its_log() -> Result<()> {
    let world = World::start("operators-inside").await?;
    for placement in PLACEMENTS {
        looked_at(&world, placement).await?;
    }
    Ok(())
}

async fn looked_at(world: &World, placement: Placement) -> Result<()> {
    let house = world.house_in(placement, &slug_in(placement, "acme")).await?;
    let operator = world.operator.auth().who_am_i(WhoAmIRequest {}).await?.into_inner();
    journey::create_contact(&house.user.caller, "Amara Almeida", "").await?;
    // Members who read; were they told of, it would be before the operator is for the second time.
    for member in [&house.user, &house.manager, &house.administrator] {
        let mut contacts = member.caller.contacts();
        contacts.list_contacts(ListContactsRequest::default()).await?;
    }

    let begun = chrono::Utc::now().timestamp();
    let (complaint, repair) = ("a complaint, ticket 7", "a repair, ticket 8");
    let inside = world.operator.in_tenant(&house.tenant.id, complaint)?;
    let listed = inside.contacts().list_contacts(ListContactsRequest::default()).await?;
    ensure!(listed.get_ref().contacts.len() == 1, "{listed:?}");
    is_told(&house, complaint).await?;
    // A change has an entry of its own beside; and each service says what was done in it.
    let inside = world.operator.in_tenant(&house.tenant.id, repair)?;
    let made = journey::create_contact(&inside, "Grace Gold", "").await?;
    is_told(&house, repair).await?;
    let inside = world.operator.in_tenant(&house.tenant.id, "the log, ticket 9")?;
    let request = ListAuditEntriesRequest::default();
    inside.audit().list_audit_entries(request).await?;
    is_told(&house, "the log, ticket 9").await?;

    let told = accesses(&house).await?;
    let seen: Vec<[&str; 3]> = told
        .iter()
        .map(|entry| [entry.service.as_str(), &entry.outcome, &entry.reason])
        .collect();
    let wanted = [
        ["auth", "done", "the log, ticket 9"],
        ["crm", "succeeded", repair],
        ["crm", "succeeded", complaint],
    ];
    ensure!(seen == wanted, "{placement:?}: {told:?}");
    ensure!(told.iter().all(|entry| entry.actor == operator.user_id), "{told:?}");
    let when = told[2].time.as_ref().map_or(0, |time| time.seconds);
    let now = chrono::Utc::now().timestamp();
    ensure!((begun..=now).contains(&when), "{begun} to {now}: {told:?}");
    for (entry, rpc) in told.iter().zip([
        "rowhouse.auth.v1.AuditService/ListAuditEntries",
        "rowhouse.crm.v1.ContactService/CreateContact",
        "rowhouse.crm.v1.ContactService/ListContacts",
    ]) {
        ensure!(format!("{:?}", entry.after).contains(rpc), "{entry:?}");
    }
    let of_change = audit::filter(|filter| filter.target = made.id.clone());
    let change = audit::list(&house.administrator.caller, of_change).await?;
    let change: Vec<[&str; 3]> = change
        .iter()
        .map(|entry| [entry.action.as_str(), &entry.actor, &entry.reason])
        .collect();
    ensure!(change == [["contacts:create", &operator.user_id, repair]], "{change:?}");
    Ok(())
}
