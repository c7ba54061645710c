//! The login of a tenant's own database: made, let in, removed. It is named like the database.
//!
//! Roles are the cluster's. The owner may not make them; two functions in a database that every cluster has do it for it
//! (`cluster/roles.sql`).

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rowhouse_config::Secret;
use rowhouse_seal::scram::{self, SALT_BYTES};
use sqlx::postgres::PgDatabaseError;
use sqlx::{AssertSqlSafe, PgConnection};

use super::ProvisionError;
use crate::login::OwnLogins;

/// Where the functions are.
pub(super) const CLUSTER_DATABASE: &str = "postgres";

/// Bytes of a password, all random: nobody guesses it.
const PASSWORD_BYTES: usize = 32;

/// Sessions that one such login may have at once, where nothing else is said: more than the pools of a few processes and poolers
/// come to, and less than a server has.
pub(super) const CONNECTIONS_MAX: u16 = 32;

/// As many as PostgreSQL's own verifiers have. A client needs a few milliseconds for them, once a connection.
const ITERATIONS: u32 = 4096;

/// A login that can be used from now on.
pub(super) struct Made {
    /// The password, for whoever has the master key.
    pub(super) sealed: Vec<u8>,
    /// What PostgreSQL has of it; the pooler needs the same.
    verifier: String,
}

/// Makes the login, or gives it another password: whoever was told the old one has died. It has `connections_max` sessions at most.
///
/// `cluster`: a connection to [`CLUSTER_DATABASE`].
pub(super) async fn make(
    cluster: &mut PgConnection,
    logins: &OwnLogins,
    name: &str,
    connections_max: u16,
) -> Result<Made, ProvisionError> {
    let (password, verifier) = put(cluster, name).await?;
    bound(cluster, name, connections_max).await?;
    let sealed = logins.seal(name, &password)?;
    Ok(Made { sealed, verifier })
}

/// Gives the login, which is made where it is not there, a new password: the password, and its verifier.
async fn put(cluster: &mut PgConnection, name: &str) -> Result<(Secret, String), ProvisionError> {
    let password = Secret::new(URL_SAFE_NO_PAD.encode(random::<PASSWORD_BYTES>()?));
    let verifier = scram::verifier(password.expose(), &random::<SALT_BYTES>()?, ITERATIONS)?;
    sqlx::query("SELECT rowhouse_logins.put($1, $2)")
        .bind(name)
        .bind(&verifier)
        .execute(cluster)
        .await
        .map_err(without_functions)?;
    Ok((password, verifier))
}

/// Bounds how many sessions the login has at once, whoever opens them.
///
/// `cluster`: a connection to [`CLUSTER_DATABASE`].
pub(super) async fn bound(cluster: &mut PgConnection, name: &str, connections_max: u16) -> Result<(), ProvisionError> {
    sqlx::query("SELECT rowhouse_logins.bound($1, $2)")
        .bind(name)
        .bind(i32::from(connections_max))
        .execute(cluster)
        .await
        .map_err(without_functions)?;
    Ok(())
}

/// Lets the login do in its database what `rowhouse_app` does in others, and the pooler know it. May be repeated.
///
/// `own`: a transaction in that database.
pub(super) async fn let_in(own: &mut PgConnection, name: &str, made: &Made) -> Result<(), ProvisionError> {
    admit(own, name).await?;
    run(
        own,
        format!(
            "GRANT CONNECT ON DATABASE {name} TO {name}, rowhouse_pooler;
             GRANT USAGE ON SCHEMA rowhouse TO rowhouse_pooler;
             GRANT EXECUTE ON FUNCTION rowhouse.pooled_login(text) TO rowhouse_pooler"
        ),
    )
    .await?;
    sqlx::query(
        "INSERT INTO rowhouse.pooled_logins (name, verifier) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET verifier = excluded.verifier",
    )
    .bind(name)
    .bind(&made.verifier)
    .execute(own)
    .await?;
    Ok(())
}

/// Grants the login what migrations have granted `rowhouse_app` of schema `rowhouse`, where there is such a login.
///
/// `own`: a transaction in that database.
pub(super) async fn admit(own: &mut PgConnection, name: &str) -> Result<(), ProvisionError> {
    lock(own).await?;
    let functions: Vec<String> = sqlx::query_scalar(
        "SELECT function.oid::regprocedure::text
         FROM pg_catalog.pg_proc AS function
         JOIN pg_catalog.pg_roles AS login ON login.rolname = $1
         WHERE function.pronamespace = 'rowhouse'::regnamespace
             AND has_function_privilege('rowhouse_app', function.oid, 'EXECUTE')
             AND NOT has_function_privilege(login.oid, function.oid, 'EXECUTE')",
    )
    .bind(name)
    .fetch_all(&mut *own)
    .await?;
    if functions.is_empty() {
        return Ok(());
    }
    let functions = functions.join(", ");
    run(
        own,
        format!("GRANT USAGE ON SCHEMA rowhouse TO {name}; GRANT EXECUTE ON FUNCTION {functions} TO {name}"),
    )
    .await?;
    Ok(())
}

/// Waits until nobody else works on the login, and keeps others from it until the end of the transaction: of two that grant at once
/// the second fails ('tuple concurrently updated'), and of two passwords the role and the pooler must have the same.
///
/// `own`: a transaction in the login's database.
pub(super) async fn lock(own: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('rowhouse.own_login', 0))")
        .execute(own)
        .await
        .map(drop)
}

/// Keeps the services' common login out of a database that has a login of its own.
pub(super) async fn keep_others_out(own: &mut PgConnection, name: &str) -> Result<(), ProvisionError> {
    run(own, format!("REVOKE CONNECT ON DATABASE {name} FROM rowhouse_app")).await?;
    Ok(())
}

/// Removes the login, after its database, where it is there.
///
/// PostgreSQL keeps a role that somebody has granted something in another database, and only an operator can take that back. It
/// must not keep the tenant's purge from going on, which has more to erase: such a login is left, with a password that nobody
/// has, and the log says so.
///
/// `cluster`: a connection to [`CLUSTER_DATABASE`].
pub(super) async fn remove(cluster: &mut PgConnection, name: &str) -> Result<(), ProvisionError> {
    let removed = sqlx::query("SELECT rowhouse_logins.remove($1)")
        .bind(name)
        .execute(&mut *cluster)
        .await;
    let Err(error) = removed else { return Ok(()) };
    let Some(granted) = granted_elsewhere(&error) else {
        return Err(without_functions(error));
    };
    put(cluster, name).await?;
    tracing::warn!(
        login = name,
        granted,
        "the login of a dropped database was granted something elsewhere and is left, with a password that nobody has: \
         revoke that and drop the role"
    );
    Ok(())
}

/// Whether the login is there. Roles are the cluster's, so every database knows.
pub(super) async fn exists(connection: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)")
        .bind(name)
        .fetch_one(connection)
        .await
}

/// Why a login was not removed: what it has outside its own database, where it has something. PostgreSQL names databases and
/// shared objects there, and nothing of what they hold.
fn granted_elsewhere(error: &sqlx::Error) -> Option<&str> {
    let fault = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    // dependent_objects_still_exist.
    (fault.code() == "2BP01").then(|| fault.detail().unwrap_or_default())
}

/// `cluster/roles.sql` may be older than this code.
fn without_functions(error: sqlx::Error) -> ProvisionError {
    let code = error.as_database_error().and_then(|error| error.code());
    match code.as_deref() {
        // invalid_schema_name, undefined_function.
        Some("3F000" | "42883") => ProvisionError::ClusterOutdated,
        _ => error.into(),
    }
}

fn random<const N: usize>() -> Result<[u8; N], ProvisionError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| rowhouse_seal::Error::Sealing)?;
    Ok(bytes)
}

/// Runs statements of this file. Whatever is put into them is a name of letters, digits and underscores, or a function that
/// the catalogue has named.
async fn run(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}
