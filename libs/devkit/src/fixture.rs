//! What one test owns. Works under `cargo xtask test`, which names the running servers in `ROWHOUSE_TEST_STACK`.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::cluster::{self, Kind};
use crate::http;
use crate::own_server::OwnServer;
use crate::secrets::random_word;
use crate::servers::{Login, Servers};
use crate::settings::{DATA_SERVER, DataServer, SECOND_DATA_SERVER};

/// The variable with the path of the description of the running servers.
pub const TEST_STACK: &str = "ROWHOUSE_TEST_STACK";

/// Bytes of a name's readable part: PostgreSQL cuts names at 63.
const HINT_BYTES_MAX: usize = 40;

/// The servers that `cargo xtask test` started.
///
/// # Errors
/// When `ROWHOUSE_TEST_STACK` is absent: the message says to use `cargo xtask test`.
pub fn servers() -> Result<Servers> {
    let file = env::var_os(TEST_STACK).with_context(|| {
        format!("{TEST_STACK} is not set: tests that need servers run under `cargo xtask test -- <nextest arguments>`")
    })?;
    Servers::read(Path::new(&file))
}

/// A pair of databases (control, data) of one test, or one of them; dropped on drop, as well as can be, with those of tenants
/// that have one of their own.
#[derive(Debug)]
pub struct Databases {
    servers: Servers,
    control: String,
    data: String,
    /// Which of them were made.
    kinds: &'static [Kind],
    second: Option<OwnServer>,
}

impl Databases {
    /// Clones the migrated templates. `name` is a hint for whoever looks at the list of databases; the real names are
    /// unique.
    ///
    /// # Errors
    /// When the servers are not there or a database cannot be cloned.
    pub async fn create(name: &str) -> Result<Self> {
        Self::make(name, &[Kind::Control, Kind::Data], true).await
    }

    /// Clones one template. A database is some hundred files to copy and to remove, and most tests look into one alone.
    ///
    /// # Errors
    /// As [`Databases::create`].
    pub async fn create_only(kind: Kind, name: &str) -> Result<Self> {
        Self::make(name, kind.alone(), true).await
    }

    /// A pair without any schema, owned by `rowhouse_owner`, with the suite's grants: for tests of the migrators.
    ///
    /// # Errors
    /// As [`Databases::create`].
    pub async fn empty(name: &str) -> Result<Self> {
        Self::make(name, &[Kind::Control, Kind::Data], false).await
    }

    /// One of such a pair.
    ///
    /// # Errors
    /// As [`Databases::create`].
    pub async fn empty_only(kind: Kind, name: &str) -> Result<Self> {
        Self::make(name, kind.alone(), false).await
    }

    async fn make(name: &str, kinds: &'static [Kind], is_migrated: bool) -> Result<Self> {
        let servers = servers()?;
        let unique = unique(name);
        // Made before the databases: dropping it cleans up what was made when the second one fails.
        let databases = Self {
            servers,
            control: format!("{unique}_control"),
            data: format!("{unique}_data"),
            kinds,
            second: None,
        };
        let make = async |kind: Kind| {
            if !kinds.contains(&kind) {
                return Ok(());
            }
            let template = is_migrated.then(|| kind.template());
            cluster::ensure_database(&databases.servers, databases.name(kind), kind, template).await
        };
        tokio::try_join!(make(Kind::Control), make(Kind::Data))?;
        Ok(databases)
    }

    fn name(&self, kind: Kind) -> &str {
        match kind {
            Kind::Control => &self.control,
            Kind::Data => &self.data,
        }
    }

    /// Starts a second data server, on a cluster of its own. Its database has no schema: a template cannot be cloned from one
    /// cluster to another, and `migrate` takes as long as for the template.
    ///
    /// # Errors
    /// When there is no PostgreSQL or no PgBouncer on this machine, or one does not come up.
    pub async fn add_second_data(&mut self) -> Result<()> {
        self.second = Some(OwnServer::start_new(&self.servers, format!("{}2", self.data)).await?);
        Ok(())
    }

    /// The data servers, by name.
    pub fn data_servers(&self) -> BTreeMap<&'static str, DataServer> {
        let first = DataServer {
            servers: self.servers.clone(),
            database: self.data.clone(),
        };
        let second = self.second.as_ref().map(|own| (SECOND_DATA_SERVER, own.data_server()));
        [(DATA_SERVER, first)].into_iter().chain(second).collect()
    }

    /// A data server.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn data_server(&self, name: &str) -> Result<DataServer> {
        let found = self.data_servers().remove(name);
        found.with_context(|| format!("there is no data server {name}"))
    }

    /// The second data server, which can be stopped.
    ///
    /// # Errors
    /// When none was added.
    pub fn second_server(&self) -> Result<&OwnServer> {
        self.second.as_ref().context("there is no second data server")
    }

    /// The servers that the databases are on.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// The control database's name.
    pub fn control_name(&self) -> &str {
        &self.control
    }

    /// The data database's name.
    pub fn data_name(&self) -> &str {
        &self.data
    }

    /// A login's direct URL of the control database.
    pub fn control_url(&self, login: Login) -> String {
        self.servers.login_url(login, &self.control)
    }

    /// A login's direct URL of the data database.
    pub fn data_url(&self, login: Login) -> String {
        self.servers.login_url(login, &self.data)
    }

    /// `rowhouse_app`'s URL of the data database, through PgBouncer in transaction mode.
    pub fn data_pooled_url(&self) -> String {
        self.servers.pooled_url(&self.data)
    }

    /// A superuser's URL of the control database: for looking, and for planting faults.
    pub fn control_superuser_url(&self) -> String {
        self.servers.superuser_url(&self.control)
    }

    /// A superuser's URL of the data database: for looking, and for planting faults.
    pub fn data_superuser_url(&self) -> String {
        self.servers.superuser_url(&self.data)
    }
}

impl Drop for Databases {
    fn drop(&mut self) {
        let servers = self.servers.clone();
        // Those of a second data server go with its cluster.
        let made: Vec<(Kind, String)> = self
            .kinds
            .iter()
            .map(|kind| (*kind, self.name(*kind).to_owned()))
            .collect();
        // A thread of its own: the test's runtime may be the one that is dropping us. What fails here goes away with the
        // test's cluster.
        let dropping = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                for (kind, name) in &made {
                    // The control database has no such registry.
                    let own = match kind {
                        Kind::Control => Vec::new(),
                        Kind::Data => cluster::tenants_databases(&servers, name).await.unwrap_or_default(),
                    };
                    for name in &own {
                        cluster::drop_database(&servers, name).await?;
                    }
                    // After all databases, in which a test may have granted them something.
                    for name in &own {
                        cluster::drop_login(&servers, name).await?;
                    }
                    cluster::drop_database(&servers, name).await?;
                }
                anyhow::Ok(())
            })
        });
        let _ = dropping.join();
    }
}

/// A RabbitMQ virtual host of one test; deleted on drop, as well as can be.
#[derive(Debug)]
pub struct VirtualHost {
    servers: Servers,
    name: String,
    url: String,
}

impl VirtualHost {
    /// A fresh virtual host.
    ///
    /// # Errors
    /// When the servers are not there, or RabbitMQ's management API is out of reach.
    pub async fn create(name: &str) -> Result<Self> {
        let servers = servers()?;
        let name = unique(name);
        let (status, text) = http::request("PUT", &Self::resource(&servers, &name)?).await?;
        ensure!(
            status == 201 || status == 204,
            "RabbitMQ refused the virtual host {name}: {status} {text}"
        );
        // Whoever creates a virtual host gets all rights in it.
        let url = servers.virtual_host_url(&name);
        Ok(Self { servers, name, url })
    }

    /// The virtual host's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `amqp://user:password@host:port/vhost`.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn resource(servers: &Servers, name: &str) -> Result<String> {
        Ok(format!("{}/api/vhosts/{name}", servers.rabbitmq_admin_url()?))
    }
}

impl Drop for VirtualHost {
    fn drop(&mut self) {
        let url = Self::resource(&self.servers, &self.name);
        let dropping = thread::spawn(move || http::blocking_request("DELETE", &url?));
        let _ = dropping.join();
    }
}

/// A prefix that no other test's Redis keys have. Nothing deletes the keys: they go away with the test's Redis.
pub fn redis_prefix(name: &str) -> String {
    unique(name)
}

/// A name that PostgreSQL, RabbitMQ and Redis take as it is.
pub(crate) fn unique(hint: &str) -> String {
    let plain = hint.chars().map(|c| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '_'
        }
    });
    let plain: String = plain.take(HINT_BYTES_MAX).collect();
    format!("t_{plain}_{}", random_word())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_plain_and_short() {
        let hint = "A tenant's \"name\" that is much longer than any database's name may be";
        let (one, other) = (unique(hint), unique(hint));
        assert_ne!(one, other);
        assert!(
            one.starts_with("t_a_tenant_s__name__that") && one.len() + "_control".len() < 63,
            "{one}"
        );
    }
}
