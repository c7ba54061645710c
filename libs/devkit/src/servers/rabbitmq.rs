//! A private RabbitMQ: own node name, own port mapper, own folders, and the management API for virtual hosts.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use super::find::RabbitPrograms;
use super::{Plan, ensure_running};
use crate::http;
use crate::spawn::{Account, Launch};
use crate::stack::{Profile, Stack};

/// The user of the services and of the management API.
const USER: &str = "rowhouse";

pub(super) struct RabbitmqPlan {
    pub(super) url: String,
    pub(super) admin_url: Option<String>,
    private: Option<Private>,
}

struct Private {
    epmd: Launch,
    server: Launch,
    epmd_port: u16,
    amqp_port: u16,
}

pub(super) fn plan(
    plan: &mut Plan<'_>,
    given: Option<String>,
    given_admin: Option<String>,
    programs: Option<&RabbitPrograms>,
) -> Result<RabbitmqPlan> {
    if let Some(url) = given {
        let admin_url = given_admin.map(|url| url.trim_end_matches('/').to_owned());
        return Ok(RabbitmqPlan {
            url,
            admin_url,
            private: None,
        });
    }
    let programs = programs.context("RabbitMQ was not looked for")?;
    let epmd_port = plan.port("epmd", "epmd")?;
    let amqp_port = plan.port("rabbitmq", "amqp")?;
    let management_port = plan.port("rabbitmq", "rabbitmq_management")?;
    let distribution_port = plan.port("rabbitmq", "rabbitmq_distribution")?;
    let password = plan.secrets.password("rabbitmq")?;
    let cookie = plan.secrets.password("erlang_cookie")?;
    let folder = plan.data.join("rabbitmq");
    Account::folder(None, &folder)?;
    for name in ["mnesia", "log"] {
        fs::create_dir_all(folder.join(name))?;
    }
    let epmd = Launch {
        process: "epmd".to_owned(),
        program: programs.epmd.clone(),
        arguments: ["-port", &epmd_port.to_string(), "-address", "127.0.0.1"]
            .iter()
            .map(Into::into)
            .collect(),
        environment: Vec::new(),
        folder: folder.clone(),
        log: plan.stack.log("epmd"),
        account: None,
        files: Vec::new(),
    };
    let files = vec![
        (
            folder.join("rabbitmq.conf"),
            settings(amqp_port, management_port, &password),
        ),
        (folder.join("advanced.config"), advanced(plan.stack.profile())),
        (folder.join("enabled_plugins"), "[rabbitmq_management].\n".to_owned()),
        (folder.join(".erlang.cookie"), cookie),
    ];
    let server = Launch {
        process: "rabbitmq".to_owned(),
        program: programs.server.clone(),
        environment: environment(plan.stack, &folder, epmd_port, distribution_port),
        arguments: Vec::new(),
        log: plan.stack.log("rabbitmq"),
        files,
        ..epmd.clone()
    };
    Ok(RabbitmqPlan {
        url: format!("amqp://{USER}:{password}@127.0.0.1:{amqp_port}/%2f"),
        admin_url: Some(format!("http://{USER}:{password}@127.0.0.1:{management_port}")),
        private: Some(Private {
            epmd,
            server,
            epmd_port,
            amqp_port,
        }),
    })
}

fn settings(amqp_port: u16, management_port: u16, password: &str) -> String {
    // Quorum queues write ahead into files of this size, 512 MB if it is not said.
    let raft_bytes = 64 << 20;
    format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp_port}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management_port}\n\
         default_user = {USER}\ndefault_pass = {password}\nraft.wal_max_size_bytes = {raft_bytes}\n\
         log.file.level = info\n"
    )
}

/// What the plain configuration has no word for: tests do not wait for the disk.
fn advanced(profile: Profile) -> String {
    if profile.is_durable() {
        "[].\n".to_owned()
    } else {
        "[{ra, [{wal_sync_method, none}]}].\n".to_owned()
    }
}

fn environment(stack: &Stack, folder: &Path, epmd_port: u16, distribution_port: u16) -> Vec<(String, String)> {
    let path = |name: &str| folder.join(name).display().to_string();
    let pairs = [
        ("HOME", folder.display().to_string()),
        ("ERL_EPMD_PORT", epmd_port.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        // `@localhost` so that the node starts whatever the machine calls itself.
        (
            "RABBITMQ_NODENAME",
            format!("rowhouse-{}@localhost", stack.profile().name()),
        ),
        ("RABBITMQ_MNESIA_BASE", path("mnesia")),
        ("RABBITMQ_LOG_BASE", path("log")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins")),
        ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", path("advanced.config")),
        ("RABBITMQ_PID_FILE", path("pid")),
        // The machine's own file would override the names above.
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
        ("RABBITMQ_DIST_PORT", distribution_port.to_string()),
        (
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1}".to_owned(),
        ),
        // Makes the script become the server instead of waiting beside it.
        ("detached", "true".to_owned()),
    ];
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

pub(super) async fn run(stack: &Stack, plan: &RabbitmqPlan) -> Result<Option<(String, Duration)>> {
    let Some(private) = &plan.private else { return Ok(None) };
    ensure_running(stack, &private.epmd, || async {
        TcpStream::connect(("127.0.0.1", private.epmd_port)).await?;
        Ok(true)
    })
    .await?;
    let hosts = format!("{}/api/vhosts", plan.admin_url.as_deref().unwrap_or_default());
    ensure_running(stack, &private.server, || async {
        TcpStream::connect(("127.0.0.1", private.amqp_port)).await?;
        Ok(http::request("GET", &hosts).await?.0 == 200)
    })
    .await
}
