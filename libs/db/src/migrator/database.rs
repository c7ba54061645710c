//! A tenant's own database: made, guarded, emptied, dropped. Its name is that of the tenant's house, from its opaque id.

use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::ProvisionError;

/// Who may connect besides the owner and the database's own login, which enters: whoever publishes, whoever counts. Not PUBLIC:
/// every other login of the server could look at the catalogue, and hold up a drop.
const GUESTS: &str = "rowhouse_relay, rowhouse_keeper";

/// Events that are carried over in one step.
const CARRIED_AT_ONCE: i64 = 500;

pub(super) async fn exists(connection: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)")
        .bind(name)
        .fetch_one(connection)
        .await
}

/// Whether it is there and can be opened. -2: dropping it was begun and cut off, and nothing but dropping it is left to do.
pub(super) async fn is_whole(connection: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1 AND datconnlimit <> -2)";
    sqlx::query_scalar(sql).bind(name).fetch_one(connection).await
}

/// Creates the database. No transaction may be open on the connection.
pub(super) async fn create(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    // `template0`: nobody is ever connected to it, and nothing was ever put into it. The default strategy, WAL_LOG, took
    // 70-80 ms; FILE_COPY took 60-200 ms, and makes the whole server write a checkpoint twice.
    run(
        connection,
        format!("CREATE DATABASE {name} OWNER rowhouse_owner TEMPLATE template0"),
    )
    .await
}

/// Lets those connect who must, and nobody make temporary tables: one that is left on a pooled connection would shadow a
/// table. May be repeated.
pub(super) async fn guard(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    run(
        connection,
        format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC; GRANT CONNECT ON DATABASE {name} TO {GUESTS}"),
    )
    .await
}

/// Drops the database with everybody in it: the pooler keeps idle connections. No transaction may be open on the
/// connection.
pub(super) async fn drop(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    run(connection, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await
}

/// Whether schema `rowhouse` is there, with its registry and its outbox.
pub(super) async fn has_registry(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT to_regclass('rowhouse.homes') IS NOT NULL AND to_regclass('rowhouse.outbox') IS NOT NULL",
    )
    .fetch_one(connection)
    .await
}

/// Copies events that were not published yet into the outbox of the main database. What the relay publishes meanwhile is
/// published twice, which every consumer stands.
pub(super) async fn carry_events(own: &mut PgConnection, main: &mut PgConnection) -> Result<(), ProvisionError> {
    let mut after = Uuid::nil();
    loop {
        let (batch, last): (Option<String>, Option<Uuid>) = sqlx::query_as(
            "SELECT batch::text, (batch -> -1 ->> 'id')::uuid
             FROM (SELECT jsonb_agg(to_jsonb(event) ORDER BY event.id) AS batch
                   FROM (SELECT id, tenant_id, kind, payload, request_id, traceparent, created_at
                         FROM rowhouse.outbox WHERE id > $1 ORDER BY id LIMIT $2) AS event) AS page",
        )
        .bind(after)
        .bind(CARRIED_AT_ONCE)
        .fetch_one(&mut *own)
        .await?;
        let (Some(batch), Some(last)) = (batch, last) else {
            return Ok(());
        };
        sqlx::query(
            "INSERT INTO rowhouse.outbox (id, tenant_id, kind, payload, request_id, traceparent, created_at)
             SELECT id, tenant_id, kind, payload, request_id, traceparent, created_at
             FROM jsonb_populate_recordset(NULL::rowhouse.outbox, $1::jsonb)
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(batch)
        .execute(&mut *main)
        .await?;
        after = last;
    }
}

/// Runs statements of this file. Whatever is put into them is a name of letters, digits and underscores.
async fn run(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .map(std::mem::drop)
}
