//! Two data servers: the second is registered while the suite runs, and takes what the first no longer does.

use anyhow::Result;
use rowhouse_devkit::cluster;
use rowhouse_devkit::suite::Options;
use rowhouse_proto::tenant::v1::{
    ActivateServerRequest, DrainServerRequest, GetServerRequest, RegisterServerRequest, Server,
};
use rowhouse_types::TenantId;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::main_job::main_job_in;
use crate::support::world::{PLACEMENTS, World};

fn registration(name: &str) -> RegisterServerRequest {
    RegisterServerRequest {
        server: Some(Server {
            name: name.to_owned(),
            labels: [("region".to_owned(), "eu".to_owned())].into(),
            ..Server::default()
        }),
    }
}

/// How many homes the tenant has in this database.
async fn homes(superuser_url: &str, tenant: TenantId) -> Result<i64> {
    let client = cluster::connect(superuser_url).await?;
    let sql = "SELECT count(*) FROM rowhouse.homes WHERE tenant_id = $1";
    Ok(client.query_one(sql, &[&tenant.uuid()]).await?.get(0))
}

#[tokio::test]
async fn a_second_server_is_registered_and_does_the_main_job_in_every_placement() -> Result<()> {
    let options = Options {
        second_data_server: true,
        ..Options::default()
    };
    let world = World::start_with("servers", options).await?;
    let mut servers = world.operator.servers();

    let stranger = servers.register_server(registration("data9")).await.unwrap_err();
    assert_eq!(stranger.code(), Code::FailedPrecondition);
    let reason = stranger
        .get_error_details()
        .error_info()
        .map(|info| info.reason.clone());
    assert_eq!(reason.as_deref(), Some("SERVER_NOT_READY"));

    servers.register_server(registration("data2")).await?;
    let drain = DrainServerRequest {
        name: "data1".to_owned(),
        reason: "a test".to_owned(),
    };
    servers.drain_server(drain).await?;
    let databases = world.suite.databases();
    let second = databases.second_data_superuser_url();
    for placement in PLACEMENTS {
        let tenant = main_job_in(&world, placement).await?;
        assert_eq!(homes(&second, tenant).await?, 1);
        assert_eq!(homes(&databases.data_superuser_url(), tenant).await?, 0);
    }
    let get = GetServerRequest {
        name: "data2".to_owned(),
    };
    let placed = usize::try_from(servers.get_server(get).await?.into_inner().tenants)?;
    assert_eq!(placed, PLACEMENTS.len());

    let activate = ActivateServerRequest {
        name: "data1".to_owned(),
        reason: "a test".to_owned(),
    };
    servers.activate_server(activate).await?;
    let house = world.house("acme").await?;
    assert_eq!(house.tenant.server, "data1");
    Ok(())
}
