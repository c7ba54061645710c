//! Servers that are given by the environment: used, never started, never stopped.

use std::env;

use anyhow::{Result, ensure};

use super::Endpoint;
use crate::servers::Login;

/// What `ROWHOUSE_*_URL` names.
pub(super) struct Given {
    /// A superuser's, `postgres://user:password@host:port/`.
    pub(super) postgres: Option<Endpoint>,
    /// `rowhouse_app`'s, `postgres://rowhouse_app:password@host:port/`.
    pub(super) pgbouncer: Option<Endpoint>,
    pub(super) redis: Option<String>,
    pub(super) amqp: Option<String>,
    pub(super) rabbitmq_admin: Option<String>,
}

impl Given {
    pub(super) fn from_environment() -> Result<Self> {
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = |name: &str| variable(name).map(|url| Endpoint::parse(name, &url)).transpose();
        let given = Self {
            postgres: endpoint("ROWHOUSE_POSTGRES_URL")?,
            pgbouncer: endpoint("ROWHOUSE_PGBOUNCER_URL")?,
            redis: variable("ROWHOUSE_REDIS_URL"),
            amqp: variable("ROWHOUSE_AMQP_URL"),
            rabbitmq_admin: variable("ROWHOUSE_RABBITMQ_ADMIN_URL"),
        };
        ensure!(
            given.pgbouncer.is_none() || given.postgres.is_some(),
            "ROWHOUSE_PGBOUNCER_URL without ROWHOUSE_POSTGRES_URL: a pooler that is given serves no private PostgreSQL"
        );
        ensure!(
            given
                .pgbouncer
                .as_ref()
                .is_none_or(|endpoint| endpoint.user == Login::App.name()),
            "ROWHOUSE_PGBOUNCER_URL is to be the URL of the login {}",
            Login::App.name()
        );
        ensure!(
            given.rabbitmq_admin.is_none() || given.amqp.is_some(),
            "ROWHOUSE_RABBITMQ_ADMIN_URL without ROWHOUSE_AMQP_URL"
        );
        Ok(given)
    }
}
