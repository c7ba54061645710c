//! The control of T01: the same calls by who takes a pooled connection for theirs. The path, the setting and the role are the
//! session's, no statement names its tenant, and nobody rolls back what was given up or has failed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rowhouse_db::Error;
use rowhouse_devkit::cluster;
use rowhouse_devkit::torture::Dice;
use rowhouse_types::{Placement, TenantId};
use tokio::sync::Mutex;
use tokio_postgres::{Client, SimpleQueryMessage};
use uuid::Uuid;

use super::{Counts, Street, Way, canary, count, prefix};
use crate::bench::schema_of;

/// Twice as many as the pooler has server connections for a database.
const CLIENTS: usize = 16;

/// Of each task: a part of them would do.
const CALLS: usize = 20;

/// A pool as one writes it in an afternoon.
pub(super) struct Naive {
    url: String,
    clients: Vec<Mutex<Option<Client>>>,
    next: AtomicUsize,
    /// The schemas of those whom it knows.
    homes: HashMap<TenantId, String>,
}

// === impl Naive ===

impl Naive {
    async fn of(street: &Street) -> Self {
        let mut homes = HashMap::new();
        for tenant in &street.tenants {
            homes.insert(*tenant, schema_of(street.at(*tenant), *tenant).await);
        }
        Self {
            url: street.bench.databases.data_pooled_url(),
            clients: (0..CLIENTS).map(|_| Mutex::default()).collect(),
            next: AtomicUsize::new(0),
            homes,
        }
    }

    pub(super) async fn call(&self, tenant: TenantId, write: bool, counts: &Counts) -> Result<(), Error> {
        let home = self.homes.get(&tenant).ok_or(Error::Stale)?;
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len();
        let mut place = self.clients[at].lock().await;
        if place.as_ref().is_none_or(Client::is_closed) {
            let client = cluster::connect(&self.url).await;
            *place = Some(client.map_err(|error| Error::Unavailable(error.to_string()))?);
        }
        let client = place.as_ref().expect("it was put there");
        let done = if write {
            self::write(client, tenant, home).await
        } else {
            read(client, tenant, home, counts).await
        };
        done.map_err(|error| Error::Unavailable(error.to_string()))
    }
}

/// Makes the session the tenant's.
async fn enter(client: &Client, tenant: TenantId, home: &str) -> Result<(), tokio_postgres::Error> {
    let enter = format!(
        "SET search_path = {home}, ext, pg_temp; SET rowhouse.tenant_id = '{}'; SET ROLE rowhouse_tenant",
        tenant.uuid()
    );
    client.batch_execute(&enter).await
}

async fn write(client: &Client, tenant: TenantId, home: &str) -> Result<(), tokio_postgres::Error> {
    enter(client, tenant, home).await?;
    client.batch_execute("BEGIN").await?;
    let insert = format!(
        "INSERT INTO notes (tenant_id, id, body) VALUES (current_setting('rowhouse.tenant_id')::uuid, '{}', '{}')",
        Uuid::now_v7(),
        canary(tenant)
    );
    client.batch_execute(&insert).await?;
    client.batch_execute("COMMIT").await
}

async fn read(client: &Client, tenant: TenantId, home: &str, counts: &Counts) -> Result<(), tokio_postgres::Error> {
    enter(client, tenant, home).await?;
    let (number, prefix) = (tenant.uuid().to_string(), prefix(tenant));
    for _ in 0..2 {
        let answer = client.simple_query("SELECT tenant_id, body FROM notes").await?;
        let foreign = answer.iter().filter(|message| {
            let SimpleQueryMessage::Row(row) = message else {
                return false;
            };
            row.get(0) != Some(number.as_str()) || row.get(1).is_none_or(|body| !body.starts_with(&prefix))
        });
        counts.foreign.fetch_add(foreign.count(), Ordering::Relaxed);
    }
    Ok(())
}

/// Where tenants share a database: in one of a tenant's own there is nobody to meet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_trusts_the_session_meets_other_tenants() {
    for placement in [Placement::Schema, Placement::Shared] {
        let street = Street::build("torture_naive", &[placement]).await;
        let naive = Arc::new(Naive::of(&street).await);
        let (counts, killed) = street.interleave(&Way::Naive(naive), CALLS, &Dice::new(1)).await;
        let (foreign, misplaced) = (count(&counts.foreign), street.misplaced().await);
        println!(
            "{placement:?}: {foreign} foreign rows, {misplaced} misplaced; {} calls answered, {} lost, {killed} back ends killed",
            count(&counts.answered),
            count(&counts.lost)
        );
        assert!(foreign > 0, "{placement:?}: the readers have seen nobody else's rows");
        assert!(
            misplaced > 0,
            "{placement:?}: the audit has found nothing in the wrong place"
        );
    }
}
