//! The four servers that the suite stands on: private copies, or those that `ROWHOUSE_*_URL` names.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::mark;
use crate::port::Ports;
use crate::secrets::{Secrets, write_private};
use crate::spawn::{Account, Launch};
use crate::stack::{Profile, Stack};
use crate::wait;

mod description;
mod external;
mod find;
mod install;
pub(crate) mod pgbouncer;
pub(crate) mod postgres;
mod rabbitmq;
mod redis;
mod second;

pub(crate) use description::Endpoint;
pub use description::{Login, Servers};
pub(crate) use find::pgbouncer_keeps_statements;
pub use find::program;
pub use install::apt_install;
pub use pgbouncer::LanePools;

/// How long one server may take to answer. RabbitMQ takes 6 s on two idle cores and many times that on busy ones.
const START_BOUND: Duration = Duration::from_secs(120);

/// How long a server that runs already may take to answer before it is started anew.
const RUNNING_BOUND: Duration = Duration::from_secs(20);

/// What the servers' plans are made from.
struct Plan<'a> {
    stack: &'a Stack,
    account: Option<Account>,
    data: PathBuf,
    secrets: Secrets,
    ports: Ports,
}

impl Plan<'_> {
    /// A port of a process: its own if it runs, else one that is free now.
    fn port(&mut self, process: &str, name: &str) -> Result<u16> {
        let runs = mark::find_process(self.stack.folder(), process).is_some();
        match self.ports.remembered(name) {
            Some(port) if runs => Ok(port),
            _ => self.ports.assign(name),
        }
    }
}

/// Starts the servers of a stack that are not running, installing what is missing. The caller holds the stack's lock.
///
/// # Errors
/// When a server cannot be found, installed or started; the end of its log is in the message.
pub async fn start(stack: &Stack) -> Result<Servers> {
    start_with(stack, false).await
}

/// As [`start`].
///
/// `second`: with the cluster of a second data server and a PgBouncer before it. A stack that had them keeps them.
///
/// # Errors
/// As [`start`].
pub async fn start_with(stack: &Stack, second: bool) -> Result<Servers> {
    let given = external::Given::from_environment()?;
    let programs = find::programs(&given)?;
    // Left by a start that was killed in the middle.
    mark::stop(stack.folder(), false, |found| found.process == "setup");
    let account = Account::unprivileged()?;
    let data = stack.data(account.as_ref())?;
    let secrets = Secrets::load(stack.folder())?;
    ensure!(
        !secrets.is_empty() || fs::read_dir(&data)?.next().is_none(),
        "{} has data but no secrets that fit them: run `cargo xtask up --fresh`",
        stack.folder().display()
    );
    let ports = Ports::load(stack.folder());
    let mut context = Plan {
        stack,
        account,
        data,
        secrets,
        ports,
    };

    let postgres = postgres::plan(&mut context, given.postgres, programs.postgres.as_deref())?;
    let pgbouncer = pgbouncer::plan(&mut context, given.pgbouncer, programs.pgbouncer.as_deref(), &postgres)?;
    let redis = redis::plan(&mut context, given.redis, programs.redis.as_deref())?;
    let rabbitmq = rabbitmq::plan(
        &mut context,
        given.amqp,
        given.rabbitmq_admin,
        programs.rabbitmq.as_ref(),
    )?;
    let second = second::plan(&mut context, second, pgbouncer.given_password.clone())?;
    let started = tokio::try_join!(
        postgres::run(stack, &postgres),
        pgbouncer::run(stack, &pgbouncer),
        redis::run(stack, &redis),
        rabbitmq::run(stack, &rabbitmq),
        second::run(stack, second.as_ref()),
    )?;

    let has_lanes = pgbouncer.is_private() && stack.profile() == Profile::Dev;
    let passwords = passwords(&mut context.secrets, pgbouncer.given_password)?;
    let servers = Servers {
        lanes: if has_lanes { pgbouncer::DEV_LANES.count } else { 0 },
        keeps_statements: pgbouncer.keeps_statements,
        folder: stack.folder().to_owned(),
        postgres_is_private: postgres.is_private(),
        postgres: postgres.endpoint,
        pgbouncer: pgbouncer.endpoint,
        second: second.map(second::Plan::into_endpoints),
        passwords,
        redis_url: redis.url,
        amqp_url: rabbitmq.url,
        rabbitmq_admin_url: rabbitmq.admin_url,
        started: [started.0, started.1, started.2, started.3, started.4.0, started.4.1]
            .into_iter()
            .flatten()
            .collect(),
    };
    write_private(&servers.file(), &serde_json::to_vec_pretty(&servers)?)?;
    Ok(servers)
}

/// The logins' passwords. `given`: the app login's, where a pooler that is given knows it already.
fn passwords(secrets: &mut Secrets, given: Option<String>) -> Result<BTreeMap<String, String>> {
    let mut passwords = BTreeMap::new();
    for login in Login::ALL {
        passwords.insert(login.name().to_owned(), secrets.password(login.name())?);
    }
    if let Some(password) = given {
        passwords.insert(Login::App.name().to_owned(), password);
    }
    Ok(passwords)
}

/// PostgreSQL's `pgbench`, beside the server's own programs.
///
/// # Errors
/// When there is no PostgreSQL on this machine.
pub fn pgbench() -> Result<PathBuf> {
    postgres_programs().map(|folder| folder.join("pgbench"))
}

/// The folder of PostgreSQL's programs.
///
/// # Errors
/// When there is none on this machine.
pub(crate) fn postgres_programs() -> Result<PathBuf> {
    find::postgres_folder().context("no PostgreSQL on this machine")
}

/// The program of PgBouncer.
///
/// # Errors
/// When there is none on this machine.
pub(crate) fn pgbouncer_program() -> Result<PathBuf> {
    find::program("pgbouncer").context("no PgBouncer on this machine")
}

/// Stops everything that a stack has started, servers and services, and nothing else. Returns how many processes
/// there were. Blocks.
pub fn stop(stack: &Stack, grace: bool) -> usize {
    // The services first, so that they can drain, then the pooler, then the rest.
    let servers = ["postgres", "pgbouncer", "redis", "rabbitmq", "epmd"];
    // Those of the second data server are called `postgres-data2` and `pgbouncer-data2`.
    let kind = |process: &str| process.split('-').next().unwrap_or_default().to_owned();
    let count = mark::find(stack.folder()).len();
    if grace {
        mark::stop(stack.folder(), true, |found| {
            found.root && !servers.contains(&kind(&found.process).as_str())
        });
        mark::stop(stack.folder(), true, |found| {
            found.root && kind(&found.process) == "pgbouncer"
        });
        mark::stop(stack.folder(), true, |found| found.root && found.process != "epmd");
    }
    mark::stop(stack.folder(), false, |_| true);
    count
}

/// Starts a server unless it runs already as it should. Returns its name and how long it took, if it was started.
pub(crate) async fn ensure_running<F>(
    stack: &Stack,
    launch: &Launch,
    check: impl Fn() -> F,
) -> Result<Option<(String, Duration)>>
where
    F: Future<Output = Result<bool>>,
{
    let begun = Instant::now();
    let name = launch.process.clone();
    if let Some(running) = mark::find_process(stack.folder(), &name) {
        let unchanged = running.fingerprint == launch.fingerprint();
        // It may be starting still, on behalf of somebody who was killed meanwhile.
        if unchanged && wait::until(&name, RUNNING_BOUND, &check).await.is_ok() {
            return Ok(None);
        }
        eprintln!("  {name} runs but not as it should: starting it anew");
        let (folder, process) = (stack.folder().to_owned(), name.clone());
        tokio::task::spawn_blocking(move || mark::stop(&folder, true, |found| found.process == process)).await?;
    }
    let mut child = launch.detached(stack.folder())?;
    wait::until_up(&name, START_BOUND, &mut child, &launch.log, check).await?;
    let took = begun.elapsed();
    eprintln!("  {name} started in {:.1} s", took.as_secs_f64());
    Ok(Some((name, took)))
}
