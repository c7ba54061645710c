//! Many homes, several built at once.

use anyhow::{Context as _, Result};
use rowhouse_db::{Home, Provisioner};
use rowhouse_devkit::cluster;
use rowhouse_devkit::settings::DATA_SERVER;
use rowhouse_types::{OperationId, Placement, ServerName, TenantId};
use tokio::task::JoinSet;

/// Homes that a provisioner builds at once: it has seven connections, and two cores are busy with four.
const BUILT_AT_ONCE: usize = 4;

/// Has a provisioner build a home for each tenant; answers them in any order.
pub(super) async fn provision(provisioner: &Provisioner, tenants: &[TenantId]) -> Result<Vec<Home>> {
    let (provisioner, server) = (provisioner.clone(), DATA_SERVER.parse::<ServerName>()?);
    build(tenants, BUILT_AT_ONCE, move |tenant| {
        let (provisioner, server) = (provisioner.clone(), server.clone());
        async move {
            let operation = OperationId::generate();
            let home = provisioner.prepare(tenant, &server, Placement::Schema, operation);
            Ok(home.await?)
        }
    })
    .await
}

/// Has a home built for each tenant, `at_once` of them at the same time; what came of each, in any order.
pub(super) async fn build<T, F>(
    tenants: &[TenantId],
    at_once: usize,
    build: impl Fn(TenantId) -> F + Clone + Send + 'static,
) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send,
{
    let mut building = JoinSet::new();
    for part in tenants.chunks(tenants.len().div_ceil(at_once).max(1)) {
        let (part, build) = (part.to_vec(), build.clone());
        building.spawn(async move {
            let mut built = Vec::with_capacity(part.len());
            for tenant in part {
                built.push(build(tenant).await?);
            }
            anyhow::Ok(built)
        });
    }
    let mut built = Vec::with_capacity(tenants.len());
    while let Some(part) = building.join_next().await {
        built.extend(part??);
    }
    Ok(built)
}

/// Puts rows into each tenant's home, and has statistics made, so that no run begins with autovacuum at work.
///
/// `insert`: the statement for a tenant.
pub(super) async fn plant(
    superuser_url: &str,
    tenants: &[TenantId],
    insert: impl Fn(TenantId) -> String,
) -> Result<()> {
    let superuser = cluster::connect(superuser_url).await?;
    for tenant in tenants {
        superuser
            .batch_execute(&insert(*tenant))
            .await
            .context("a home's rows")?;
    }
    superuser.batch_execute("VACUUM (ANALYZE)").await.context("vacuum")
}
