//! What one test owns. Works under `cargo xtask test`, which names the running servers in `ROWHOUSE_TEST_STACK`.

use anyhow::{Result, bail};

use crate::servers::{Login, Servers};

/// The servers that `cargo xtask test` started.
///
/// # Errors
/// When `ROWHOUSE_TEST_STACK` is absent: the message says to use `cargo xtask test`.
pub fn servers() -> Result<Servers> {
    bail!("not yet")
}

/// A pair of databases (control, data) of one test; dropped on drop, as well as can be.
#[derive(Debug)]
pub struct Databases {
    servers: Servers,
    control: String,
    data: String,
}

impl Databases {
    /// Clones the migrated templates. `name` is a hint for whoever looks at the list of databases; the real names are
    /// unique.
    ///
    /// # Errors
    /// When the servers are not there or a database cannot be cloned.
    pub async fn create(name: &str) -> Result<Self> {
        bail!("not yet: {name}")
    }

    /// A pair without any schema, owned by `rowhouse_owner`, with the suite's grants: for tests of the migrators.
    ///
    /// # Errors
    /// As [`Databases::create`].
    pub async fn empty(name: &str) -> Result<Self> {
        bail!("not yet: {name}")
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

/// A RabbitMQ virtual host of one test; deleted on drop, as well as can be.
#[derive(Debug)]
pub struct VirtualHost {
    name: String,
    url: String,
}

impl VirtualHost {
    /// A fresh virtual host.
    ///
    /// # Errors
    /// When the servers are not there, or RabbitMQ's management API is out of reach.
    pub async fn create(name: &str) -> Result<Self> {
        bail!("not yet: {name}")
    }

    /// The virtual host's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `amqp://user:password@host:port/vhost`.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// A prefix that no other test's Redis keys have.
pub fn redis_prefix(name: &str) -> String {
    name.to_owned()
}
