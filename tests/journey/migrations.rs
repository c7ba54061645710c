//! An operator migrates the fleet and looks for drift, on the running suite.
//!
//! [`wave`]: while members work in homes of both versions. [`killed`]: while who migrates is killed. [`away`]: while a data server
//! is away. [`job`]: not at all, since crm's `migrate` has done it.

mod away;
mod job;
mod killed;
mod wave;

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::cluster;
use rowhouse_proto::tenant::v1::{
    CancelMigrationRequest, CheckDriftRequest, CheckDriftResponse, ListHousesRequest, Migration, MigrationState,
    PlanMigrationRequest, PlanMigrationResponse, ResumeMigrationRequest, StartMigrationRequest, WatchMigrationRequest,
};
use rowhouse_types::TenantId;
use tonic_types::StatusExt as _;

use crate::support::world::{PLACEMENTS, World};

fn start(target_version: i32) -> StartMigrationRequest {
    StartMigrationRequest {
        participant: "crm".to_owned(),
        target_version,
        reason: "a test".to_owned(),
        ..StartMigrationRequest::default()
    }
}

async fn plan(world: &World) -> Result<PlanMigrationResponse> {
    let request = PlanMigrationRequest {
        participant: "crm".to_owned(),
    };
    Ok(world.operator.migrations().plan_migration(request).await?.into_inner())
}

/// The tenants whose houses are behind, with the version that those have.
async fn behind(world: &World) -> Result<Vec<(String, i32)>> {
    let request = ListHousesRequest {
        participant: "crm".to_owned(),
        behind_only: true,
        ..ListHousesRequest::default()
    };
    let page = world.operator.migrations().list_houses(request).await?.into_inner();
    ensure!(
        page.unreachable.is_empty() && page.next_page_token.is_empty(),
        "{page:?}"
    );
    Ok(page
        .houses
        .into_iter()
        .map(|house| (house.tenant_id, house.version))
        .collect())
}

/// Watches a run until it is in the state.
async fn watch(world: &World, id: &str, state: MigrationState) -> Result<Migration> {
    watch_until(world, id, |run| run.state() == state).await
}

async fn watch_until(world: &World, id: &str, is_wanted: impl Fn(&Migration) -> bool) -> Result<Migration> {
    let request = WatchMigrationRequest { id: id.to_owned() };
    let mut runs = world.operator.migrations().watch_migration(request).await?.into_inner();
    let mut last = None;
    while let Some(run) = runs.message().await? {
        if is_wanted(&run) {
            return Ok(run);
        }
        last = Some(run);
    }
    anyhow::bail!("the stream ended too early, with {last:?}")
}

async fn check_drift(world: &World) -> Result<CheckDriftResponse> {
    let request = CheckDriftRequest {
        participant: "crm".to_owned(),
        server: "data1".to_owned(),
        ..CheckDriftRequest::default()
    };
    Ok(world.operator.migrations().check_drift(request).await?.into_inner())
}

#[tokio::test]
async fn an_operator_migrates_the_fleet_and_finds_what_was_changed_by_hand() -> Result<()> {
    let world = World::start("migrations").await?;
    let own = world.house_in(PLACEMENTS[0], "own").await?;
    for (placement, slug) in [(PLACEMENTS[1], "shared"), (PLACEMENTS[2], "private")] {
        world.house_in(placement, slug).await?;
    }
    let tenant: TenantId = own.tenant.id.parse()?;
    let schema = format!("t_{}", tenant.uuid().simple());
    let superuser = cluster::connect(&world.suite.databases().data_superuser_url()).await?;
    let mut operator = world.operator.migrations();

    let plan = plan(&world).await?;
    let counted = plan.servers.first().and_then(|server| server.versions.first());
    assert_eq!(counted.map(|version| (version.houses, version.homes)), Some((3, 3)));

    let unknown = operator
        .start_migration(start(plan.newest_version + 1))
        .await
        .unwrap_err();
    let reason = unknown.get_error_details().error_info().map(|info| info.reason.clone());
    assert_eq!(reason.as_deref(), Some("MIGRATION_VERSION_UNKNOWN"));

    // Nothing is behind: the run is through at once.
    let run = operator.start_migration(start(0)).await?.into_inner();
    let done = watch(&world, &run.id, MigrationState::Done).await?;
    assert_eq!(
        (done.planned, done.failed, done.target_version),
        (0, 0, plan.newest_version)
    );

    // A house that the ledger takes for an empty one cannot be migrated: its tables are there.
    let set_version =
        |version: i32| format!("UPDATE rowhouse.houses SET version = {version} WHERE schema_name = '{schema}'");
    assert!(behind(&world).await?.is_empty());
    superuser.batch_execute(&set_version(0)).await?;
    assert_eq!(behind(&world).await?, [(own.tenant.id.clone(), 0)]);
    let run = operator.start_migration(start(0)).await?.into_inner();
    let halted = watch(&world, &run.id, MigrationState::Halted).await?;
    let fault = halted.faults.first().context("no fault")?;
    assert_eq!(
        (fault.tenant_id.as_str(), fault.server.as_str(), fault.sqlstate.as_str()),
        (own.tenant.id.as_str(), own.tenant.server.as_str(), "42P07")
    );
    superuser.batch_execute(&set_version(plan.newest_version)).await?;
    let resume = ResumeMigrationRequest {
        id: run.id.clone(),
        reason: "mended".to_owned(),
    };
    operator.resume_migration(resume).await?;
    watch(&world, &run.id, MigrationState::Done).await?;
    assert!(behind(&world).await?.is_empty());
    let cancel = CancelMigrationRequest {
        id: run.id,
        reason: "too late".to_owned(),
    };
    let late = operator.cancel_migration(cancel).await.unwrap_err();
    assert_eq!(late.code(), tonic::Code::FailedPrecondition);

    drift(&world, &superuser, &schema, &own.tenant.id).await
}

async fn drift(world: &World, superuser: &tokio_postgres::Client, schema: &str, tenant: &str) -> Result<()> {
    let clean = check_drift(world).await?;
    assert_eq!((clean.checked, clean.drifts), (3, Vec::new()));
    superuser
        .batch_execute(&format!("ALTER TABLE {schema}.contacts ADD COLUMN by_hand text"))
        .await?;
    let found = check_drift(world).await?;
    let drift = found.drifts.first().context("no drift")?;
    assert_eq!((found.drifts.len(), drift.tenant_id.as_str()), (1, tenant));
    assert!(drift.missing.is_empty() && drift.surplus.iter().any(|line| line.contains("contacts.by_hand")));
    Ok(())
}
