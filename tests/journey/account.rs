//! A person's account over its whole life: a second tenant, a forgotten password, a new address, the way out.

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::journey::{self, BACKGROUND_MAX};
use rowhouse_devkit::smtp::Mail;
use rowhouse_proto::auth::v1::{
    AuditEntry, AuditFilter, ChangeEmailRequest, ConfirmEmailRequest, LeaveTenantRequest, ListInvitationsRequest,
    ListSessionsRequest, ListTenantsRequest, RequestPasswordResetRequest, ResendInvitationRequest,
    ResetPasswordRequest, RevokeInvitationRequest, RevokeSessionRequest, SwitchTenantRequest, WhoAmIRequest,
};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::crm::v1::ListContactsRequest;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::audit;
use crate::support::world::{PASSWORD, PLACEMENTS, World, slug_in};

const NEW_PASSWORD: &str = "an entirely different sentence";

/// The newest mail to an address with this subject.
async fn mail(world: &World, address: &str, subject: &str) -> Result<Mail> {
    let wanted = |mail: &Mail| mail.subject == subject;
    let mail = world.suite.wait_for_mail(address, BACKGROUND_MAX, wanted).await;
    mail.with_context(|| format!("{subject:?} to {address}"))
}

/// What a tenant's log says was done of this kind.
async fn done(administrator: &Caller, action: &str) -> Result<Vec<AuditEntry>> {
    let filter = audit::filter(|filter| filter.action = action.to_owned());
    audit::list(administrator, filter).await
}

#[tokio::test]
async fn a_person_recovers_an_account_and_moves_it_to_another_address() -> Result<()> {
    let world = World::start("account").await?;
    for placement in PLACEMENTS {
        recovery_in(&world, placement).await?;
    }
    let strays = world.suite.mails()?;
    let strays = strays
        .iter()
        .filter(|mail| mail.to.iter().any(|to| to.starts_with("nobody@")))
        .count();
    ensure!(strays == 0, "a mail went to an address without an account");
    Ok(())
}

async fn recovery_in(world: &World, placement: Placement) -> Result<()> {
    let slug = slug_in(placement, "acme");
    let (tenant, administrator, user) = world.pair_in(placement, &slug).await?;
    let (old, new) = (user.email.as_str(), format!("ada@elsewhere-{slug}.example"));

    // Somebody who was invited nowhere gets no mail, and hears the same.
    for email in [format!("nobody@{slug}.example").as_str(), old] {
        let request = RequestPasswordResetRequest {
            email: email.to_owned(),
        };
        world.anyone.recovery().request_password_reset(request).await?;
    }
    let token = journey::link_token(&mail(world, old, "Choose a new password for Rowhouse").await?)?;
    let reset = ResetPasswordRequest {
        token,
        new_password: NEW_PASSWORD.to_owned(),
    };
    world.anyone.recovery().reset_password(reset.clone()).await?;
    let ended = user.caller.auth().who_am_i(WhoAmIRequest {}).await.unwrap_err();
    ensure!(
        ended.code() == Code::Unauthenticated,
        "a session under the forgotten password: {ended:?}"
    );
    let again = world.anyone.recovery().reset_password(reset).await.unwrap_err();
    let reason = again.get_error_details().error_info().map(|info| info.reason.clone());
    ensure!(
        reason.as_deref() == Some("LINK_INVALID"),
        "the link a second time: {again:?}"
    );
    mail(world, old, "Your password for Rowhouse was changed").await?;
    let tokens = journey::log_in(&world.anyone, old, NEW_PASSWORD, &tenant.id).await?;
    let person = world.anyone.with_token(&tokens.access_token)?;

    let change = ChangeEmailRequest {
        new_email: new.clone(),
        current_password: NEW_PASSWORD.to_owned(),
        code: String::new(),
    };
    person.account().change_email(change).await?;
    let token = journey::link_token(&mail(world, &new, "Confirm your new address for Rowhouse").await?)?;
    world
        .anyone
        .recovery()
        .confirm_email(ConfirmEmailRequest { token })
        .await?;
    mail(world, old, "Your address for Rowhouse was changed").await?;
    let known = person.auth().who_am_i(WhoAmIRequest {}).await?.into_inner();
    ensure!(known.email == new, "{known:?}");
    // Who follows a link is logged in nowhere, and the tenant reads of it all the same.
    for action in ["password.reset", "email.change"] {
        let told = done(&administrator.caller, action).await?;
        ensure!(
            told.len() == 1 && told[0].target == known.user_id && told[0].actor == known.user_id,
            "{action}: {told:?}"
        );
    }
    ensure!(
        journey::log_in(&world.anyone, old, NEW_PASSWORD, "").await.is_err(),
        "the old address logs nobody in"
    );
    let contacts = person.contacts().list_contacts(ListContactsRequest::default()).await;
    ensure!(contacts.is_ok(), "they are in the tenant as before: {contacts:?}");
    Ok(())
}

#[tokio::test]
async fn a_person_of_two_tenants_switches_looks_after_their_sessions_and_leaves() -> Result<()> {
    let world = World::start("account-tenants").await?;
    for placement in PLACEMENTS {
        two_tenants_in(&world, placement).await?;
    }
    Ok(())
}

async fn two_tenants_in(world: &World, placement: Placement) -> Result<()> {
    let (acme, head_of_acme, user) = world.pair_in(placement, &slug_in(placement, "acme")).await?;
    let (globex, head_of_globex) = world.tenant_in(placement, &slug_in(placement, "globex")).await?;
    let email = user.email.as_str();
    let mut members = head_of_globex.caller.members();

    // Invited, sent again, and in.
    journey::invite(&head_of_globex.caller, email, "user").await?;
    let open = members
        .list_invitations(ListInvitationsRequest::default())
        .await?
        .into_inner();
    let [invitation] = open.invitations.as_slice() else {
        anyhow::bail!("one invitation is open: {open:?}");
    };
    let resend = ResendInvitationRequest {
        invitation_id: invitation.id.clone(),
    };
    let sent = members.resend_invitation(resend).await?.into_inner();
    let revoke = RevokeInvitationRequest {
        invitation_id: invitation.id.clone(),
    };
    let replaced = members.revoke_invitation(revoke).await.unwrap_err();
    ensure!(
        replaced.code() == Code::NotFound,
        "the first was replaced: {replaced:?}"
    );
    ensure!(sent.email == email, "{sent:?}");
    // Of two mails, only the newer link is good; they come in any order.
    let subject = format!("You are invited to {} on Rowhouse", globex.display_name);
    let first = journey::link_token(&mail(world, email, &subject).await?)?;
    let mut joined = journey::accept(&world.anyone, &first, "A Member", PASSWORD)
        .await
        .is_ok();
    if !joined {
        let other = |mail: &Mail| mail.subject == subject && !mail.text.contains(&first);
        let second = journey::link_token(&world.suite.wait_for_mail(email, BACKGROUND_MAX, other).await?)?;
        joined = journey::accept(&world.anyone, &second, "A Member", PASSWORD)
            .await
            .is_ok();
    }
    ensure!(joined, "the link that was sent again is good");

    let person = &user.caller;
    let tenants = person
        .account()
        .list_tenants(ListTenantsRequest::default())
        .await?
        .into_inner()
        .tenants;
    let mut names: Vec<&str> = tenants.iter().map(|tenant| tenant.display_name.as_str()).collect();
    names.sort_unstable();
    ensure!(names == [&acme.display_name, &globex.display_name], "{tenants:?}");
    let switch = SwitchTenantRequest {
        tenant_id: globex.id.clone(),
    };
    let there = person.account().switch_tenant(switch).await?.into_inner();
    let in_globex = world.anyone.with_token(&there.access_token)?;
    let contacts = in_globex.contacts().list_contacts(ListContactsRequest::default()).await;
    ensure!(
        contacts.is_ok(),
        "the new token is good in the other tenant: {contacts:?}"
    );

    let sessions = person
        .account()
        .list_sessions(ListSessionsRequest::default())
        .await?
        .into_inner()
        .sessions;
    ensure!(
        sessions.len() == 2 && sessions[0].id == there.session_id && sessions[1].current,
        "{sessions:?}"
    );
    ensure!(
        sessions.iter().all(|session| !session.address.is_empty()),
        "{sessions:?}"
    );
    let revoke = RevokeSessionRequest {
        session_id: there.session_id.clone(),
    };
    person.account().revoke_session(revoke).await?;
    let ended = in_globex.auth().who_am_i(WhoAmIRequest {}).await.unwrap_err();
    ensure!(ended.code() == Code::Unauthenticated, "{ended:?}");
    // It stands in the log of the tenant that it was in, without where the person is now; and nothing in the other's.
    let administrators = [&head_of_acme.caller, &head_of_globex.caller];
    for (administrator, own) in administrators.into_iter().zip([false, true]) {
        let told = done(administrator, "session.revoke").await?;
        let named = told
            .iter()
            .filter(|entry| entry.target == there.session_id && entry.address.is_empty());
        ensure!(
            named.count() == usize::from(own) && told.len() == usize::from(own),
            "{told:?}"
        );
    }

    // They leave the tenant in which they are, and no other.
    let switch = SwitchTenantRequest {
        tenant_id: globex.id.clone(),
    };
    let leave = LeaveTenantRequest {
        tenant_id: globex.id.clone(),
    };
    let there = person.account().switch_tenant(switch.clone()).await?.into_inner();
    let in_globex = world.anyone.with_token(&there.access_token)?;
    let elsewhere = person.account().leave_tenant(leave.clone()).await.unwrap_err();
    ensure!(elsewhere.code() == Code::InvalidArgument, "{elsewhere:?}");
    in_globex.account().leave_tenant(leave).await?;
    let ended = in_globex.auth().who_am_i(WhoAmIRequest {}).await.unwrap_err();
    ensure!(ended.code() == Code::Unauthenticated, "{ended:?}");
    let gone = person.account().switch_tenant(switch).await.unwrap_err();
    ensure!(gone.code() == Code::NotFound, "{gone:?}");
    let known = person.auth().who_am_i(WhoAmIRequest {}).await?.into_inner();
    let tenants = person
        .account()
        .list_tenants(ListTenantsRequest::default())
        .await?
        .into_inner()
        .tenants;
    ensure!(
        tenants.len() == 1 && tenants[0].tenant_id == acme.id,
        "the other tenant is untouched: {tenants:?}"
    );
    // Who stays reads of it in the log, under the name of who has left.
    let log = done(&head_of_globex.caller, "member.leave").await?;
    let [entry] = log.as_slice() else {
        anyhow::bail!("one has left: {log:?}");
    };
    ensure!(
        entry.actor == known.user_id && entry.target == known.user_id,
        "{entry:?}"
    );
    // Neither log names the other tenant, or a session in it.
    let sessions = [&user.tokens.session_id, &there.session_id];
    let others = [
        (&head_of_acme, [&globex.id, sessions[1]]),
        (&head_of_globex, [&acme.id, sessions[0]]),
    ];
    for (administrator, foreign) in others {
        let log = audit::list(&administrator.caller, AuditFilter::default()).await?;
        let log = format!("{log:?}");
        ensure!(
            !foreign.iter().any(|id| log.contains(id.as_str())),
            "{foreign:?}: {log}"
        );
    }
    Ok(())
}
