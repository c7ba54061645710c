//! Who migrates is killed at work: crm's `provision` in a house of every placement, and the tenant service that tells it what
//! comes next. What was begun is not there, the run goes on where it was, and members are refused at most what needs the tenant
//! service, while it is away.

use std::sync::atomic::AtomicUsize;

use anyhow::{Result, ensure};
use rowhouse_devkit::settings::DATA_SERVER;
use rowhouse_devkit::suite::Process;
use rowhouse_devkit::torture::Torture;
use rowhouse_devkit::{journey, wait};
use rowhouse_proto::tenant::v1::{MigrationState, StartMigrationRequest};

use super::away::{behind, get};
use super::wave::{NEWEST, Placed, Work, all_is_well, brought_all, older_houses};
use super::{start, watch};
use crate::support::cut::{Hold, surely};
use crate::support::database;
use crate::support::world::World;

/// Takes what the house's migration waits for and its members do not.
async fn hold(world: &World, (placement, house): &Placed) -> Result<Hold> {
    let server = world.suite.databases().data_server(&house.tenant.server)?;
    let (client, schema) = database::home_on(&server, *placement, house.tenant.id.parse()?).await?;
    let lock = format!("LOCK TABLE {schema}.audit_entries IN ROW EXCLUSIVE MODE");
    Hold::of(client, &lock).await
}

/// Begins a run that works on all houses at once, and kills crm's `provision` while it is in each of them.
///
/// `database`: holds the house that takes longest to come to.
async fn provision_is_killed(
    world: &World,
    work: &Work,
    [schema, shared]: [&Hold; 2],
    database: Hold,
) -> Result<String> {
    let ordered = StartMigrationRequest {
        parallelism: 3,
        ..start(0)
    };
    let begun = world.operator.migrations().start_migration(ordered).await?.into_inner();
    ensure!((begun.planned, begun.target_version) == (3, NEWEST), "{begun:?}");
    for hold in [schema, shared, &database] {
        hold.wait_for(1).await?;
    }
    database.kill(&world.suite, Process::CrmProvision).await?;
    let server = world.suite.databases().data_server(DATA_SERVER)?;
    ensure!(behind(&server).await? == 3, "a house that was begun is not done");
    wait::until("a run that misses crm", journey::BACKGROUND_MAX, async || {
        Ok(!get(world, &begun.id).await?.last_error.is_empty())
    })
    .await?;
    work.goes_on().await?;
    let run = get(world, &begun.id).await?;
    ensure!(
        (run.state(), run.failed) == (MigrationState::Running, 0),
        "whoever is away is waited for: {run:?}"
    );
    world.suite.restart(Process::CrmProvision).await?;
    Ok(begun.id)
}

/// Kills the tenant service while crm works for it, and sees that another process of it goes on with the run.
async fn tenant_is_killed(world: &World, work: &Work, schema: Hold, shared: Hold) -> Result<()> {
    for hold in [&schema, &shared] {
        hold.wait_for(1).await?;
    }
    work.excuse(true);
    shared.kill(&world.suite, Process::Tenant).await?;
    let server = world.suite.databases().data_server(DATA_SERVER)?;
    // What crm was told before the kill it still does. That ends, and the house that is held is left.
    schema.wait_for_none().await?;
    ensure!(behind(&server).await? >= 1, "the run is not over");
    world.suite.restart(Process::Tenant).await?;
    work.excuse(false);
    schema.wait_for(1).await
}

async fn round(torture: &mut Torture) -> Result<()> {
    let world = World::start("wave-killed").await?;
    let houses = older_houses(&world).await?;
    let schema = hold(&world, &houses[0]).await?;
    let shared = hold(&world, &houses[1]).await?;
    let database = hold(&world, &houses[2]).await?;

    let work = Work::begin(&world, &houses)?;
    work.goes_on().await?;
    let id = provision_is_killed(&world, &work, [&schema, &shared], database).await?;
    tenant_is_killed(&world, &work, schema, shared).await?;
    work.goes_on().await?;

    // The operator's connection has ended with the process.
    let watching = || watch(&world, &id, MigrationState::Done);
    let done = surely("the end of the run", &AtomicUsize::new(0), watching).await?;
    brought_all(&done)?;
    work.goes_on().await?;
    all_is_well(&world, &houses, work.end().await?).await?;
    torture.trials(2);
    torture.count("houses", houses.len());
    Ok(())
}

#[tokio::test]
async fn a_run_goes_on_where_it_was_when_those_who_carry_it_on_are_killed() -> Result<()> {
    let mut torture = Torture::begin("T25", "processes");
    while torture.round().is_some() {
        round(&mut torture).await?;
    }
    Ok(())
}
