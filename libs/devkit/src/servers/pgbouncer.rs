//! A private PgBouncer in transaction mode, in front of PostgreSQL.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::postgres::PostgresPlan;
use super::{Endpoint, Login, Plan, ensure_running};
use crate::cluster;
use crate::scram;
use crate::spawn::{Account, Launch};
use crate::stack::{Profile, Stack};

/// The login of PgBouncer's own console.
const CONSOLE: &str = "rowhouse_pgbouncer";

pub(super) struct PgbouncerPlan {
    pub(super) endpoint: Endpoint,
    /// The app login's password, where the pooler is given and knows it already.
    pub(super) given_password: Option<String>,
    launch: Option<Launch>,
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
            launch: None,
        });
    }
    let port = plan.port("pgbouncer", "pgbouncer")?;
    let password = plan.secrets.password(CONSOLE)?;
    let app_password = plan.secrets.password(Login::App.name())?;
    let folder = plan.data.join("pgbouncer");
    Account::folder(plan.account.as_ref(), &folder)?;
    let (configuration, users) = (folder.join("pgbouncer.ini"), folder.join("users.txt"));
    // With the verifier that PostgreSQL has, PgBouncer hands on what the client proves. A PostgreSQL that is given made
    // its own, and only the plain password lets 1.18 authenticate by SCRAM on both sides.
    let app = if postgres.is_private() {
        scram::verifier(&app_password)?
    } else {
        app_password
    };
    let console = scram::verifier(&password)?;
    let logins = format!("\"{}\" \"{app}\"\n\"{CONSOLE}\" \"{console}\"\n", Login::App.name());
    let launch = Launch {
        process: "pgbouncer".to_owned(),
        program: program.context("PgBouncer was not looked for")?.to_owned(),
        arguments: vec![configuration.clone().into()],
        environment: Vec::new(),
        folder,
        log: plan.stack.log("pgbouncer"),
        account: plan.account.clone(),
        files: vec![
            (
                configuration,
                settings(plan.stack.profile(), port, &postgres.endpoint, &users),
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
        launch: Some(launch),
    })
}

/// - `*`: databases that are made later (tenants' own, tests') are served without a reload.
/// - `extra_float_digits`: sqlx sends it at start-up, and PgBouncer refuses what it does not know.
/// - Pools: in tests every test has a database of its own, so many small pools that go away soon, within
///   PostgreSQL's 300 connections; in dev one database, twenty connections.
fn settings(profile: Profile, port: u16, postgres: &Endpoint, users: &Path) -> String {
    let (pool_size, idle_s) = match profile {
        Profile::Dev => (20, 600),
        Profile::Test => (8, 5),
    };
    format!(
        "[databases]\n\
         * = host={host} port={postgres_port}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = scram-sha-256\n\
         auth_file = {users}\n\
         pool_mode = transaction\n\
         default_pool_size = {pool_size}\n\
         server_idle_timeout = {idle_s}\n\
         autodb_idle_timeout = {idle_s}\n\
         max_client_conn = 2000\n\
         query_wait_timeout = 30\n\
         ignore_startup_parameters = extra_float_digits\n\
         admin_users = {CONSOLE}\n\
         stats_users = {CONSOLE}\n\
         log_connections = 0\n\
         log_disconnections = 0\n",
        host = postgres.host,
        postgres_port = postgres.port,
        users = users.display(),
    )
}

pub(super) async fn run(stack: &Stack, plan: &PgbouncerPlan) -> Result<Option<(String, Duration)>> {
    let Some(launch) = &plan.launch else { return Ok(None) };
    let endpoint = &plan.endpoint;
    let url = endpoint.postgres_url(&endpoint.user, &endpoint.password, "pgbouncer");
    ensure_running(stack, launch, || async { cluster::connect(&url).await.map(|_| true) }).await
}
