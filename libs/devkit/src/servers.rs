//! The four servers that the suite stands on.

use std::path::PathBuf;

/// A login of the suite, as `libs/db/cluster/roles.sql` creates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Login {
    /// `rowhouse_owner`: owns every schema and migrates.
    Owner,
    /// `rowhouse_app`: the services' login for tenants' data.
    App,
    /// `rowhouse_relay`: publishes the outbox.
    Relay,
    /// `rowhouse_keeper`: claims homes, seals audit entries.
    Keeper,
    /// `rowhouse_ctl_tenant`.
    ControlTenant,
    /// `rowhouse_ctl_auth`.
    ControlAuth,
    /// `rowhouse_ctl_worker`.
    ControlWorker,
}

/// Where the running servers are and how to get in.
#[derive(Clone, Debug)]
pub struct Servers {
    /// The stack's own folder.
    pub folder: PathBuf,
}

impl Servers {
    /// A superuser's URL of one database, direct.
    pub fn superuser_url(&self, database: &str) -> String {
        database.to_owned()
    }

    /// A login's URL of one database, direct.
    pub fn login_url(&self, login: Login, database: &str) -> String {
        format!("{login:?}/{database}")
    }

    /// `rowhouse_app`'s URL of one database, through PgBouncer in transaction mode.
    pub fn pooled_url(&self, database: &str) -> String {
        database.to_owned()
    }

    /// Redis, with its password.
    pub fn redis_url(&self) -> String {
        String::new()
    }

    /// RabbitMQ's default virtual host, with user and password.
    pub fn amqp_url(&self) -> String {
        String::new()
    }
}
