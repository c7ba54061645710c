//! What tests plant behind the suite's back.

use anyhow::Result;
use rowhouse_devkit::fixture::Databases;

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
