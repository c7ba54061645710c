//! The tenants whose contacts are measured, each with a member who calls. One tenant alone would measure its share of the
//! server: its transactions wait for each other, in the one lane of its two that it may use at a time.

use anyhow::{Context as _, Result};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::journey;
use rowhouse_devkit::resident::Resident;
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::crm::v1::ListContactsRequest;
use rowhouse_proto::tenant::v1::Tenant;

use super::load::{Member, Members};
use super::{CONNECTIONS, unique};
use crate::{demo, seed};

/// Tenants in a database that they share with others.
const TOGETHER: usize = 100;
/// Tenants with a database of their own: each is two clients of pgbench, which has 16 in all.
const APART: usize = 8;
/// Contacts of each: more than a page.
const CONTACTS: usize = 60;

/// Tenants of one placement.
pub(super) struct Tenants {
    pub(super) tenants: Vec<Tenant>,
    /// In the same order.
    pub(super) members: Members,
}

// === impl Tenants ===

impl Tenants {
    /// Signs them up, and fills them.
    pub(super) async fn sign_up(resident: &Resident, operator: &Caller, placement: Placement) -> Result<Self> {
        let connection = |_| Ok(Caller::anonymous(demo::endpoints(resident)?));
        let connections: Vec<Caller> = (0..CONNECTIONS).map(connection).collect::<Result<_>>()?;
        let count = match placement {
            Placement::Database => APART,
            _ => TOGETHER,
        };
        let mut tenants = Vec::new();
        // All before the first joins: meanwhile their invitations are on their way.
        for _ in 0..count {
            let slug = unique("bench");
            let administrator = administrator_of(&slug);
            tenants.push(journey::create_tenant_in(operator, placement, &slug, "Bench Ltd", &administrator).await?);
        }
        let mut members = Vec::new();
        for (tenant, connection) in tenants.iter().zip(connections.iter().cycle()) {
            let caller = seed::join(resident, connection, tenant, &administrator_of(&tenant.slug)).await?;
            seed::fill(&caller, &tenant.slug, CONTACTS).await?;
            let contacts = contacts(&caller).await?;
            members.push(Member { caller, contacts });
        }
        Ok(Self {
            tenants,
            members: Members::new(members),
        })
    }
}

fn administrator_of(slug: &str) -> String {
    format!("ada@{slug}.example")
}

async fn contacts(member: &Caller) -> Result<Vec<String>> {
    let request = ListContactsRequest {
        page_size: 100,
        ..ListContactsRequest::default()
    };
    let listed = member.contacts().list_contacts(request).await.context("ListContacts")?;
    Ok(listed
        .into_inner()
        .contacts
        .into_iter()
        .map(|contact| contact.id)
        .collect())
}
