//! Whether statements fit the schema.

use rowhouse_config::Secret;
use rowhouse_types::TenantId;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, Statement};

use crate::statement::AnyStatement;

/// Prepares every statement inside a tenant's home, as the role that runs them, and compares types of parameters, names
/// and types of columns with what the code declares.
///
/// `url`: a direct URL of a login that may become `rowhouse_tenant`, the superuser's for instance.
///
/// Returns what does not fit, a line each.
///
/// # Errors
/// When the server does not answer.
pub async fn check_statements(
    url: &Secret,
    tenant: TenantId,
    statements: &[&dyn AnyStatement],
) -> Result<Vec<String>, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url.expose(), NoTls).await?;
    let checked = async move {
        let mut faults = Vec::new();
        let home = client
            .query_typed(
                "SELECT house.schema_name
                 FROM rowhouse.homes AS home JOIN rowhouse.houses AS house ON house.house_id = home.house_id
                 WHERE home.tenant_id = $1 ORDER BY home.participant LIMIT 1",
                &[(&tenant.uuid(), Type::UUID)],
            )
            .await?;
        let Some(home) = home.first() else {
            return Ok(vec!["the tenant has no home here".to_owned()]);
        };
        let home: String = home.try_get(0)?;
        let enter = format!("BEGIN; SET LOCAL search_path = {home}, ext, pg_temp; SET LOCAL ROLE rowhouse_tenant");
        for statement in statements {
            client.batch_execute(&enter).await?;
            faults.extend(check(&client, *statement).await);
            client.batch_execute("ROLLBACK").await?;
        }
        Ok(faults)
    };
    // The connection ends when the client, which the check owns, is dropped.
    let (checked, _) = futures_util::future::join(checked, connection).await;
    checked
}

async fn check(client: &Client, statement: &dyn AnyStatement) -> Vec<String> {
    let name = statement.name();
    let mut declared = vec![Type::UUID];
    declared.extend_from_slice(statement.binds());
    let prepared = match prepare(client, statement.sql(), &declared).await {
        Ok(prepared) => prepared,
        Err(error) => return vec![format!("{name}: {}", cause(&error))],
    };
    let mut faults = Vec::new();
    if prepared.params() != declared {
        faults.push(format!(
            "{name}: parameters are {:?}, declared {declared:?}",
            prepared.params()
        ));
    }
    let columns: Vec<(&str, &Type)> = prepared
        .columns()
        .iter()
        .map(|column| (column.name(), column.type_()))
        .collect();
    let expected: Vec<(&str, &Type)> = statement.columns().iter().map(|(name, kind)| (*name, kind)).collect();
    if columns != expected {
        faults.push(format!("{name}: columns are {columns:?}, declared {expected:?}"));
    }
    // Whatever is no built-in type makes the driver ask the catalogue in the middle of an exchange.
    let foreign = columns.iter().filter(|(_, kind)| Type::from_oid(kind.oid()).is_none());
    faults.extend(
        rights(client, statement, &declared)
            .await
            .err()
            .map(|cause| format!("{name}: {cause}")),
    );
    faults.extend(foreign.map(|(column, kind)| format!("{name}: {column} has type {kind}, which is not built in")));
    faults
}

/// Lets PostgreSQL infer the types, which shows a bind of a type that merely can be cast; and declares them only where it
/// cannot tell.
async fn prepare(client: &Client, sql: &str, declared: &[Type]) -> Result<Statement, tokio_postgres::Error> {
    client.batch_execute("SAVEPOINT inferred").await?;
    match client.prepare_typed(sql, &[Type::UUID]).await {
        Ok(prepared) => Ok(prepared),
        Err(_) => {
            client.batch_execute("ROLLBACK TO SAVEPOINT inferred").await?;
            client.prepare_typed(sql, declared).await
        }
    }
}

/// Rights are looked at when a statement starts and not when it is prepared; EXPLAIN starts it and does not run it.
async fn rights(client: &Client, statement: &dyn AnyStatement, declared: &[Type]) -> Result<(), String> {
    let types: Vec<&str> = declared.iter().map(Type::name).collect();
    let nothing = vec!["NULL"; declared.len()].join(", ");
    let sql = format!(
        "PREPARE checked ({}) AS {}; EXPLAIN EXECUTE checked ({nothing})",
        types.join(", "),
        statement.sql()
    );
    let explained = client.batch_execute(&sql).await;
    // A prepared statement outlives the transaction; one that failed was never made.
    let forgotten = client.batch_execute("ROLLBACK; DEALLOCATE ALL; BEGIN").await;
    explained.and(forgotten).map_err(|error| cause(&error))
}

fn cause(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), ToString::to_string)
}
