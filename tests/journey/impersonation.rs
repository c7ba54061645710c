//! An operator acts as a member, in every placement: sees what they see, stands in the log by name, opens nothing that would
//! last, and is out when any of it ends.

use anyhow::{Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::journey;
use rowhouse_proto::auth::v1::{
    AuditEntry, AuditFilter, ChangePasswordRequest, CreateApiKeyRequest, EndImpersonationRequest,
    ListAuditEntriesRequest, ListImpersonationsRequest, ListSessionsRequest, LogoutRequest, RenewImpersonationRequest,
    RevokeSessionRequest, RunningImpersonation, StartImpersonationRequest, UpdateMemberRequest, WhoAmIRequest,
};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::crm::v1::{GetContactRequest, ListContactsRequest};
use rowhouse_proto::well_known;
use rowhouse_proto::worker::v1::RunReportRequest;
use rowhouse_types::UserId;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::world::{House, PLACEMENTS, World, slug_in};

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

async fn contacts(caller: &Caller) -> Result<usize, Status> {
    let listed = caller.contacts().list_contacts(ListContactsRequest::default()).await?;
    Ok(listed.into_inner().contacts.len())
}

#[tokio::test]
async fn an_operator_acts_as_a_member_for_a_while() -> Result<()> {
    let world = World::start("impersonation").await?;
    for placement in PLACEMENTS {
        acts_in(&world, placement).await?;
    }
    Ok(())
}

async fn acts_in(world: &World, placement: Placement) -> Result<()> {
    let house = world.house_in(placement, &slug_in(placement, "acme")).await?;
    let own = journey::create_contact(&house.user.caller, "Of the user", "").await?;
    let theirs = journey::create_contact(&house.administrator.caller, "Of the administrator", "").await?;

    let started = world.as_member(&house, &house.user).await?;
    let inside = world.anyone.with_token(&started.access_token)?;
    ensure!(contacts(&inside).await? == 1, "what the user sees");
    inside.contacts().get_contact(GetContactRequest { id: own.id }).await?;
    let beyond = inside.contacts().get_contact(GetContactRequest { id: theirs.id }).await;
    ensure!(beyond.unwrap_err().code() == Code::NotFound, "and not more");
    let made = journey::create_contact(&inside, "Made by the operator", "").await?;
    ensure!(made.owner_id == house.user.tokens.user_id, "{made:?}");

    let request = ListAuditEntriesRequest {
        filter: Some(AuditFilter {
            actor: house.user.tokens.user_id.clone(),
            ..AuditFilter::default()
        }),
        ..ListAuditEntriesRequest::default()
    };
    let listed = house
        .administrator
        .caller
        .audit()
        .list_audit_entries(request)
        .await?
        .into_inner();
    let operator = world
        .operator
        .auth()
        .who_am_i(WhoAmIRequest {})
        .await?
        .into_inner()
        .user_id;
    let written = listed.entries.iter().find(|entry| entry.target == made.id);
    let is_told = |entry: &AuditEntry| entry.actor == operator && entry.reason == started.session_id;
    ensure!(written.is_some_and(is_told), "{listed:?}");
    let request = ListAuditEntriesRequest {
        filter: Some(AuditFilter {
            action: "impersonation.start".to_owned(),
            ..AuditFilter::default()
        }),
        ..ListAuditEntriesRequest::default()
    };
    let listed = house
        .administrator
        .caller
        .audit()
        .list_audit_entries(request)
        .await?
        .into_inner();
    ensure!(
        listed.entries.iter().any(|entry| entry.reason == "a complaint"
            && entry.actor == operator
            && entry.target == house.user.tokens.user_id),
        "{listed:?}"
    );

    // What is about an account, and what would outlast it, with an administrator's rights even.
    let as_administrator = world.as_member(&house, &house.administrator).await?;
    let inside = world.anyone.with_token(&as_administrator.access_token)?;
    let refusals = [
        inside
            .account()
            .change_password(ChangePasswordRequest::default())
            .await
            .unwrap_err(),
        inside
            .account()
            .list_sessions(ListSessionsRequest::default())
            .await
            .unwrap_err(),
        inside.auth().who_am_i(WhoAmIRequest {}).await.unwrap_err(),
        inside.auth().logout(LogoutRequest::default()).await.unwrap_err(),
        inside
            .members()
            .update_member(UpdateMemberRequest::default())
            .await
            .unwrap_err(),
        inside
            .service_accounts()
            .create_api_key(CreateApiKeyRequest::default())
            .await
            .unwrap_err(),
        inside
            .reports()
            .run_report(RunReportRequest::default())
            .await
            .unwrap_err(),
        inside
            .audit()
            .list_audit_entries(ListAuditEntriesRequest::default())
            .await
            .unwrap_err(),
        journey::invite(&inside, "back-door@rowhouse.example", "tenant_admin")
            .await
            .unwrap_err()
            .downcast::<Status>()?,
    ];
    for refused in refusals {
        ensure!(reason(&refused) == "IMPERSONATION_FORBIDS", "{refused:?}");
    }
    let refused = inside
        .impersonation()
        .renew_impersonation(RenewImpersonationRequest {
            session_id: as_administrator.session_id.clone(),
        })
        .await
        .unwrap_err();
    ensure!(reason(&refused) == "AUDIENCE_MISMATCH", "{refused:?}");
    let refused = inside.with("x-tenant-id", &rowhouse_types::TenantId::generate().to_string())?;
    ensure!(reason(&contacts(&refused).await.unwrap_err()) == "TENANT_MISMATCH");
    Ok(())
}

/// Who acts as a member of the tenant, as operators see it.
async fn running(world: &World, house: &House) -> Result<Vec<RunningImpersonation>> {
    let request = ListImpersonationsRequest {
        tenant_id: house.tenant.id.clone(),
        ..ListImpersonationsRequest::default()
    };
    let listed = world.operator.impersonation().list_impersonations(request).await?;
    Ok(listed.into_inner().impersonations)
}

#[tokio::test]
async fn it_is_over_at_once_when_the_operator_or_the_member_ends_it() -> Result<()> {
    let world = World::start("impersonation-ends").await?;
    for placement in PLACEMENTS {
        ends_in(&world, placement).await?;
    }
    Ok(())
}

async fn ends_in(world: &World, placement: Placement) -> Result<()> {
    let house = world.house_in(placement, &slug_in(placement, "acme")).await?;
    let over = |outcome: Result<usize, Status>| {
        let refused = outcome.expect_err("it is over");
        reason(&refused) == "SESSION_REVOKED"
    };

    let started = world.as_member(&house, &house.user).await?;
    let inside = world.anyone.with_token(&started.access_token)?;
    contacts(&inside).await?;
    let seen = running(world, &house).await?;
    ensure!(seen.len() == 1 && seen[0].session_id == started.session_id, "{seen:?}");
    ensure!(
        seen[0].user_id == started.user_id && seen[0].end_time == started.end_time,
        "{seen:?}"
    );
    let end = EndImpersonationRequest {
        session_id: started.session_id.clone(),
    };
    world.operator.impersonation().end_impersonation(end).await?;
    ensure!(over(contacts(&inside).await), "ended by the operator");
    ensure!(running(world, &house).await?.is_empty(), "and listed no more");
    let renew = RenewImpersonationRequest {
        session_id: started.session_id,
    };
    let refused = world.operator.impersonation().renew_impersonation(renew).await;
    ensure!(refused.unwrap_err().code() == Code::NotFound);

    let started = world.as_member(&house, &house.user).await?;
    let inside = world.anyone.with_token(&started.access_token)?;
    contacts(&inside).await?;
    let mut account = house.user.caller.account();
    let listed = account
        .list_sessions(ListSessionsRequest::default())
        .await?
        .into_inner();
    let seen = listed.sessions.iter().find(|session| session.id == started.session_id);
    ensure!(seen.is_some_and(|session| session.impersonated), "{listed:?}");
    account
        .revoke_session(RevokeSessionRequest {
            session_id: started.session_id,
        })
        .await?;
    ensure!(over(contacts(&inside).await), "ended by the member");

    // The session that it was opened in.
    let tokens = world.operator_tokens().await?;
    let operator = world.anyone.with_token(&tokens.access_token)?;
    let request = StartImpersonationRequest {
        tenant_id: house.tenant.id.clone(),
        user_id: house.user.tokens.user_id.clone(),
        reason: "a complaint".to_owned(),
        duration: Some(well_known::Duration { seconds: 60, nanos: 0 }),
    };
    let started = operator
        .impersonation()
        .start_impersonation(request.clone())
        .await?
        .into_inner();
    let inside = world.anyone.with_token(&started.access_token)?;
    contacts(&inside).await?;
    operator.auth().logout(LogoutRequest::default()).await?;
    ensure!(over(contacts(&inside).await), "the operator has logged out");

    let bad = [
        (
            StartImpersonationRequest {
                reason: String::new(),
                ..request.clone()
            },
            Code::InvalidArgument,
        ),
        (
            StartImpersonationRequest {
                user_id: "user_".to_owned(),
                ..request.clone()
            },
            Code::InvalidArgument,
        ),
        (
            StartImpersonationRequest {
                duration: Some(well_known::Duration {
                    seconds: 3_601,
                    nanos: 0,
                }),
                ..request.clone()
            },
            Code::InvalidArgument,
        ),
        (
            StartImpersonationRequest {
                duration: Some(well_known::Duration {
                    seconds: 59,
                    nanos: 999_999_999,
                }),
                ..request.clone()
            },
            Code::InvalidArgument,
        ),
        (
            StartImpersonationRequest {
                user_id: UserId::generate().to_string(),
                ..request.clone()
            },
            Code::NotFound,
        ),
    ];
    for (request, code) in bad {
        let refused = world
            .operator
            .impersonation()
            .start_impersonation(request)
            .await
            .unwrap_err();
        ensure!(refused.code() == code, "{refused:?}");
    }
    let member = &house.administrator.caller;
    let refused = member.impersonation().start_impersonation(request).await.unwrap_err();
    ensure!(reason(&refused) == "AUDIENCE_MISMATCH", "{refused:?}");
    Ok(())
}
