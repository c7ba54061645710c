//! One tenant's rows in a shared house, taken out in bounded steps.

use rowhouse_types::TenantId;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{ProvisionError, house};

/// Deletes rows of the tenant, at most about `rows_max`. Returns how many; 0 when none is left.
///
/// The owner is bound by the policy too: it sees this tenant's rows and no others, whatever the statement says.
pub(super) async fn clear(
    connection: &mut PgConnection,
    schema: &str,
    tenant: TenantId,
    rows_max: u64,
) -> Result<u64, ProvisionError> {
    sqlx::query("SELECT set_config('rowhouse.tenant_id', $1, true)")
        .bind(tenant.uuid().to_string())
        .execute(&mut *connection)
        .await?;
    let mut deleted = 0;
    for table in in_order(connection, schema).await? {
        // Rows that refer to each other can only go together.
        let bound = if table.refers_to_itself {
            u64::MAX
        } else {
            rows_max.saturating_sub(deleted)
        };
        if bound == 0 {
            break;
        }
        let path = format!("{schema}.{}", table.name);
        let delete = format!(
            "DELETE FROM {path} WHERE tenant_id = $1
                 AND ctid = ANY (ARRAY(SELECT ctid FROM {path} WHERE tenant_id = $1 LIMIT $2))"
        );
        let done = sqlx::query(AssertSqlSafe(delete))
            .bind(tenant.uuid())
            .bind(i64::try_from(bound).unwrap_or(i64::MAX))
            .execute(&mut *connection)
            .await?;
        deleted += done.rows_affected();
    }
    Ok(deleted)
}

struct Table {
    name: String,
    refers_to_itself: bool,
}

/// The tables, those that refer to others before those.
async fn in_order(connection: &mut PgConnection, schema: &str) -> Result<Vec<Table>, ProvisionError> {
    let mut waiting = house::tables(connection, schema).await?;
    let mut references: Vec<(String, String)> = sqlx::query_as(concat!(
        "SELECT entry.name, parent.relname::text FROM ",
        house::tables_of_schema!(),
        " JOIN pg_catalog.pg_constraint AS reference ON reference.conrelid = entry.oid AND reference.contype = 'f'
          JOIN pg_catalog.pg_class AS parent ON parent.oid = reference.confrelid"
    ))
    .bind(schema)
    .fetch_all(&mut *connection)
    .await?;
    let own = |table: &String, references: &[(String, String)]| {
        references
            .iter()
            .any(|(child, parent)| child == table && parent == table)
    };
    let mut ordered = Vec::new();
    while !waiting.is_empty() {
        let free = waiting.iter().position(|table| {
            !references
                .iter()
                .any(|(child, parent)| parent == table && child != table)
        });
        let Some(free) = free else {
            return Err(ProvisionError::Rule(
                "tables refer to each other in a circle".to_owned(),
            ));
        };
        let name = waiting.remove(free);
        let refers_to_itself = own(&name, &references);
        references.retain(|(child, _)| *child != name);
        ordered.push(Table { name, refers_to_itself });
    }
    Ok(ordered)
}
