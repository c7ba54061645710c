//! A private PgBouncer in transaction mode, in front of PostgreSQL.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::postgres::PostgresPlan;
use super::{Endpoint, Login, Plan, ensure_running, find, pgbouncer_program};
use crate::cluster;
use crate::scram;
use crate::spawn::{Account, Launch};
use crate::stack::{Profile, Stack};

/// The lanes of `cargo xtask up`: those of `deploy/`, so that what runs on a laptop is what runs in a cluster.
pub(super) const DEV_LANES: LanePools = LanePools { count: 8, pool_size: 3 };

/// The process of the second data server's, and its folder. Its `*` entry leads to that server's cluster.
const SECOND: &str = "pgbouncer-data2";

/// The login of PgBouncer's own console.
pub(crate) const CONSOLE: &str = "rowhouse_pgbouncer";

pub(super) struct PgbouncerPlan {
    pub(super) endpoint: Endpoint,
    /// The app login's password, where the pooler is given and knows it already.
    pub(super) given_password: Option<String>,
    /// Whether it keeps prepared statements for each client. One that is given is not asked, and may be of any version.
    pub(super) keeps_statements: bool,
    launch: Option<Launch>,
}

/// How a database's connections are divided: aliases `<database>_lane_NN`, each a pool of its own, and
/// `<database>_bulk`. The names are libs/db's (`Lanes`).
#[derive(Clone, Copy, Debug)]
pub struct LanePools {
    /// How many lanes.
    pub count: u16,
    /// Server connections of each.
    pub pool_size: u32,
}

/// Server connections of the alias for streams, exports and jobs: a worker runs a few at once.
const BULK_POOL_SIZE: u32 = 4;

impl PgbouncerPlan {
    /// Whether it is a private copy, with the aliases of lanes.
    pub(super) fn is_private(&self) -> bool {
        self.launch.is_some()
    }
}

pub(super) fn plan(
    plan: &mut Plan<'_>,
    given: Option<Endpoint>,
    program: Option<&Path>,
    postgres: &PostgresPlan,
) -> Result<PgbouncerPlan> {
    if let Some(endpoint) = given {
        let given_password = Some(endpoint.password.clone());
        return Ok(PgbouncerPlan {
            endpoint,
            given_password,
            keeps_statements: false,
            launch: None,
        });
    }
    let program = program.context("PgBouncer was not looked for")?;
    private(plan, ("pgbouncer", program), (postgres, cluster::DATA), None)
}

/// That of the second data server, which is always a private one.
///
/// `app_password`: the app login's, where the first pooler is given and knows it already.
pub(super) fn second(
    plan: &mut Plan<'_>,
    postgres: &PostgresPlan,
    app_password: Option<String>,
) -> Result<PgbouncerPlan> {
    let program = pgbouncer_program()?;
    private(plan, (SECOND, &program), (postgres, cluster::SECOND_DATA), app_password)
}

fn private(
    plan: &mut Plan<'_>,
    (name, program): (&str, &Path),
    (postgres, database): (&PostgresPlan, &str),
    app_password: Option<String>,
) -> Result<PgbouncerPlan> {
    let port = plan.port(name, name)?;
    let password = plan.secrets.password(CONSOLE)?;
    let app_password = match app_password {
        Some(given) => given,
        None => plan.secrets.password(Login::App.name())?,
    };
    let pooler_password = plan.secrets.password(Login::Pooler.name())?;
    let folder = plan.data.join(name);
    Account::folder(plan.account.as_ref(), &folder)?;
    let (configuration, users) = (folder.join("pgbouncer.ini"), folder.join("users.txt"));
    // With the verifier that PostgreSQL has, PgBouncer hands on what the client proves. A PostgreSQL that is given made
    // its own, and only the plain password lets 1.18 authenticate by SCRAM on both sides.
    let app = if postgres.is_private() {
        scram::verifier(&app_password)?
    } else {
        app_password
    };
    let logins = logins(&app, &pooler_password, &scram::verifier(&password)?);
    let keeps_statements = find::pgbouncer_keeps_statements(program);
    let aliases = match plan.stack.profile() {
        Profile::Dev => aliases(database, &postgres.endpoint, DEV_LANES),
        Profile::Test | Profile::Bench => String::new(),
    };
    let launch = Launch {
        process: name.to_owned(),
        program: program.to_owned(),
        arguments: vec![configuration.clone().into()],
        environment: Vec::new(),
        folder,
        log: plan.stack.log(name),
        account: plan.account.clone(),
        files: vec![
            (
                configuration,
                settings(
                    port,
                    &postgres.endpoint,
                    &users,
                    Pools::of(plan.stack.profile()),
                    &aliases,
                    keeps_statements,
                ),
            ),
            (users, logins),
        ],
    };
    let endpoint = Endpoint {
        host: "127.0.0.1".to_owned(),
        port,
        user: CONSOLE.to_owned(),
        password,
    };
    Ok(PgbouncerPlan {
        endpoint,
        given_password: None,
        keeps_statements,
        launch: Some(launch),
    })
}

/// The file of those who may log in, with the verifier or password of each. `pooler`: a password, since PgBouncer logs in with
/// it by itself and no client proves it.
pub(crate) fn logins(app: &str, pooler: &str, console: &str) -> String {
    let logins = [
        (Login::App.name(), app),
        (Login::Pooler.name(), pooler),
        (CONSOLE, console),
    ];
    let lines = logins.map(|(name, secret)| format!("\"{name}\" \"{secret}\"\n"));
    lines.concat()
}

/// The pools of databases that have no entry of their own.
#[derive(Clone, Copy)]
pub(crate) struct Pools {
    pub(crate) size: u32,
    pub(crate) idle_s: u32,
}

impl Pools {
    /// In tests every test has a database of its own, as each of a bench's suites: many small pools that go away soon, within
    /// PostgreSQL's 300 connections; in dev one database, twenty connections.
    fn of(profile: Profile) -> Self {
        match profile {
            Profile::Dev => Self { size: 20, idle_s: 600 },
            Profile::Test | Profile::Bench => Self { size: 8, idle_s: 5 },
        }
    }
}

/// The aliases of one database, as lines of the section `[databases]`.
pub(crate) fn aliases(database: &str, postgres: &Endpoint, lanes: LanePools) -> String {
    let names = (0..lanes.count).map(|lane| (format!("{database}_lane_{lane:02}"), lanes.pool_size));
    let bulk = (format!("{database}_bulk"), BULK_POOL_SIZE);
    let lines = names.chain([bulk]).map(|(name, size)| {
        format!(
            "{name} = host={host} port={port} dbname={database} pool_size={size}\n",
            host = postgres.host,
            port = postgres.port
        )
    });
    lines.collect()
}

/// - `*`: databases that are made later (tenants' own, tests') are served without a reload.
/// - `auth_user`: who is not in the file is looked for in the database that is asked for, where the verifier of a tenant's
///   login stands. It is PostgreSQL's too, so what the client has proved is handed on, and no password is kept here.
/// - `autodb_idle_timeout`: never. PgBouncer takes such a database for unused where it looks while its first client logs in, and
///   cuts that client's connection when the time is over, whatever it does then (its issue 288; seen with 1.18).
/// - `server_lifetime`: a server connection that is closed is what makes a back end forget the homes that it has served.
///   Ten minutes: 28 connections cost 28 * 14 ms of CPU in that time, which is less than 0.1 %.
/// - `extra_float_digits`: sqlx sends it at start-up, and PgBouncer refuses what it does not know.
/// - `max_prepared_statements`: twice what one connection of crm keeps, as in `deploy/`; only where it is known.
pub(crate) fn settings(
    port: u16,
    postgres: &Endpoint,
    users: &Path,
    pools: Pools,
    aliases: &str,
    keeps_statements: bool,
) -> String {
    let Pools {
        size: pool_size,
        idle_s,
    } = pools;
    let kept = if keeps_statements {
        "max_prepared_statements = 128\n"
    } else {
        ""
    };
    format!(
        "[databases]\n\
         {aliases}* = host={host} port={postgres_port} auth_user={pooler}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = scram-sha-256\n\
         auth_file = {users}\n\
         auth_query = SELECT name, verifier FROM rowhouse.pooled_login($1)\n\
         pool_mode = transaction\n\
         default_pool_size = {pool_size}\n\
         server_idle_timeout = {idle_s}\n\
         server_lifetime = 600\n\
         autodb_idle_timeout = 0\n\
         max_client_conn = 2000\n\
         query_wait_timeout = 30\n\
         ignore_startup_parameters = extra_float_digits\n\
         admin_users = {CONSOLE}\n\
         stats_users = {CONSOLE}\n\
         log_connections = 0\n\
         log_disconnections = 0\n\
         {kept}",
        host = postgres.host,
        postgres_port = postgres.port,
        pooler = Login::Pooler.name(),
        users = users.display(),
    )
}

pub(super) async fn run(stack: &Stack, plan: &PgbouncerPlan) -> Result<Option<(String, Duration)>> {
    let Some(launch) = &plan.launch else { return Ok(None) };
    let endpoint = &plan.endpoint;
    let url = endpoint.postgres_url(&endpoint.user, &endpoint.password, "pgbouncer");
    ensure_running(stack, launch, || async { cluster::connect(&url).await.map(|_| true) }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_pgbouncer_is_not_told_of_what_it_does_not_know() {
        let postgres = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: 1,
            user: "postgres".to_owned(),
            password: String::new(),
        };
        let told = |keeps_statements| {
            let pools = Pools { size: 1, idle_s: 1 };
            let settings = settings(2, &postgres, Path::new("users.txt"), pools, "", keeps_statements);
            settings.lines().any(|line| line == "max_prepared_statements = 128")
        };
        assert_eq!([false, true].map(told), [false, true]);
    }
}
