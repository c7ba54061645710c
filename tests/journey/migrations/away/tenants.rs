//! A tenant that comes to a data server that is away, and one that leaves it: both wait for it, and end by themselves when it is
//! back. Others come and leave meanwhile.

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::settings::{DATA_SERVER, SECOND_DATA_SERVER};
use rowhouse_devkit::{cluster, wait};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::tenant::v1::{
    DeleteTenantRequest, GetTenantRequest, ListTenantsRequest, PurgeTenantRequest, Server, Tenant, TenantState,
    UpdateServerRequest,
};
use rowhouse_proto::well_known::FieldMask;
use tokio::task::JoinSet;

use super::BOUND;
use crate::journey::servers;
use crate::support::world::World;

/// Regions of the first server and the second.
const HERE: &str = "us";
const THERE: &str = "eu";

/// Who comes to the second server, and who comes to the first and leaves it again.
const COMER: &str = "comer";
const PASSING: &str = "passing";

/// Operations of tenants that have not ended: all, and those whose step was tried in vain.
const UNFINISHED: &str = "SELECT count(*), count(*) FILTER (WHERE attempts > 0)
    FROM tenant.operations WHERE finished_at IS NULL";

/// What waits for the second server.
pub(super) struct Waiting {
    leaver: Tenant,
    calls: JoinSet<()>,
}

// === impl Waiting ===

impl Waiting {
    /// Waits until both have ended: one is where it was to come, and nothing is left of the other.
    pub(super) async fn end(mut self, world: &World) -> Result<()> {
        wait::until("the end of what waited for the server", BOUND, || async {
            let (come, left) = (comer(world).await?, get(world, &self.leaver.id).await?);
            Ok(come.state() == TenantState::Active && left.state() == TenantState::Purged)
        })
        .await?;
        // Whether the first calls have waited for that or were told that it goes on, they are over.
        while let Some(ended) = self.calls.join_next().await {
            ended?;
        }
        servers::is_there_alone(world, &comer(world).await?).await?;
        servers::has_left(world, &self.leaver).await
    }
}

/// A tenant of the second server that is deleted, and to be purged. From here on the regions tell the servers apart.
pub(super) async fn leaver(world: &World) -> Result<Tenant> {
    let update = UpdateServerRequest {
        server: Some(Server {
            name: DATA_SERVER.to_owned(),
            labels: [("region".to_owned(), HERE.to_owned())].into(),
            ..Server::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["labels".to_owned()],
        }),
    };
    world.operator.servers().update_server(update).await?;
    let request = servers::creation((Placement::Schema, "leaver"), Some(THERE));
    let leaver = world.operator.tenants().create_tenant(request).await?.into_inner();
    ensure!(leaver.server == SECOND_DATA_SERVER, "{leaver:?}");
    delete(world, &leaver).await?;
    Ok(leaver)
}

/// Begins to bring one tenant to the second server, which is away, and to purge another of it. Neither ends, and another tenant
/// comes to the first server and leaves it at once.
pub(super) async fn wait(world: &World, leaver: Tenant) -> Result<Waiting> {
    let mut calls = JoinSet::new();
    let (operator, request) = (world.operator.clone(), purge(&leaver));
    calls.spawn(async move { drop(operator.tenants().purge_tenant(request).await) });
    let operator = world.operator.clone();
    let request = servers::creation((Placement::Schema, COMER), Some(THERE));
    calls.spawn(async move { drop(operator.tenants().create_tenant(request).await) });
    wait::until("a purge and a creation that have begun", BOUND, || async {
        Ok(unfinished(world).await?.0 == 2)
    })
    .await?;
    comes_and_leaves(world).await?;
    wait::until("a purge and a creation that were tried in vain", BOUND, || async {
        Ok(unfinished(world).await?.1 == 2)
    })
    .await?;
    let (coming, leaving) = (comer(world).await?, get(world, &leaver.id).await?);
    ensure!(coming.state() == TenantState::Provisioning, "{coming:?}");
    ensure!(leaving.state() == TenantState::Purging, "{leaving:?}");
    Ok(Waiting { leaver, calls })
}

/// On the server that is there, while the others wait for theirs. That crm's `provision` keeps nobody in line behind another server
/// is tested beside its code.
async fn comes_and_leaves(world: &World) -> Result<()> {
    let mut tenants = world.operator.tenants();
    let create = servers::creation((Placement::Schema, PASSING), Some(HERE));
    let passing = tenants
        .create_tenant(create)
        .await
        .context("CreateTenant")?
        .into_inner();
    ensure!(
        passing.state() == TenantState::Active && passing.server == DATA_SERVER,
        "{passing:?}"
    );
    delete(world, &passing).await?;
    let purged = tenants
        .purge_tenant(purge(&passing))
        .await
        .context("PurgeTenant")?
        .into_inner();
    ensure!(purged.state() == TenantState::Purged, "{purged:?}");
    let (others, _) = unfinished(world).await?;
    ensure!(others == 2, "{others} of the two others are unfinished");
    Ok(())
}

async fn delete(world: &World, tenant: &Tenant) -> Result<()> {
    let delete = DeleteTenantRequest {
        id: tenant.id.clone(),
        reason: "a test".to_owned(),
        ..DeleteTenantRequest::default()
    };
    world.operator.tenants().delete_tenant(delete).await?;
    Ok(())
}

fn purge(tenant: &Tenant) -> PurgeTenantRequest {
    PurgeTenantRequest {
        id: tenant.id.clone(),
        reason: "a test".to_owned(),
        slug: tenant.slug.clone(),
    }
}

async fn get(world: &World, id: &str) -> Result<Tenant> {
    let request = GetTenantRequest { id: id.to_owned() };
    Ok(world.operator.tenants().get_tenant(request).await?.into_inner())
}

async fn comer(world: &World) -> Result<Tenant> {
    let request = ListTenantsRequest::default();
    let listed = world.operator.tenants().list_tenants(request).await?.into_inner();
    let comer = listed.tenants.into_iter().find(|tenant| tenant.slug == COMER);
    comer.context("nobody comes")
}

/// As [`UNFINISHED`] says.
async fn unfinished(world: &World) -> Result<(i64, i64)> {
    let control = cluster::connect(&world.suite.databases().control_superuser_url()).await?;
    let row = control.query_one(UNFINISHED, &[]).await?;
    Ok((row.get(0), row.get(1)))
}
