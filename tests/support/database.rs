//! What tests plant behind the suite's back, and where they look.

use anyhow::Result;
use rowhouse_devkit::cluster;
use rowhouse_devkit::fixture::Databases;
use rowhouse_devkit::settings::{DATA_SERVER, DataServer};
use rowhouse_proto::common::v1::Placement;
use rowhouse_types::TenantId;
use tokio_postgres::Client;

/// Where a tenant's tables are on the first data server: a superuser's connection, and the schema.
pub(crate) async fn home(databases: &Databases, placement: Placement, tenant: TenantId) -> Result<(Client, String)> {
    home_on(&databases.data_server(DATA_SERVER)?, placement, tenant).await
}

/// The same on any.
pub(crate) async fn home_on(server: &DataServer, placement: Placement, tenant: TenantId) -> Result<(Client, String)> {
    let own = format!("t_{}", tenant.uuid().simple());
    let url = match placement {
        Placement::Database => server.servers.superuser_url(&own),
        _ => server.superuser_url(),
    };
    let client = cluster::connect(&url).await?;
    let schema = match placement {
        Placement::Shared => {
            let sql =
                "SELECT schema_name FROM rowhouse.homes JOIN rowhouse.houses USING (house_id) WHERE tenant_id = $1";
            client.query_one(sql, &[&tenant.uuid()]).await?.get(0)
        }
        _ => own,
    };
    Ok((client, schema))
}

/// Who waits for what this connection holds. The locks say so; `pg_stat_activity` does not change during a transaction.
pub(crate) async fn held(client: &Client) -> Result<Vec<i32>> {
    let sql = "SELECT DISTINCT pid FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))";
    Ok(client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// Runs a statement in the control database as a superuser.
pub(crate) async fn execute(databases: &Databases, statement: &str) -> Result<()> {
    let (client, connection) =
        tokio_postgres::connect(&databases.control_superuser_url(), tokio_postgres::NoTls).await?;
    let driver = tokio::spawn(connection);
    let changed = client.batch_execute(statement).await;
    drop(client);
    driver.await??;
    Ok(changed?)
}
