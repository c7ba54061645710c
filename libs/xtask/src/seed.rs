//! Two demo tenants with plausible contacts, made through the suite's own API.

use anyhow::{Context as _, Result};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::journey;
use rowhouse_devkit::resident::Resident;
use rowhouse_proto::crm::v1::{Contact, CreateContactRequest, ListContactsRequest};
use rowhouse_proto::tenant::v1::{ListTenantsRequest, Tenant};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::demo;

/// Password of both demo administrators; of use on this machine only.
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// The demo tenants: slug, name, administrator.
pub(crate) const TENANTS: [(&str, &str, &str); 2] = [
    ("harbour-tea", "Harbour Tea Company", "ines@harbour-tea.example"),
    ("northwind-cycles", "Northwind Cycles", "jonas@northwind-cycles.example"),
];
/// Contacts of each demo tenant.
const CONTACTS: usize = 500;
/// Creates at once.
const WIDTH: usize = 8;

/// Makes what is missing of the demo tenants; answers them.
pub(crate) async fn run(resident: &Resident) -> Result<Vec<Tenant>> {
    let anyone = Caller::anonymous(demo::endpoints(resident)?);
    let operator = demo::operator_log_in(resident, &anyone).await?;
    let existing = operator
        .tenants()
        .list_tenants(ListTenantsRequest {
            page_size: 1_000,
            ..Default::default()
        })
        .await?
        .into_inner()
        .tenants;
    let mut tenants = Vec::new();
    for (slug, name, administrator) in TENANTS {
        let tenant = match existing.iter().find(|tenant| tenant.slug == slug) {
            Some(tenant) => tenant.clone(),
            None => journey::create_tenant(&operator, slug, name, administrator).await?,
        };
        let caller = match journey::log_in(&anyone, administrator, PASSWORD, &tenant.id).await {
            Ok(tokens) => anyone.with_token(&tokens.access_token)?,
            Err(_) => join(resident, &anyone, &tenant, administrator).await?,
        };
        fill(&caller, slug, CONTACTS)
            .await
            .with_context(|| format!("contacts of {slug}"))?;
        tenants.push(tenant);
    }
    Ok(tenants)
}

/// Accepts the invitation of a tenant's first administrator, and logs in.
pub(crate) async fn join(resident: &Resident, anyone: &Caller, tenant: &Tenant, address: &str) -> Result<Caller> {
    let mail = demo::wait_for_mail(resident, address, "#token=").await?;
    journey::accept(anyone, &journey::link_token(&mail)?, "Demo Administrator", PASSWORD).await?;
    let tokens = journey::log_in(anyone, address, PASSWORD, &tenant.id).await?;
    anyone.with_token(&tokens.access_token)
}

/// Creates the contacts that are missing; a seeding that was interrupted goes on about where it stopped.
///
/// `count`: contacts that there shall be, at most 1,000.
pub(crate) async fn fill(caller: &Caller, slug: &str, count: usize) -> Result<()> {
    let listed = caller
        .contacts()
        .list_contacts(ListContactsRequest {
            page_size: 1_000,
            ..Default::default()
        })
        .await?
        .into_inner();
    let mut creates = JoinSet::new();
    for number in listed.contacts.len()..count {
        if creates.len() >= WIDTH
            && let Some(created) = creates.join_next().await
        {
            created??;
        }
        let (caller, contact) = (caller.clone(), contact(slug, number));
        creates.spawn(async move {
            let request = CreateContactRequest {
                contact: Some(contact),
                request_id: Uuid::new_v4().to_string(),
            };
            caller.contacts().create_contact(request).await.map(drop)
        });
    }
    while let Some(created) = creates.join_next().await {
        created??;
    }
    Ok(())
}

const GIVEN: [&str; 25] = [
    "Amara", "Bruno", "Chloe", "Dmitri", "Elena", "Farid", "Greta", "Hiroshi", "Isabel", "Jamal", "Katja", "Liam",
    "Mei", "Nadia", "Oskar", "Priya", "Quentin", "Rosa", "Samir", "Tove", "Umar", "Vera", "Wanda", "Yusuf", "Zoe",
];
const FAMILY: [&str; 20] = [
    "Almeida", "Becker", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia", "Haddad", "Ivanova", "Jensen", "Kowalski",
    "Lindholm", "Moreau", "Nakamura", "Okafor", "Petrov", "Rossi", "Silva", "Tanaka", "Weber",
];
const COMPANIES: [&str; 10] = [
    "Alder & Finch",
    "Bluewater Logistics",
    "Cobalt Studio",
    "Dunmore Foods",
    "Elm Street Dental",
    "Fjord Robotics",
    "Greenfield Farms",
    "Hollis Legal",
    "Iris Optics",
    "Juniper Hotels",
];
const TITLES: [&str; 8] = [
    "Buyer",
    "Office Manager",
    "Head of Sales",
    "Founder",
    "Accountant",
    "Operations Lead",
    "Engineer",
    "Store Manager",
];

/// The contact with this number: every one of the 500 pairs of names comes once.
fn contact(slug: &str, number: usize) -> Contact {
    let (given, family) = (pick(&GIVEN, number), pick(&FAMILY, number / GIVEN.len()));
    // Another stride for each tenant, so that the two do not look alike.
    let company = pick(&COMPANIES, number * 7 + slug.len());
    let domain = company.to_lowercase().replace(" & ", "-").replace(' ', "-");
    Contact {
        display_name: format!("{given} {family}"),
        email: format!("{}.{}@{domain}.example", given.to_lowercase(), family.to_lowercase()),
        phone: format!("+44 20 7946 {:04}", number % 10_000),
        company: company.to_owned(),
        job_title: pick(&TITLES, number * 3 + slug.len()).to_owned(),
        ..Contact::default()
    }
}

fn pick(words: &[&'static str], number: usize) -> &'static str {
    words
        .iter()
        .cycle()
        .nth(number % words.len().max(1))
        .copied()
        .unwrap_or_default()
}
