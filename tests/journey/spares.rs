//! Signing up on a suite that builds homes ahead: the tenant gets one, and works in it.

use anyhow::Result;
use rowhouse_devkit::suite::{Options, Process};
use rowhouse_devkit::{cluster, journey, wait};
use rowhouse_types::TenantId;
use uuid::Uuid;

use crate::support::world::World;

#[tokio::test]
async fn a_tenant_that_signs_up_moves_into_a_spare_home_and_another_is_built() -> Result<()> {
    let spares = (
        Some(Process::Tenant),
        "ROWHOUSE_TENANT_SPARES".to_owned(),
        "2".to_owned(),
    );
    let options = Options {
        environment: vec![spares],
        ..Options::default()
    };
    let world = World::start_with("spares", options).await?;
    let control = cluster::connect(&world.suite.databases().control_superuser_url()).await?;
    let ready = async || -> Result<Vec<TenantId>> {
        let sql = "SELECT tenant_id FROM tenant.spares WHERE state = 'ready'";
        let rows = control.query(sql, &[]).await?;
        Ok(rows
            .iter()
            .map(|row| TenantId::from_uuid(row.get::<_, Uuid>(0)))
            .collect())
    };
    let full = || {
        wait::until("two spares", journey::BACKGROUND_MAX, async || {
            Ok(ready().await?.len() == 2)
        })
    };
    full().await?;
    let before = ready().await?;

    let tenant = journey::create_tenant(&world.operator, "acme", "Acme Ltd", "ada@acme.example").await?;
    assert!(before.contains(&tenant.id.parse()?), "{} is new", tenant.id);
    let ada = world.join(&tenant.id, "ada@acme.example").await?;
    journey::contacts(&ada.caller).await?;

    full().await?;
    assert!(!ready().await?.contains(&tenant.id.parse()?), "a spare is taken once");
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
