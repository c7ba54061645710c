//! The variables of each subcommand, by section.

use rowhouse_config::section::{Identity, Listen, Telemetry};
use rowhouse_config::{Env, Secret};

use crate::files::Place;

/// What `serve` needs.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// How it listens and stops.
    pub listen: Listen,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// Who it is to the other services.
    pub identity: Identity,
    /// The control database, with this service's own login, direct.
    pub control_url: Secret,
    /// RabbitMQ.
    pub amqp_url: Secret,
    /// Redis, for the rights of callers.
    pub redis_url: Secret,
    /// What every key in Redis begins with.
    pub redis_prefix: String,
    /// auth's internal listener.
    pub auth_addr: String,
    /// crm's internal listener.
    pub crm_addr: String,
    /// tenant's internal listener.
    pub tenant_addr: String,
    /// The mail server: `smtp://host:port`, or `smtps://user:password@host`.
    pub smtp_url: Secret,
    /// Sender of mails: `Name <address>`.
    pub mail_from: String,
    /// Where files of reports are kept.
    pub files: Place,
    /// Base of the links in mails, without a slash at its end.
    pub app_url: String,
}

/// What `migrate` needs.
#[derive(Clone, Debug)]
pub struct MigrateConfig {
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// The control database, with the owner's login, direct.
    pub control_owner_url: Secret,
}

// === impl ServeConfig ===

impl ServeConfig {
    /// Reads the section.
    pub fn read(env: &mut Env) -> Self {
        let app_url: String = env.required("ROWHOUSE_APP_URL", "https://".to_owned());
        if !app_url.starts_with("https://") && !app_url.starts_with("http://") {
            env.refuse("ROWHOUSE_APP_URL", "must begin with https:// or http://");
        }
        Self {
            listen: Listen::read(env),
            telemetry: Telemetry::read(env),
            identity: Identity::read(env),
            control_url: env.secret("ROWHOUSE_CONTROL_URL"),
            amqp_url: env.secret("ROWHOUSE_AMQP_URL"),
            redis_url: env.secret("ROWHOUSE_REDIS_URL"),
            redis_prefix: env.or("ROWHOUSE_REDIS_PREFIX", "rowhouse".to_owned()),
            auth_addr: env.required("ROWHOUSE_AUTH_ADDR", String::new()),
            crm_addr: env.required("ROWHOUSE_CRM_ADDR", String::new()),
            tenant_addr: env.required("ROWHOUSE_TENANT_ADDR", String::new()),
            smtp_url: env.secret("ROWHOUSE_SMTP_URL"),
            mail_from: env.required("ROWHOUSE_MAIL_FROM", String::new()),
            files: env.required("ROWHOUSE_FILES_URL", Place::nowhere()),
            app_url: app_url.trim_end_matches('/').to_owned(),
        }
    }
}

// === impl MigrateConfig ===

impl MigrateConfig {
    /// Reads the section.
    pub fn read(env: &mut Env) -> Self {
        Self {
            telemetry: Telemetry::read(env),
            control_owner_url: env.secret("ROWHOUSE_CONTROL_OWNER_URL"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_environment_names_every_required_variable_at_once() {
        let mut env = Env::from_pairs([]);
        let config = ServeConfig::read(&mut env);
        let required = env.variables().iter().filter(|variable| variable.required).count();
        let faults = env.finish(config).unwrap_err().to_string();
        assert!(faults.contains(&format!("has {required} faults")), "{faults}");
    }

    #[test]
    fn a_place_that_is_none_and_a_link_that_is_none_are_refused() {
        let pairs = [
            ("ROWHOUSE_FILES_URL", "ftp://x"),
            ("ROWHOUSE_APP_URL", "javascript:alert(1)"),
        ];
        let mut env = Env::from_pairs(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let config = ServeConfig::read(&mut env);
        let faults = env.finish(config).unwrap_err().to_string();
        assert!(faults.contains("ROWHOUSE_FILES_URL: is not a valid Place"), "{faults}");
        assert!(faults.contains("ROWHOUSE_APP_URL: must begin with"), "{faults}");
    }
}
