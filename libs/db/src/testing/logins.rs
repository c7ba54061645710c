//! The logins of tenants' own databases, for tests that log in by one.

use rowhouse_config::Secret;
use rowhouse_config::secret::SecretKey;
use rowhouse_seal::MasterKeys;
use rowhouse_types::{ServerName, TenantId};
use sqlx::{Connection as _, PgConnection};

use crate::control;
use crate::login::OwnLogins;
use crate::migrator::{ProvisionError, Provisioner, Resealed, own_name};

/// Master keys of tests and benches, each named by the byte that it consists of. Whoever needs one and does not care has `b'A'`.
#[must_use]
pub fn master_keys(present: u8, previous: &[u8]) -> MasterKeys {
    let key = |byte: u8| SecretKey::from([byte; 32]);
    MasterKeys {
        present: key(present),
        previous: previous.iter().copied().map(key).collect(),
    }
}

/// Name and password of the login that the tenant's own database has; `None` where it has none.
///
/// `main_url`: the server's main database, by a login that may read its registry.
///
/// # Errors
/// When the server does not answer, or another master key has sealed the password.
pub async fn own_login(
    main_url: &Secret,
    master_key: &SecretKey,
    tenant: TenantId,
) -> Result<Option<(String, Secret)>, Box<dyn std::error::Error + Send + Sync>> {
    let mut connection = PgConnection::connect_with(&control::options(main_url)?).await?;
    let sql = "SELECT sealed_password FROM rowhouse.databases WHERE tenant_id = $1 AND sealed_password IS NOT NULL";
    let sealed: Option<Vec<u8>> = sqlx::query_scalar(sql)
        .bind(tenant.uuid())
        .fetch_optional(&mut connection)
        .await?;
    connection.close().await?;
    let Some(sealed) = sealed else { return Ok(None) };
    let name = own_name(tenant);
    let password = OwnLogins::new(&master_key.clone().into())?.open(&name, &sealed)?;
    Ok(Some((name, password)))
}

/// [`Provisioner::reseal_logins`] with `page` passwords read at once: nobody makes hundreds of databases to see the next page.
///
/// # Errors
/// As of that.
pub async fn reseal_logins_by(provisioner: &Provisioner, page: i64) -> Result<Resealed, ProvisionError> {
    provisioner.reseal_logins_by(page).await
}

/// What [`Provisioner::migrate_all`] does first on a server, with `page` tenants read at once: schema `rowhouse` of their own
/// databases is brought on, and those get a login that have none.
///
/// # Errors
/// The first that failed.
pub async fn migrate_own_platforms_by(
    provisioner: &Provisioner,
    server: &ServerName,
    page: i64,
) -> Result<(), ProvisionError> {
    provisioner.migrate_own_platforms_by(server, page).await
}
