//! T18 in short form: each process is killed with SIGKILL in the middle of its part of the journey, with a tenant in every
//! placement. After a restart the journey completes; every effect is there exactly once.

mod homes;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::journey::{self, BACKGROUND_MAX};
use rowhouse_devkit::suite::Process;
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::crm::v1::{Contact, CreateContactRequest, ListContactsRequest};
use rowhouse_proto::tenant::v1::{CreateTenantRequest, ListTenantsRequest, Tenant, TenantState};
use rowhouse_proto::worker::v1::{GetReportRequest, ReportState};

use crate::support::cut::{surely, was_cut};
use crate::support::world::{Member, PLACEMENTS, World, slug_in};

/// Contacts made in each tenant while crm is killed; enough that the kill falls into the middle.
const WRITES: usize = 20;

/// A tenant in each placement, with its administrator.
async fn tenants(world: &World) -> Result<Vec<(Tenant, Member)>> {
    let mut tenants = Vec::new();
    for placement in PLACEMENTS {
        tenants.push(world.tenant_in(placement, &slug_in(placement, "acme")).await?);
    }
    Ok(tenants)
}

/// Repeats a create with the same request id until it is answered.
async fn create_surely(member: Caller, number: usize) -> Result<Contact> {
    let contact = Contact {
        display_name: format!("Contact {number}"),
        email: format!("c{number}@example.com"),
        ..Contact::default()
    };
    let request = CreateContactRequest {
        contact: Some(contact),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let create = || async { Ok(member.contacts().create_contact(request.clone()).await?.into_inner()) };
    surely(&format!("contact {number}"), &AtomicUsize::new(0), create).await
}

pub(super) async fn all_contacts(member: &Caller) -> Result<Vec<Contact>> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListContactsRequest {
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let page = member.contacts().list_contacts(request).await?.into_inner();
        all.extend(page.contacts);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

#[tokio::test]
async fn crm_is_killed_while_contacts_are_written() -> Result<()> {
    let world = World::start("kill-crm").await?;
    let tenants = tenants(&world).await?;

    let mut writers = tokio::task::JoinSet::new();
    for number in 0..WRITES {
        for (at, (_, administrator)) in tenants.iter().enumerate() {
            let write = create_surely(administrator.caller.clone(), number);
            writers.spawn(async move { anyhow::Ok((at, write.await?.id)) });
        }
    }
    let mut acknowledged = BTreeSet::new();
    while let Some(written) = writers.join_next().await {
        acknowledged.insert(written??);
        if acknowledged.len() == WRITES * tenants.len() / 4 {
            world.suite.kill9(Process::Crm).await?;
            world.suite.restart(Process::Crm).await?;
        }
    }
    let mut kept = Vec::new();
    for (at, (_, administrator)) in tenants.iter().enumerate() {
        let contacts = all_contacts(&administrator.caller).await?;
        assert_eq!(contacts.len(), WRITES, "each create has exactly one effect");
        kept.extend(contacts.into_iter().map(|contact| (at, contact.id)));
    }
    assert_eq!(
        kept.into_iter().collect::<BTreeSet<_>>(),
        acknowledged,
        "what was acknowledged is there, and nothing else"
    );
    Ok(())
}

#[tokio::test]
async fn crm_and_worker_are_killed_while_a_report_is_made() -> Result<()> {
    let world = World::start("kill-report").await?;
    for (_, administrator) in tenants(&world).await? {
        reports_of(&world, &administrator).await?;
    }
    Ok(())
}

async fn reports_of(world: &World, ada: &Member) -> Result<()> {
    let contacts = journey::contacts(&ada.caller).await?;
    for process in [Process::Crm, Process::Worker] {
        // The report cannot end before the kill: without the provider of its rows it waits in the worker.
        world.suite.kill9(Process::Crm).await?;
        let report = journey::run_report(&ada.caller).await?;
        wait_until_running(&ada.caller, &report.id).await?;
        if process == Process::Worker {
            world.suite.kill9(Process::Worker).await?;
            world.suite.restart(Process::Worker).await?;
        }
        world.suite.restart(Process::Crm).await?;

        let ended = journey::finished_report(&ada.caller, &report.id, BACKGROUND_MAX).await?;
        let file = journey::download(&ada.caller, &report.id).await?;
        journey::check_report(&ended, &file, &contacts)?;
        world
            .suite
            .wait_for_mail(&ada.email, BACKGROUND_MAX, |mail| mail.text.contains(&report.id))
            .await?;
        assert_eq!(
            mails(world, &ada.email, &report.id)?,
            1,
            "one mail says that {process:?}'s report is ready"
        );
    }
    Ok(())
}

async fn wait_until_running(member: &Caller, id: &str) -> Result<()> {
    let until = Instant::now() + BACKGROUND_MAX;
    while Instant::now() < until {
        let report = member
            .reports()
            .get_report(GetReportRequest { id: id.to_owned() })
            .await?
            .into_inner();
        ensure!(report.state() != ReportState::Failed, "{report:?}");
        if report.state() == ReportState::Running {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("the report was never taken up")
}

/// Distinct mails to an address with a text in them: one that SMTP cut may come twice, with the same Message-ID.
fn mails(world: &World, address: &str, text: &str) -> Result<usize> {
    let mails = world.suite.mails()?;
    let wanted = mails
        .iter()
        .filter(|mail| mail.to.iter().any(|to| to == address) && mail.text.contains(text));
    Ok(wanted
        .map(|mail| mail.message_id.clone())
        .collect::<BTreeSet<_>>()
        .len())
}

#[tokio::test]
async fn tenant_is_killed_while_a_tenant_is_created() -> Result<()> {
    let world = World::start("kill-tenant").await?;
    // Without provision the saga stands still in its middle: the slug is reserved, the home is not there.
    world.suite.kill9(Process::CrmProvision).await?;
    let requests = PLACEMENTS.map(creation);
    let mut cut_off = tokio::task::JoinSet::new();
    for request in requests.clone() {
        let operator = world.operator.clone();
        cut_off.spawn(async move { operator.tenants().create_tenant(request).await });
    }
    wait_for_tenants(&world, TenantState::Provisioning).await?;
    world.suite.kill9(Process::Tenant).await?;
    while let Some(answer) = cut_off.join_next().await {
        assert!(answer?.is_err(), "the call was cut off");
    }
    world.suite.restart(Process::CrmProvision).await?;
    world.suite.restart(Process::Tenant).await?;

    let tenants = wait_for_tenants(&world, TenantState::Active).await?;
    for request in requests {
        let address = request.administrator_email.clone();
        let repeated = world.operator.tenants().create_tenant(request).await?.into_inner();
        let is_it = |tenant: &Tenant| (&tenant.id, &tenant.slug) == (&repeated.id, &repeated.slug);
        assert!(
            tenants.iter().any(is_it),
            "the repeated call answers the tenant that the first one made: {repeated:?}"
        );
        let ada = world.join(&repeated.id, &address).await?;
        journey::contacts(&ada.caller).await?;
        assert_eq!(mails(&world, &address, "Acme Ltd")?, 1, "one invitation");
    }
    Ok(())
}

fn creation(placement: Placement) -> CreateTenantRequest {
    let slug = slug_in(placement, "acme");
    CreateTenantRequest {
        administrator_email: format!("ada@{slug}.example"),
        tenant: Some(Tenant {
            slug,
            display_name: "Acme Ltd".to_owned(),
            placement: placement.into(),
            ..Tenant::default()
        }),
        request_id: uuid::Uuid::new_v4().to_string(),
        ..CreateTenantRequest::default()
    }
}

/// Waits until the tenant of each placement is in a state.
async fn wait_for_tenants(world: &World, state: TenantState) -> Result<Vec<Tenant>> {
    let until = Instant::now() + BACKGROUND_MAX;
    let mut seen = Vec::new();
    while Instant::now() < until {
        match world
            .operator
            .tenants()
            .list_tenants(ListTenantsRequest::default())
            .await
        {
            Ok(listed) => seen = listed.into_inner().tenants,
            Err(status) if was_cut(&status) => {}
            Err(status) => bail!("ListTenants: {status:?}"),
        }
        if seen.len() == PLACEMENTS.len() && seen.iter().all(|tenant| tenant.state() == state) {
            return Ok(seen);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("the tenants should become {state:?}: {seen:?}")
}

#[tokio::test]
async fn auth_is_killed_after_an_invitation_and_in_a_session() -> Result<()> {
    let world = World::start("kill-auth").await?;
    let tenants = tenants(&world).await?;
    let grace_of = |tenant: &Tenant| format!("grace@{}.example", tenant.slug);
    for (tenant, administrator) in &tenants {
        journey::invite(&administrator.caller, &grace_of(tenant), "manager").await?;
    }
    world.suite.kill9(Process::Auth).await?;
    world.suite.restart(Process::Auth).await?;

    for (tenant, administrator) in &tenants {
        let address = grace_of(tenant);
        let grace = world.join(&tenant.id, &address).await?;
        assert_eq!(mails(&world, &address, &tenant.display_name)?, 1, "one invitation");
        journey::contacts(&grace.caller).await?;
        // The session outlives the kill: its rights are in the database, and the keys are the same.
        journey::create_contact(&administrator.caller, "Margaret Hamilton", "margaret@example.com").await?;
    }
    Ok(())
}
