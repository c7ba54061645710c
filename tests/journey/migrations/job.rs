//! crm's `migrate` brings on every home, as the Job of a roll-out may, and no run of MigrationService follows: the services take
//! homes for what they are all the same.

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::suite::Process;
use rowhouse_devkit::{cluster, journey, wait};
use rowhouse_proto::tenant::v1::ListMigrationsRequest;

use super::wave::{NEWEST, connected, set_back};
use crate::journey::audit;
use crate::support::redis::Keys;
use crate::support::world::{PLACEMENTS, World, slug_in};

/// The versions of crm's homes, as the directory says.
async fn directory(world: &World) -> Result<Vec<i32>> {
    let control = cluster::connect(&world.suite.databases().control_superuser_url()).await?;
    let sql = "SELECT array_agg(DISTINCT version ORDER BY version) FROM tenant.homes WHERE participant = 'crm'";
    Ok(control.query_one(sql, &[]).await?.get(0))
}

#[tokio::test]
async fn homes_that_migrate_has_brought_on_show_their_seals_without_a_run() -> Result<()> {
    let world = World::start("job").await?;
    let mut houses = Vec::new();
    for placement in PLACEMENTS {
        let house = world.house_in(placement, &slug_in(placement, "job")).await?;
        journey::contacts(&house.administrator.caller).await?;
        houses.push((placement, house));
    }
    set_back(&world, &houses).await?;
    world.suite.migrate(Process::Crm).await?;
    // The tenant service looks when it starts, and then once a minute, which is too long to wait for.
    world.suite.restart(Process::Tenant).await?;
    wait::until("the directory's word", journey::BACKGROUND_MAX, async || {
        Ok(directory(&world).await? == [NEWEST])
    })
    .await?;
    // crm may take the homes for older ones until its caches forget, and would show their logs as such.
    Keys::of(&world.suite).await?.flush().await?;
    for (placement, house) in &houses {
        let administrator = connected(&world, &house.administrator)?;
        let chains = audit::sealed(&administrator).await;
        let chains = chains.with_context(|| format!("{placement:?}"))?;
        ensure!(audit::faults(&chains).is_empty(), "{chains:?}");
    }
    let tokens = world.operator_tokens().await?;
    let operator = Caller::anonymous(world.suite.endpoints()?).with_token(&tokens.access_token)?;
    let runs = operator
        .migrations()
        .list_migrations(ListMigrationsRequest::default())
        .await?;
    ensure!(runs.get_ref().migrations.is_empty(), "{runs:?}");
    Ok(())
}
