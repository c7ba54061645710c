//! The main job of the suite, step by step, over gRPC: shared by `cargo xtask demo`, the tests and the seeding of the
//! demo tenants. Each step checks what it got; a deviation is an error that says what was expected.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rowhouse_proto::auth::v1::{AcceptInvitationRequest, InviteMemberRequest, LoginRequest, TokenPair};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::crm::v1::{
    Contact, CreateContactRequest, DeleteContactRequest, GetContactRequest, ListContactsRequest,
    UndeleteContactRequest, UpdateContactRequest,
};
use rowhouse_proto::tenant::v1::{CreateTenantRequest, Tenant, TenantState};
use rowhouse_proto::well_known::FieldMask;
use rowhouse_proto::worker::v1::{
    DownloadReportRequest, GetReportRequest, Report, ReportKind, ReportState, RunReportRequest,
};
use uuid::Uuid;

use crate::caller::Caller;
use crate::smtp::Mail;

/// Longest wait for work in the background, such as a mail or a report.
pub const BACKGROUND_MAX: Duration = Duration::from_secs(30);

/// Logs in.
///
/// # Errors
/// The refusal.
pub async fn log_in(anyone: &Caller, email: &str, password: &str, tenant_id: &str) -> Result<TokenPair> {
    let request = LoginRequest {
        email: email.to_owned(),
        password: password.to_owned(),
        tenant_id: tenant_id.to_owned(),
        second_factor: String::new(),
        device_secret: String::new(),
    };
    Ok(anyone.auth().login(request).await.context("Login")?.into_inner())
}

/// Creates a tenant and checks that it is active.
///
/// # Errors
/// The refusal, or a tenant that is not active.
pub async fn create_tenant(
    operator: &Caller,
    slug: &str,
    display_name: &str,
    administrator_email: &str,
) -> Result<Tenant> {
    create_tenant_in(operator, Placement::Schema, slug, display_name, administrator_email).await
}

/// As [`create_tenant`], in any placement.
///
/// # Errors
/// As [`create_tenant`], and where the tenant is in another placement.
pub async fn create_tenant_in(
    operator: &Caller,
    placement: Placement,
    slug: &str,
    display_name: &str,
    administrator_email: &str,
) -> Result<Tenant> {
    let request = CreateTenantRequest {
        tenant: Some(Tenant {
            slug: slug.to_owned(),
            display_name: display_name.to_owned(),
            placement: placement.into(),
            ..Tenant::default()
        }),
        administrator_email: administrator_email.to_owned(),
        request_id: Uuid::new_v4().to_string(),
        ..CreateTenantRequest::default()
    };
    let tenant = operator
        .tenants()
        .create_tenant(request)
        .await
        .context("CreateTenant")?
        .into_inner();
    ensure!(
        tenant.state() == TenantState::Active,
        "the tenant should be active and is {:?}",
        tenant.state()
    );
    ensure!(
        tenant.placement() == placement,
        "the tenant should be in {placement:?} and is in {:?}",
        tenant.placement()
    );
    Ok(tenant)
}

/// Invites a member with a role.
///
/// # Errors
/// The refusal.
pub async fn invite(administrator: &Caller, email: &str, role: &str) -> Result<()> {
    let request = InviteMemberRequest {
        email: email.to_owned(),
        role: role.to_owned(),
        request_id: Uuid::new_v4().to_string(),
    };
    administrator
        .members()
        .invite_member(request)
        .await
        .context("InviteMember")?;
    Ok(())
}

/// The token of the link in a mail.
///
/// # Errors
/// When the mail holds none.
pub fn link_token(mail: &Mail) -> Result<String> {
    let (_, rest) = mail
        .text
        .split_once("#token=")
        .context("the mail should hold a link with a token")?;
    let token: String = rest.chars().take_while(|c| !c.is_whitespace()).collect();
    ensure!(
        token.len() >= 32,
        "the token should be hard to guess and has {} characters",
        token.len()
    );
    Ok(token)
}

/// Accepts an invitation; answers the identity's id.
///
/// # Errors
/// The refusal.
pub async fn accept(anyone: &Caller, token: &str, display_name: &str, password: &str) -> Result<String> {
    let request = AcceptInvitationRequest {
        token: token.to_owned(),
        display_name: display_name.to_owned(),
        password: password.to_owned(),
        device_secret: String::new(),
    };
    let accepted = anyone
        .auth()
        .accept_invitation(request)
        .await
        .context("AcceptInvitation")?
        .into_inner();
    Ok(accepted.user_id)
}

/// Creates a contact.
///
/// # Errors
/// The refusal.
pub async fn create_contact(member: &Caller, display_name: &str, email: &str) -> Result<Contact> {
    let contact = Contact {
        display_name: display_name.to_owned(),
        email: email.to_owned(),
        ..Contact::default()
    };
    let request = CreateContactRequest {
        contact: Some(contact),
        request_id: Uuid::new_v4().to_string(),
    };
    Ok(member
        .contacts()
        .create_contact(request)
        .await
        .context("CreateContact")?
        .into_inner())
}

/// Takes contacts through their life: create, get, list, update, stale update, delete, undelete. Two remain.
///
/// # Errors
/// The first deviation.
pub async fn contacts(member: &Caller) -> Result<[Contact; 2]> {
    let ada = create_contact(member, "Ada Lovelace", "Ada@Example.com").await?;
    let grace = create_contact(member, "Grace Hopper", "grace@example.com").await?;
    let read = member
        .contacts()
        .get_contact(GetContactRequest { id: ada.id.clone() })
        .await
        .context("GetContact")?
        .into_inner();
    ensure!(
        read == ada,
        "GetContact should answer what CreateContact did: {read:?} and {ada:?}"
    );

    let filter = "email = \"ada@example.com\"".to_owned();
    let listed = member
        .contacts()
        .list_contacts(ListContactsRequest {
            filter,
            ..Default::default()
        })
        .await
        .context("ListContacts")?
        .into_inner();
    ensure!(
        listed.contacts == [ada.clone()],
        "the filter should find Ada alone: {listed:?}"
    );

    let changed = Contact {
        id: ada.id.clone(),
        company: "Analytical Engines".to_owned(),
        etag: ada.etag.clone(),
        ..Contact::default()
    };
    let mask = FieldMask {
        paths: vec!["company".to_owned()],
    };
    let update = UpdateContactRequest {
        contact: Some(changed),
        update_mask: Some(mask),
    };
    let updated = member
        .contacts()
        .update_contact(update.clone())
        .await
        .context("UpdateContact")?
        .into_inner();
    ensure!(
        updated.company == "Analytical Engines" && updated.display_name == ada.display_name,
        "only the company should change: {updated:?}"
    );
    match member.contacts().update_contact(update).await {
        Err(status) if status.code() == tonic::Code::Aborted => {}
        other => bail!("an update with a stale etag should be ABORTED: {other:?}"),
    }

    let delete = DeleteContactRequest {
        id: grace.id.clone(),
        etag: String::new(),
    };
    member
        .contacts()
        .delete_contact(delete)
        .await
        .context("DeleteContact")?;
    match member
        .contacts()
        .get_contact(GetContactRequest { id: grace.id.clone() })
        .await
    {
        Err(status) if status.code() == tonic::Code::NotFound => {}
        other => bail!("a deleted contact should be NOT_FOUND: {other:?}"),
    }
    let undelete = UndeleteContactRequest {
        id: grace.id.clone(),
        etag: String::new(),
    };
    let back = member
        .contacts()
        .undelete_contact(undelete)
        .await
        .context("UndeleteContact")?
        .into_inner();
    ensure!(
        back.delete_time.is_none(),
        "an undeleted contact should have no delete_time: {back:?}"
    );
    Ok([updated, back])
}

/// Asks for a contacts report.
///
/// # Errors
/// The refusal.
pub async fn run_report(member: &Caller) -> Result<Report> {
    let request = RunReportRequest {
        kind: ReportKind::Contacts.into(),
        request_id: Uuid::new_v4().to_string(),
    };
    Ok(member
        .reports()
        .run_report(request)
        .await
        .context("RunReport")?
        .into_inner())
}

/// Waits until a report has ended, well or not. A service that is away in between is waited for.
///
/// # Errors
/// When it has not ended within `bound`.
pub async fn finished_report(member: &Caller, id: &str, bound: Duration) -> Result<Report> {
    let until = Instant::now() + bound;
    let mut seen = String::from("nothing");
    while Instant::now() < until {
        match member
            .reports()
            .get_report(GetReportRequest { id: id.to_owned() })
            .await
        {
            Ok(answer) if matches!(answer.get_ref().state(), ReportState::Succeeded | ReportState::Failed) => {
                return Ok(answer.into_inner());
            }
            Ok(answer) => {
                seen = format!(
                    "{:?} at {} %",
                    answer.get_ref().state(),
                    answer.get_ref().progress_percent
                )
            }
            Err(status) if status.code() == tonic::Code::Unavailable => seen = status.message().to_owned(),
            Err(status) => return Err(status).context("GetReport"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("the report should have ended within {bound:?}; last seen: {seen}")
}

/// Downloads a report's file.
///
/// # Errors
/// The refusal.
pub async fn download(member: &Caller, id: &str) -> Result<Vec<u8>> {
    let mut stream = member
        .reports()
        .download_report(DownloadReportRequest { id: id.to_owned() })
        .await
        .context("DownloadReport")?
        .into_inner();
    let mut file = Vec::new();
    while let Some(part) = stream.message().await.context("DownloadReport")? {
        file.extend_from_slice(&part.chunk);
    }
    Ok(file)
}

/// Checks a report and its file.
///
/// # Errors
/// When the report failed, or the file does not hold exactly these contacts.
pub fn check_report(report: &Report, file: &[u8], contacts: &[Contact]) -> Result<()> {
    ensure!(
        report.state() == ReportState::Succeeded,
        "the report should have succeeded: {report:?}"
    );
    ensure!(
        report.row_count == contacts.len() as i64,
        "the report should count {} rows: {report:?}",
        contacts.len()
    );
    ensure!(
        report.size_bytes == file.len() as i64,
        "the report should be {} bytes long: {report:?}",
        file.len()
    );
    let text = std::str::from_utf8(file).context("the file should be UTF-8")?;
    ensure!(
        text.lines().count() == contacts.len() + 1,
        "the file should have a header and {} rows:\n{text}",
        contacts.len()
    );
    for contact in contacts {
        ensure!(
            text.contains(&contact.id) && text.contains(&contact.email),
            "the file should hold {}:\n{text}",
            contact.id
        );
    }
    Ok(())
}
