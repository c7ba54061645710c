//! Installing servers on Debian and Ubuntu; saying what to install elsewhere.

use std::io::IsTerminal;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::unistd::Uid;

use super::find;

pub(super) const POSTGRESQL: &str = "postgresql";
pub(super) const PGBOUNCER: &str = "pgbouncer";
pub(super) const REDIS: &str = "redis-server";
pub(super) const RABBITMQ: &str = "rabbitmq-server";

/// Installs the packages of servers that are missing.
pub(super) fn servers(missing: &[&'static str]) -> Result<()> {
    ensure!(
        is_debian(),
        "missing on this machine: {}.\nInstall PostgreSQL 15 or newer (with initdb), PgBouncer 1.18 or newer, Redis 6.2 \
         or newer (or Valkey), and RabbitMQ 3.10 or newer with Erlang, so that `postgres`, `pgbouncer`, `redis-server`, \
         `rabbitmq-server` and `epmd` are on PATH; or give ROWHOUSE_POSTGRES_URL, ROWHOUSE_PGBOUNCER_URL, \
         ROWHOUSE_REDIS_URL, ROWHOUSE_AMQP_URL and ROWHOUSE_RABBITMQ_ADMIN_URL.",
        missing.join(", ")
    );
    apt_install(missing).with_context(|| {
        format!(
            "could not install {}. PostgreSQL has to be 15 or newer: where the system's is older, add the repository of \
             the PostgreSQL project",
            missing.join(" ")
        )
    })
}

/// Installs packages by apt-get, as root or with sudo, and says what it runs.
///
/// # Errors
/// When this is no Debian or Ubuntu, there is no way to become root, or apt-get fails.
pub fn apt_install(packages: &[&str]) -> Result<()> {
    ensure!(
        is_debian(),
        "this is no Debian or Ubuntu: install {} yourself",
        packages.join(", ")
    );
    let names = packages.join(" ");
    ensure!(
        Uid::effective().is_root() || find::program("sudo").is_some(),
        "neither root nor sudo here. Run as root: apt-get update && apt-get install {names}"
    );
    run(&["apt-get", "update", "--quiet"])?;
    let mut install = vec!["apt-get", "install", "--yes", "--quiet", "--no-install-recommends"];
    install.extend_from_slice(packages);
    run(&install)
}

/// The command line that runs `arguments` as root: with sudo unless we are root.
fn elevated(arguments: &[&str]) -> Vec<String> {
    // Without a question that would make apt-get wait for an answer.
    let noninteractive = ["env", "DEBIAN_FRONTEND=noninteractive"];
    let sudo: &[&str] = if Uid::effective().is_root() {
        &[]
    } else if std::io::stdin().is_terminal() {
        &["sudo"]
    } else {
        // Where nobody can type a password, sudo has to do without or fail at once.
        &["sudo", "--non-interactive"]
    };
    [sudo, &noninteractive, arguments]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

fn run(arguments: &[&str]) -> Result<()> {
    let line = elevated(arguments);
    eprintln!("  running: {}", line.join(" "));
    let (program, rest) = line.split_first().context("an empty command line")?;
    // apt-get's chatter is of no use unless it fails.
    let output = Command::new(program).args(rest).stdin(Stdio::inherit()).output()?;
    ensure!(
        output.status.success(),
        "`{}` failed:\n{}{}",
        line.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists() && find::program("apt-get").is_some()
}
