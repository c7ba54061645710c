//! Signing up on a suite that builds homes ahead: the tenant gets one, and works in it.

use std::collections::BTreeSet;

use anyhow::Result;
use rowhouse_devkit::suite::{Options, Process};
use rowhouse_devkit::{cluster, journey, wait};
use rowhouse_proto::common::v1::Placement;
use rowhouse_types::TenantId;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::world::World;

/// A suite that keeps so many spares, as this variable says.
async fn world(name: &str, variable: &str, number: &str) -> Result<World> {
    let spares = (Some(Process::Tenant), variable.to_owned(), number.to_owned());
    let options = Options {
        environment: vec![spares],
        ..Options::default()
    };
    World::start_with(name, options).await
}

async fn ready(control: &Client) -> Result<BTreeSet<TenantId>> {
    let sql = "SELECT tenant_id FROM tenant.spares WHERE state = 'ready'";
    let rows = control.query(sql, &[]).await?;
    Ok(rows
        .iter()
        .map(|row| TenantId::from_uuid(row.get::<_, Uuid>(0)))
        .collect())
}

/// Waits until so many are ready.
async fn full(control: &Client, number: usize) -> Result<BTreeSet<TenantId>> {
    wait::until("the spares", journey::BACKGROUND_MAX, async || {
        Ok(ready(control).await?.len() == number)
    })
    .await?;
    ready(control).await
}

/// A tenant signs up, gets a spare and works in it; another is built.
async fn sign_up(world: &World, placement: Placement, number: usize) -> Result<()> {
    let control = cluster::connect(&world.suite.databases().control_superuser_url()).await?;
    let before = full(&control, number).await?;
    let tenant = journey::create_tenant_in(&world.operator, placement, "acme", "Acme Ltd", "ada@acme.example").await?;
    assert!(before.contains(&tenant.id.parse()?), "{} is new", tenant.id);
    let ada = world.join(&tenant.id, "ada@acme.example").await?;
    journey::contacts(&ada.caller).await?;
    let after = full(&control, number).await?;
    assert!(!after.contains(&tenant.id.parse()?), "a spare is taken once");
    Ok(())
}

#[tokio::test]
async fn a_tenant_that_signs_up_moves_into_a_spare_home_and_another_is_built() -> Result<()> {
    let world = world("spares", "ROWHOUSE_TENANT_SPARES", "2").await?;
    sign_up(&world, Placement::Schema, 2).await?;
    // On the data server: the tenant's home and the two that wait.
    let data = cluster::connect(&world.suite.databases().data_superuser_url()).await?;
    let homes = data
        .query(
            "SELECT state, count(*) FROM rowhouse.homes GROUP BY state ORDER BY state",
            &[],
        )
        .await?;
    let homes: Vec<(String, i64)> = homes.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(homes, [("active".to_owned(), 1), ("spare".to_owned(), 2)]);
    Ok(())
}

#[tokio::test]
async fn a_tenant_that_signs_up_for_a_database_moves_into_a_spare_one_and_another_is_built() -> Result<()> {
    let world = world("spare_databases", "ROWHOUSE_TENANT_SPARE_DATABASES", "1").await?;
    sign_up(&world, Placement::Database, 1).await?;
    // On the data server: the tenant's database and the one that waits, which no operation has claimed.
    let data = cluster::connect(&world.suite.databases().data_superuser_url()).await?;
    let sql = "SELECT count(*), count(operation_id) FROM rowhouse.databases JOIN rowhouse.homes USING (tenant_id, participant)
        WHERE databases.state = 'ready'";
    let row = data.query_one(sql, &[]).await?;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (2, 1));
    Ok(())
}
