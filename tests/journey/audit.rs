//! The audit log of a tenant over all services, in every placement, as its administrator reads, checks and exports it; what was
//! refused; and the platform's.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::journey;
use rowhouse_devkit::suite::Process;
use rowhouse_proto::auth::v1::{
    AuditChain, AuditEntry, AuditFaultKind, AuditFilter, AuditHead, ExportAuditLogRequest, ExportAuditLogResponse,
    ListAuditEntriesRequest, ListAuditEntriesResponse, VerifyAuditLogRequest,
};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::crm::v1::DeleteContactRequest;
use rowhouse_proto::tenant::v1::{CreatePlanRequest, Plan, ResumeTenantRequest, SuspendTenantRequest, Tenant};
use rowhouse_types::{ContactId, TenantId};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use crate::support::database;
use crate::support::world::{House, Member, PLACEMENTS, World, slug_in};

const SERVICES: [&str; 4] = ["tenant", "auth", "crm", "worker"];

pub(super) async fn list(caller: &Caller, filter: AuditFilter) -> Result<Vec<AuditEntry>> {
    let (mut entries, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListAuditEntriesRequest {
            page_size: 7,
            page_token,
            filter: Some(filter.clone()),
        };
        let page: ListAuditEntriesResponse = caller.audit().list_audit_entries(request).await?.into_inner();
        ensure!(page.unreachable.is_empty(), "{page:?}");
        entries.extend(page.entries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(entries);
        }
    }
}

pub(super) fn filter(narrow: impl FnOnce(&mut AuditFilter)) -> AuditFilter {
    let mut filter = AuditFilter::default();
    narrow(&mut filter);
    filter
}

async fn verify(caller: &Caller, known: Vec<AuditHead>) -> Result<Vec<AuditChain>> {
    let request = VerifyAuditLogRequest {
        known,
        page_token: String::new(),
    };
    let verified = caller.audit().verify_audit_log(request).await?.into_inner();
    ensure!(verified.unreachable.is_empty() && verified.next_page_token.is_empty());
    ensure!(verified.chains.iter().all(|chain| chain.done));
    Ok(verified.chains)
}

pub(super) fn faults(chains: &[AuditChain]) -> Vec<(String, AuditFaultKind)> {
    let service = |chain: &AuditChain| chain.head.clone().unwrap_or_default().service;
    chains
        .iter()
        .flat_map(|chain| chain.faults.iter().map(|fault| (service(chain), fault.kind())))
        .collect()
}

/// The chains, once every entry that the log lists is in a seal.
pub(super) async fn sealed(caller: &Caller) -> Result<Vec<AuditChain>> {
    let sealing = async {
        loop {
            let listed = list(caller, AuditFilter::default()).await?.len();
            let chains = verify(caller, Vec::new()).await?;
            let sealed: i64 = chains.iter().map(|chain| chain.entries).sum();
            let waiting: i64 = chains.iter().map(|chain| chain.waiting).sum();
            if sealed >= i64::try_from(listed)? && waiting == 0 {
                return anyhow::Ok(chains);
            }
        }
    };
    tokio::time::timeout(journey::BACKGROUND_MAX, sealing)
        .await
        .context("entries are not sealed")?
}

async fn export(caller: &Caller, service: &str, after_number: i64) -> Result<Vec<ExportAuditLogResponse>, Status> {
    let request = ExportAuditLogRequest {
        service: service.to_owned(),
        after_number,
    };
    let mut stream = caller.audit().export_audit_log(request).await?.into_inner();
    let mut seals = Vec::new();
    while let Some(seal) = stream.message().await? {
        seals.push(seal);
    }
    Ok(seals)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hash of a seal after the words of the proto, by another SHA-256 than the suite's.
fn recomputed(chain: &str, seal: &ExportAuditLogResponse) -> Result<String> {
    let stamp = seal.seal_time.context("a time")?;
    let time = chrono::DateTime::from_timestamp(stamp.seconds, u32::try_from(stamp.nanos)?).context("a time")?;
    let number = seal.seal.clone().unwrap_or_default().number;
    let mut text = format!(
        "rowhouse audit seal 1\n{chain}\n{number}\n{}\n{}\n",
        seal.previous,
        time.format("%Y-%m-%dT%H:%M:%S%.6fZ")
    );
    for entry in &seal.entries {
        text.push_str(&hex(&Sha256::digest(entry)));
        text.push('\n');
    }
    Ok(hex(&Sha256::digest(text)))
}

/// Does something in every service.
async fn work(world: &World, house: &House) -> Result<()> {
    let report = journey::run_report(&house.administrator.caller).await?;
    journey::finished_report(&house.administrator.caller, &report.id, journey::BACKGROUND_MAX).await?;
    for at in 0..5 {
        journey::create_contact(&house.user.caller, &format!("Contact {at}"), "").await?;
    }
    let (id, reason) = (house.tenant.id.clone(), "an invoice".to_owned());
    let mut tenants = world.operator.tenants();
    tenants
        .suspend_tenant(SuspendTenantRequest {
            id: id.clone(),
            reason: reason.clone(),
        })
        .await?;
    tenants.resume_tenant(ResumeTenantRequest { id, reason }).await?;
    Ok(())
}

#[tokio::test]
async fn a_tenants_log_is_read_over_all_services_and_holds() -> Result<()> {
    let world = World::start("audit").await?;
    for placement in PLACEMENTS {
        a_log_in(&world, placement).await?;
    }
    Ok(())
}

async fn a_log_in(world: &World, placement: Placement) -> Result<()> {
    let house = world.house_in(placement, &slug_in(placement, "acme")).await?;
    let (_, neighbour) = world.tenant_in(placement, &slug_in(placement, "other")).await?;
    work(world, &house).await?;
    let administrator = &house.administrator.caller;

    let entries = list(administrator, AuditFilter::default()).await?;
    let services: BTreeSet<&str> = entries.iter().map(|entry| entry.service.as_str()).collect();
    ensure!(services == BTreeSet::from(SERVICES), "{services:?}");
    ensure!(
        entries.windows(2).all(|pair| pair[0].id > pair[1].id),
        "each once, the newest first"
    );
    let suspended = list(
        administrator,
        filter(|filter| filter.action = "tenant.suspend".to_owned()),
    )
    .await?;
    let outcomes: Vec<&str> = suspended.iter().map(|entry| entry.outcome.as_str()).collect();
    ensure!(outcomes == ["done", "accepted"], "{suspended:?}");
    let done = &suspended[0];
    let suspended = &suspended[1];
    ensure!(
        (&done.actor, &done.reason) == (&suspended.actor, &suspended.reason),
        "{done:?}"
    );
    // What operators did stands in the platform's log too: a tenant that is gone cannot be asked.
    let platform = ListAuditEntriesRequest {
        filter: Some(filter(|filter| filter.target = house.tenant.id.clone())),
        ..ListAuditEntriesRequest::default()
    };
    let platform = world
        .operator
        .platform_audit()
        .list_audit_entries(platform)
        .await?
        .into_inner();
    let actions: BTreeSet<&str> = platform.entries.iter().map(|entry| entry.action.as_str()).collect();
    ensure!(
        actions == BTreeSet::from(["tenant.create", "tenant.suspend", "tenant.resume"]),
        "{actions:?}"
    );
    let state = |record: &Option<rowhouse_proto::well_known::Struct>| format!("{:?}", record);
    ensure!(
        suspended.reason == "an invoice" && suspended.target == house.tenant.id,
        "{suspended:?}"
    );
    ensure!(state(&suspended.before).contains("active"), "{suspended:?}");
    let user = house.user.tokens.user_id.clone();
    let theirs = list(
        administrator,
        filter(|filter| {
            filter.actor = user;
            filter.service = "crm".to_owned();
        }),
    )
    .await?;
    ensure!(
        theirs.len() == 5 && theirs.iter().all(|entry| entry.action == "contacts:create"),
        "{theirs:?}"
    );
    ensure!(theirs.iter().all(|entry| entry.target.parse::<ContactId>().is_ok()));
    let of_neighbour = list(&neighbour.caller, AuditFilter::default()).await?;
    let ids: BTreeSet<&String> = entries.iter().map(|entry| &entry.id).collect();
    ensure!(of_neighbour.iter().all(|entry| !ids.contains(&entry.id)));

    let chains = sealed(administrator).await?;
    ensure!(faults(&chains).is_empty(), "{chains:?}");
    let known: Vec<AuditHead> = chains.iter().filter_map(|chain| chain.head.clone()).collect();
    for service in SERVICES {
        let seals = export(administrator, service, 0).await?;
        let chain = format!("{service}/{}", house.tenant.id);
        let mut previous = "0".repeat(64);
        for seal in &seals {
            let hash = seal.seal.clone().unwrap_or_default().hash;
            ensure!(
                seal.previous == previous && recomputed(&chain, seal)? == hash,
                "{seal:?}"
            );
            previous = hash;
        }
        ensure!(!seals.is_empty(), "{service}");
        let later = export(administrator, service, i64::try_from(seals.len())? - 1).await?;
        ensure!(!later.is_empty() && later.len() <= seals.len(), "{service}");
    }

    // Whoever has the databases in hand.
    let tenant: TenantId = house.tenant.id.parse()?;
    let change = format!(
        "UPDATE auth.audit SET address = '192.0.2.1' WHERE tenant_id = '{0}';
         DELETE FROM worker.audit WHERE tenant_id = '{0}'",
        tenant.uuid()
    );
    database::execute(world.suite.databases(), &change).await?;
    let (client, schema) = database::home(world.suite.databases(), placement, tenant).await?;
    let seals = format!("DELETE FROM {schema}.audit_seals WHERE tenant_id = '{}'", tenant.uuid());
    client.batch_execute(&seals).await?;
    let found = faults(&verify(administrator, known).await?);
    for (service, kind) in [
        ("auth", AuditFaultKind::EntryChanged),
        ("worker", AuditFaultKind::EntryMissing),
        ("crm", AuditFaultKind::KnownDiffers),
    ] {
        ensure!(found.contains(&(service.to_owned(), kind)), "{service}: {found:?}");
    }
    ensure!(!found.iter().any(|(service, _)| service == "tenant"), "{found:?}");
    ensure!(faults(&sealed(&neighbour.caller).await?).is_empty());
    Ok(())
}

#[tokio::test]
async fn what_was_refused_stands_in_the_log_and_repeats_as_a_number() -> Result<()> {
    let world = World::start("audit-refusals").await?;
    for placement in PLACEMENTS {
        refusals_in(&world, placement).await?;
    }
    Ok(())
}

async fn refusals_in(world: &World, placement: Placement) -> Result<()> {
    let house = world.house_in(placement, &slug_in(placement, "acme")).await?;
    let delete = || DeleteContactRequest {
        id: ContactId::generate().to_string(),
        etag: String::new(),
    };
    for _ in 0..40 {
        let refused = house.user.caller.contacts().delete_contact(delete()).await.unwrap_err();
        ensure!(refused.code() == Code::PermissionDenied);
    }
    let refused = house
        .user
        .caller
        .audit()
        .list_audit_entries(ListAuditEntriesRequest::default())
        .await;
    ensure!(refused.unwrap_err().code() == Code::PermissionDenied);
    let administrator = &house.administrator.caller;
    let refusals = async {
        loop {
            let found = list(administrator, filter(|filter| filter.outcome = "refused".to_owned())).await?;
            let of = |service: &str| found.iter().any(|entry| entry.service == service);
            if of("crm") && of("auth") {
                return anyhow::Ok(found);
            }
        }
    };
    let refusals = tokio::time::timeout(journey::BACKGROUND_MAX, refusals).await??;
    let of_crm: Vec<&AuditEntry> = refusals.iter().filter(|entry| entry.service == "crm").collect();
    ensure!(of_crm.len() <= 2, "what repeats is a number: {of_crm:?}");
    ensure!(
        of_crm[0].action == "rowhouse.crm.v1.ContactService/DeleteContact",
        "{of_crm:?}"
    );
    ensure!(of_crm[0].actor == house.user.tokens.user_id, "{of_crm:?}");
    ensure!(
        format!("{:?}", of_crm[0].after).contains("contacts:delete"),
        "{of_crm:?}"
    );
    ensure!(faults(&sealed(administrator).await?).is_empty());
    Ok(())
}

#[tokio::test]
async fn operators_read_the_platforms_log_and_a_tenants_only_by_naming_it() -> Result<()> {
    let world = World::start("audit-platform").await?;
    let mut houses = Vec::new();
    for placement in PLACEMENTS {
        houses.push(tenant_with_a_contact(&world, placement).await?);
    }
    let plan = Some(Plan {
        name: "audited".to_owned(),
        display_name: "Audited".to_owned(),
        ..Plan::default()
    });
    world.operator.plans().create_plan(CreatePlanRequest { plan }).await?;
    let listed = world
        .operator
        .platform_audit()
        .list_audit_entries(ListAuditEntriesRequest::default())
        .await?
        .into_inner();
    ensure!(
        listed.entries.iter().any(|entry| entry.target == "audited"),
        "{listed:?}"
    );
    ensure!(
        listed
            .entries
            .iter()
            .all(|entry| !format!("{entry:?}").contains("Contact")),
        "nothing of a tenant's: {listed:?}"
    );
    let verified = world
        .operator
        .platform_audit()
        .verify_audit_log(VerifyAuditLogRequest::default())
        .await?
        .into_inner();
    ensure!(
        faults(&verified.chains).is_empty() && verified.chains.len() == 2,
        "{verified:?}"
    );

    let refused = world
        .operator
        .audit()
        .list_audit_entries(ListAuditEntriesRequest::default())
        .await;
    ensure!(refused.is_err(), "without a tenant");
    for (tenant, administrator) in &houses {
        let inside = world.operator.in_tenant(&tenant.id, "a complaint, ticket 7 \u{2713}")?;
        let created = filter(|filter| filter.action = "contacts:create".to_owned());
        let created = list(&inside, created).await?;
        ensure!(
            created.len() == 1 && created[0].actor == administrator.tokens.user_id,
            "{created:?}"
        );
    }
    let (_, administrator) = &houses[0];
    let refused = administrator
        .caller
        .platform_audit()
        .list_audit_entries(ListAuditEntriesRequest::default())
        .await;
    ensure!(refused.unwrap_err().code() == Code::PermissionDenied);
    Ok(())
}

/// A tenant whose log has an entry in its home.
async fn tenant_with_a_contact(world: &World, placement: Placement) -> Result<(Tenant, Member)> {
    let (tenant, administrator) = world.tenant_in(placement, &slug_in(placement, "acme")).await?;
    journey::create_contact(&administrator.caller, "Ada Lovelace", "ada@example.com").await?;
    Ok((tenant, administrator))
}

/// A service that is away is named; the others' entries are told.
#[tokio::test]
async fn a_service_that_is_away_is_named() -> Result<()> {
    let world = World::start("audit-away").await?;
    let mut houses = Vec::new();
    for placement in PLACEMENTS {
        houses.push(tenant_with_a_contact(&world, placement).await?);
    }
    world.suite.kill9(Process::Worker).await?;
    for (tenant, administrator) in &houses {
        let administrator = &administrator.caller;
        let request = ListAuditEntriesRequest::default();
        let page = administrator.audit().list_audit_entries(request).await?.into_inner();
        ensure!(page.unreachable == ["worker"], "{page:?}");
        let services: BTreeSet<&str> = page.entries.iter().map(|entry| entry.service.as_str()).collect();
        ensure!(
            services == BTreeSet::from(["tenant", "auth", "crm"]),
            "{}: {page:?}",
            tenant.slug
        );
        let verified = administrator
            .audit()
            .verify_audit_log(VerifyAuditLogRequest::default())
            .await?
            .into_inner();
        ensure!(verified.unreachable == ["worker"] && !verified.next_page_token.is_empty());
        let of_worker = verified.chains.iter().find(|chain| !chain.done);
        ensure!(
            of_worker
                .and_then(|chain| chain.head.clone())
                .is_some_and(|head| head.service == "worker")
        );
    }
    let administrator = &houses[0].1.caller;
    let bad = [
        (
            ListAuditEntriesRequest {
                page_size: -1,
                ..Default::default()
            },
            "page_size",
        ),
        (
            ListAuditEntriesRequest {
                page_token: "x".to_owned(),
                ..Default::default()
            },
            "page_token",
        ),
        (
            ListAuditEntriesRequest {
                filter: Some(filter(|filter| filter.service = "nobody".to_owned())),
                ..Default::default()
            },
            "filter.service",
        ),
        (
            ListAuditEntriesRequest {
                filter: Some(filter(|filter| filter.actor = "a\0b".to_owned())),
                ..Default::default()
            },
            "filter.actor",
        ),
    ];
    for (request, field) in bad {
        let refused = administrator.audit().list_audit_entries(request).await.unwrap_err();
        ensure!(refused.code() == Code::InvalidArgument, "{field}: {refused:?}");
    }
    for service in ["", "nobody", "CRM"] {
        let refused = export(administrator, service, 0).await.unwrap_err();
        ensure!(refused.code() == Code::InvalidArgument, "{service}: {refused:?}");
    }
    Ok(())
}
