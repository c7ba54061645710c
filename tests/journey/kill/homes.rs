//! T24 on the suite: crm-provision is killed while it builds homes, in every placement: what it has left half-built is gone on
//! with, and nothing is there that is nobody's home.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use rowhouse_devkit::suite::Process;
use rowhouse_devkit::torture::Torture;
use rowhouse_devkit::{cluster, journey};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::tenant::v1::TenantState;
use rowhouse_types::TenantId;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::{creation, mails, wait_for_tenants};
use crate::support::cut::Hold;
use crate::support::world::{PLACEMENTS, World};

/// Where it is held when it is killed.
struct Step {
    name: &'static str,
    lock: &'static str,
    /// Databases that are there by then, each with its login. Nobody is told of them.
    databases: usize,
}

/// In the short form the first of them.
const STEPS: [Step; 2] = [
    // Nobody enters a house into the registry: its schema, or its database with its login, is there by then, and no home is ready.
    Step {
        name: "killed with a house",
        lock: "LOCK TABLE rowhouse.houses IN SHARE MODE",
        databases: 1,
    },
    // Nobody enters a home into it: the schemas are there by then too, and no database was begun.
    Step {
        name: "killed before a home",
        lock: "LOCK TABLE rowhouse.homes IN SHARE MODE",
        databases: 0,
    },
];

/// A database is built for longer than the others may wait for a lock, on a busy machine: it comes first.
const ORDER: [Placement; 3] = [Placement::Database, Placement::Schema, Placement::Shared];

/// Schemas of the data database that are houses by their names.
const SCHEMAS: &str = "SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^(t|pooled)_'";

/// Schemas that hold homes in use.
const HOMES: &str = "SELECT house.schema_name FROM rowhouse.homes AS home
    JOIN rowhouse.houses AS house USING (house_id) WHERE home.state = 'active'";

/// Databases, and logins, of tenants' own by their names, among some: other tests have theirs in the same cluster.
const DATABASES: &str = "SELECT datname::text FROM pg_database WHERE datname = ANY ($1)";
const LOGINS: &str = "SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($1)";

/// Whoever is about to make a database says so first.
const NAMED: &str = "SELECT database_name FROM rowhouse.databases
    UNION SELECT 't_' || replace(tenant_id::text, '-', '') FROM rowhouse.homes";

/// Databases in use.
const READY: &str = "SELECT database_name FROM rowhouse.databases WHERE state = 'ready'";

/// What there is of homes.
#[derive(Debug)]
struct Built {
    schemas: BTreeSet<String>,
    databases: BTreeSet<String>,
    logins: BTreeSet<String>,
    /// Schemas and databases that hold a home in use.
    homes: BTreeSet<String>,
    own: BTreeSet<String>,
}

impl Built {
    /// `tenants`: everybody in the directory.
    async fn read(world: &World, tenants: &[TenantId]) -> Result<Self> {
        let databases = world.suite.databases();
        let data = cluster::connect(&databases.data_superuser_url()).await?;
        let mut named = names(&data, NAMED, None).await?;
        named.extend(tenants.iter().map(|tenant| own_name(*tenant)));
        let named: Vec<String> = named.into_iter().collect();
        let own = names(&data, READY, None).await?;
        // The registry of a database of a tenant's own says whether a home is in it.
        for name in &own {
            let within = cluster::connect(&databases.servers().superuser_url(name)).await?;
            let homes = names(&within, HOMES, None).await?;
            ensure!(homes.iter().eq([name]), "{name} holds {homes:?}");
        }
        Ok(Self {
            schemas: names(&data, SCHEMAS, None).await?,
            databases: names(&data, DATABASES, Some(&named)).await?,
            logins: names(&data, LOGINS, Some(&named)).await?,
            homes: names(&data, HOMES, None).await?,
            own,
        })
    }

    /// Schemas, databases and logins that are no home's, or are missing where there is one.
    fn orphans(&self) -> usize {
        let odd = |there: &BTreeSet<String>, wanted: &BTreeSet<String>| there.symmetric_difference(wanted).count();
        odd(&self.schemas, &self.homes) + odd(&self.databases, &self.own) + odd(&self.logins, &self.own)
    }
}

/// The names that a statement answers. `among`: what it asks about, where it does.
async fn names(client: &Client, sql: &str, among: Option<&Vec<String>>) -> Result<BTreeSet<String>> {
    let rows = match among {
        Some(among) => client.query(sql, &[among]).await?,
        None => client.query(sql, &[]).await?,
    };
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The schema of a tenant's own, and its database where it has one.
fn own_name(tenant: TenantId) -> String {
    format!("t_{}", tenant.uuid().simple())
}

#[tokio::test]
async fn crm_provision_is_killed_while_homes_are_built() -> Result<()> {
    let mut torture = Torture::begin("T24", "homes");
    while let Some(mut dice) = torture.round() {
        let step = &STEPS[dice.below(torture.size(1, STEPS.len()))];
        let cut = round(step).await?;
        torture.trials(cut);
        torture.count(step.name, cut);
    }
    Ok(())
}

/// How many homes were being built.
async fn round(step: &Step) -> Result<usize> {
    let world = World::start("kill-provision").await?;
    let hold = Hold::begin(&world.suite.databases().data_superuser_url(), step.lock).await?;
    let requests = ORDER.map(creation);
    let mut calls = JoinSet::new();
    for (others, request) in requests.clone().into_iter().enumerate() {
        let operator = world.operator.clone();
        calls.spawn(async move { operator.tenants().create_tenant(request).await });
        hold.wait_for(others + 1).await?;
    }
    let cut = hold.kill(&world.suite, Process::CrmProvision).await?;
    ensure!(
        cut == PLACEMENTS.len(),
        "a home in each placement was being built, and not {cut}"
    );
    let tenants = wait_for_tenants(&world, TenantState::Provisioning).await?;
    let ids = tenants.iter().map(|tenant| tenant.id.parse());
    let ids: Vec<TenantId> = ids.collect::<Result<_, _>>()?;

    // The control: schemas are gone with their transaction. A database and its login are not, and nobody is told of them.
    let built = Built::read(&world, &ids).await?;
    ensure!(
        built.orphans() == 2 * step.databases
            && built.databases.len() == step.databases
            && built.logins == built.databases,
        "a half-built database is nobody's home yet: {built:?}"
    );

    world.suite.restart(Process::CrmProvision).await?;
    let tenants = wait_for_tenants(&world, TenantState::Active).await?;
    // Whether the first calls have waited for that or were refused, they are over.
    while let Some(answer) = calls.join_next().await {
        drop(answer?);
    }
    for request in requests {
        let address = request.administrator_email.clone();
        let repeated = world.operator.tenants().create_tenant(request).await?.into_inner();
        assert!(
            tenants.iter().any(|tenant| tenant.id == repeated.id),
            "the repeated call answers the tenant that the first one made: {repeated:?}"
        );
        let ada = world.join(&repeated.id, &address).await?;
        journey::contacts(&ada.caller).await?;
        assert_eq!(mails(&world, &address, "Acme Ltd")?, 1, "one invitation");
    }
    let built = Built::read(&world, &ids).await?;
    assert_eq!(built.orphans(), 0, "{built:?}");
    assert_eq!(
        (built.homes.len(), built.own.len()),
        (2, 1),
        "a home in each placement: {built:?}"
    );
    Ok(cut)
}
