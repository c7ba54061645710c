//! Control data: a service's own schema of the control database, by sqlx, straight to PostgreSQL.

use std::borrow::Cow;
use std::str::FromStr as _;
use std::time::Duration;

use rowhouse_config::Secret;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, Postgres, Transaction};

use crate::error::is_servers;

/// Logins of control data are called `rowhouse_ctl_<schema>`.
const LOGIN_PREFIX: &str = "rowhouse_ctl_";

/// Longest wait for a connection.
const ACQUIRE_MAX: Duration = Duration::from_secs(5);

/// How long a connection may have been idle that is used again without asking the server first. In a pool that is busy each comes
/// by more often, and was asked when its last user gave it back; in another a round trip more does not matter.
const UNASKED_MAX: Duration = Duration::from_millis(250);

/// A service's own schema. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ControlDb {
    pool: PgPool,
}

// === impl ControlDb ===

impl ControlDb {
    /// Makes the pool. Connections are opened when they are needed, so the server need not be there yet.
    ///
    /// `url`: direct, never through a pooler: sqlx keeps prepared statements on the connection. The login's name,
    /// `rowhouse_ctl_<schema>`, says which schema `search_path` names. `connections_max`: connections at most.
    ///
    /// # Errors
    /// When the URL cannot be read; the error does not hold it.
    #[expect(
        clippy::unused_async,
        reason = "a pool belongs to a runtime, which an async function is sure to have"
    )]
    pub async fn connect(url: &Secret, connections_max: u32) -> Result<Self, sqlx::Error> {
        let options = options(url)?;
        let schema = options.get_username().strip_prefix(LOGIN_PREFIX).map(str::to_owned);
        let options = match schema {
            Some(schema) => options.options([("search_path", schema)]),
            None => options,
        };
        let pool = pool_options()
            .max_connections(connections_max.max(1))
            .acquire_timeout(ACQUIRE_MAX)
            .connect_lazy_with(options);
        Ok(Self { pool })
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// sqlx's.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        self.pool.begin().await
    }

    /// Whether the server answers, asked now.
    ///
    /// # Errors
    /// sqlx's.
    pub async fn ping(&self) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT 1").execute(&self.pool).await.map(drop)
    }

    /// Ends all connections, after those in use have come back.
    pub async fn shutdown(self) {
        self.pool.close().await;
    }
}

/// Whether the database does not answer, or ends what it is asked: another try may help. All else is a fault of who asks.
#[must_use]
pub fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(fault) => fault.code().is_some_and(|code| is_servers(&code)),
        _ => false,
    }
}

/// Brings a service's schema of the control database to the newest version.
///
/// Creates the schema, owned by the owner's login, and lets `rowhouse_ctl_<schema>` use it. The ledger stands in that
/// schema. Rights to tables are granted by the migrations themselves, where a reader sees them beside the tables.
/// Concurrent runs wait for each other.
///
/// `owner_url`: `rowhouse_owner`, direct. `schema`: a plain word of the code.
///
/// # Errors
/// When the server is out of reach, or a migration fails or has changed since it was applied.
pub async fn migrate_control(
    owner_url: &Secret,
    schema: &'static str,
    migrations: &'static Migrator,
) -> Result<(), MigrateError> {
    let options = options(owner_url)?.options([("search_path", schema)]);
    let mut connection = PgConnection::connect_with(&options).await?;
    let grant = format!("GRANT USAGE ON SCHEMA {schema} TO {LOGIN_PREFIX}{schema}");
    create_schema(&mut connection, schema, grant).await?;
    migrate(&mut connection, schema, migrations).await?;
    connection.close().await?;
    Ok(())
}

/// Applies migrations with their ledger in `schema`, holding sqlx's lock on the database.
pub(crate) async fn migrate(
    connection: &mut PgConnection,
    schema: &'static str,
    migrations: &'static Migrator,
) -> Result<(), MigrateError> {
    let ledgered = Migrator {
        migrations: Cow::Borrowed(&migrations.migrations),
        table_name: Cow::Owned(format!("{schema}.migrations")),
        ..Migrator::DEFAULT
    };
    ledgered.run_direct(None, connection, false).await
}

/// Creates `schema` where it is not there, owned by the login, and runs `grants`. Holds a lock meanwhile: two that start
/// together would both find it missing, and of two that grant at once the second fails ('tuple concurrently updated').
pub(crate) async fn create_schema(
    connection: &mut PgConnection,
    schema: &'static str,
    grants: String,
) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('rowhouse.schema', 0))")
        .execute(&mut *tx)
        .await?;
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
        .bind(schema)
        .fetch_one(&mut *tx)
        .await?;
    if !exists {
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA {schema}")))
            .execute(&mut *tx)
            .await?;
    }
    sqlx::raw_sql(AssertSqlSafe(grants)).execute(&mut *tx).await?;
    tx.commit().await
}

/// A pool that asks the server before it lends a connection only where that was idle for a while.
pub(crate) fn pool_options() -> PgPoolOptions {
    PgPoolOptions::new()
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > UNASKED_MAX {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
}

/// One connection, opened when it is needed, to another database of the same server, with the same login.
#[must_use]
pub fn database_beside(main: &PgPool, name: &str) -> PgPool {
    let options = (*main.connect_options()).clone().database(name);
    PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_MAX)
        .connect_lazy_with(options)
}

/// Reads a URL, whose `sslmode` means what it means to `wire::tls`. sqlx's own error could hold a part of the URL.
pub(crate) fn options(url: &Secret) -> Result<PgConnectOptions, sqlx::Error> {
    let read = PgConnectOptions::from_str(url.expose());
    let read = read.map_err(|_| sqlx::Error::Configuration("the URL of a database cannot be read".into()))?;
    let mode = verified(read.get_ssl_mode());
    Ok(read.application_name("rowhouse").ssl_mode(mode))
}

/// TLS with a certificate whose authority and name are verified, or none. sqlx takes any certificate under `require` and any
/// name under `verify-ca`, and where a URL says nothing it prefers TLS, which whoever is in between can talk it out of.
const fn verified(asked: PgSslMode) -> PgSslMode {
    match asked {
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => PgSslMode::Disable,
        PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => PgSslMode::VerifyFull,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a URL with these parameters makes of TLS. `PgSslMode` cannot be compared.
    fn mode(parameters: &str) -> String {
        let url = Secret::new(format!("postgres://u:p@h:1/d{parameters}"));
        format!("{:?}", options(&url).unwrap().get_ssl_mode())
    }

    #[test]
    fn there_is_no_tls_without_a_certificate_that_is_verified() {
        for asked in ["require", "verify-ca", "verify-full"] {
            assert_eq!(mode(&format!("?sslmode={asked}")), "VerifyFull", "{asked}");
        }
        for asked in ["disable", "allow", "prefer"] {
            assert_eq!(mode(&format!("?sslmode={asked}")), "Disable", "{asked}");
        }
        assert_eq!(mode(""), "Disable", "a URL that says nothing");
    }

    #[test]
    fn an_unknown_word_is_refused_and_the_url_is_not_told() {
        let url = Secret::new("postgres://u:hush@h:1/d?sslmode=requires".to_owned());
        let refused = options(&url).unwrap_err().to_string();
        assert!(!refused.contains("hush") && !refused.contains("requires"), "{refused}");
    }
}
