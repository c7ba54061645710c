//! One new contact in each tenant, and its audit entry sealed: by then the back ends of lanes have met the tables that are written
//! too, and those of bulk work the homes in which they seal.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rowhouse_devkit::cluster;
use rowhouse_devkit::suite::Suite;
use rowhouse_devkit::wait;
use rowhouse_proto::crm::v1::{Contact, CreateContactRequest};
use uuid::Uuid;

use super::super::run::{Private, in_turn, private_memory};
use super::tenants::Member;

/// Longest time for all entries to be sealed and all events to be relayed: a hundred homes a second, of 10,000, and as much again.
const SETTLED_MAX: Duration = Duration::from_secs(200);

/// Nothing is left for crm to do, so that it is at nothing else while the next run is measured.
const SETTLED: &str = "SELECT NOT EXISTS (SELECT FROM rowhouse.unsealed) AND NOT EXISTS (SELECT FROM rowhouse.outbox)";
/// Nor for autovacuum.
const CLEAN: &str = "VACUUM (ANALYZE) rowhouse.unsealed, rowhouse.outbox";

/// Writes in every member's tenant; answers what back ends hold for themselves then.
pub(super) async fn settle(suite: &Suite, members: Arc<[Member]>) -> Result<Private> {
    let count = members.len();
    in_turn(count, move |index| {
        let members = Arc::clone(&members);
        async move { create(members.get(index).context("a member")?).await }
    })
    .await?;
    let superuser_url = suite.databases().data_superuser_url();
    let superuser = cluster::connect(&superuser_url).await?;
    wait::until("the seal of every entry", SETTLED_MAX, || async {
        Ok(superuser.query_one(SETTLED, &[]).await?.get(0))
    })
    .await?;
    let private = private_memory(&superuser_url).await?;
    superuser.batch_execute(CLEAN).await.context("vacuum")?;
    Ok(private)
}

async fn create(member: &Member) -> Result<()> {
    let contact = Contact {
        display_name: "Katherine Johnson".to_owned(),
        // Each run adds one to the same tenants.
        email: format!("{}@bench.example", Uuid::new_v4().simple()),
        ..Contact::default()
    };
    let request = CreateContactRequest {
        contact: Some(contact),
        request_id: String::new(),
    };
    let created = member.caller.contacts().create_contact(request).await;
    created.map(drop).context("CreateContact")
}
