//! `cargo xtask bench fleet`: what it takes to see that no home is behind, and to give a column to many, beside psql doing
//! the same statements in as many processes.
//!
//! On servers of its own, which are stopped and deleted afterwards; no service takes part.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rowhouse_config::Secret;
use rowhouse_context::ServiceName;
use rowhouse_db::testing::master_keys;
use rowhouse_db::{Migration, Provisioner, TenantMigrations, migrate_platform};
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::cluster::{self, Kind};
use rowhouse_devkit::servers::{self, Login, Servers};
use rowhouse_devkit::settings::DATA_SERVER;
use rowhouse_devkit::stack::{Profile, Stack};
use rowhouse_types::TenantId;
use serde::Serialize;
use tokio::task::JoinSet;

use super::output::verdict;
use super::{homes, memory, optimised, output};
use crate::run::command;
use crate::test::on_private_servers;

const DATABASE: &str = "rowhouse_fleet";
/// Homes that are all up to date.
const HOMES: usize = 5_000;
/// Of them, those that get a column.
const BEHIND: usize = 1_000;
/// How often it is asked whether any is behind.
const LOOKS: usize = 50;
/// As many as `migrate_all` has workers.
const PROCESSES: usize = 3;
/// How long the look may take.
const LOOK_WANTED_MS: f64 = 2_000.0;
/// How many times as long as a loop of psql the column may take.
const SLOWER_WANTED: f64 = 1.5;

const FIRST: Migration = Migration {
    version: 1,
    name: "notes",
    sql: "
        CREATE TABLE notes (
            tenant_id uuid NOT NULL, id uuid NOT NULL, body text NOT NULL, created_at timestamptz NOT NULL,
            CONSTRAINT notes_pkey PRIMARY KEY (tenant_id, id)
        );
        CREATE INDEX notes_created_at_idx ON notes (tenant_id, created_at, id);
        CREATE TABLE more_1 (tenant_id uuid NOT NULL, id uuid NOT NULL, CONSTRAINT more_1_pkey PRIMARY KEY (tenant_id, id));
        CREATE TABLE more_2 (tenant_id uuid NOT NULL, id uuid NOT NULL, CONSTRAINT more_2_pkey PRIMARY KEY (tenant_id, id));
        GRANT SELECT, INSERT ON notes, more_1, more_2 TO rowhouse_tenant;",
    deferred: &[],
};
const SECOND: Migration = Migration {
    version: 2,
    name: "colour",
    sql: "ALTER TABLE notes ADD COLUMN colour text NOT NULL DEFAULT 'none';",
    deferred: &[],
};
const THIRD: Migration = Migration {
    version: 3,
    name: "size",
    sql: "ALTER TABLE notes ADD COLUMN size text NOT NULL DEFAULT 'none';",
    deferred: &[],
};
const OLDER: TenantMigrations = TenantMigrations::new(&[FIRST]);
const NEWER: TenantMigrations = TenantMigrations::new(&[FIRST, SECOND]);
const NEWEST: TenantMigrations = TenantMigrations::new(&[FIRST, SECOND, THIRD]);

/// What was measured.
#[derive(Debug, Default, Serialize)]
struct Figures {
    /// Homes that are looked at.
    homes: usize,
    /// Whether any is behind: the median.
    look_ms: f64,
    /// Homes that got a column.
    migrated: usize,
    migrate_seconds: f64,
    /// The most memory that the migrator has had resident meanwhile.
    migrate_peak_mib: f64,
    /// The same of a run over all homes.
    migrate_all_peak_mib: f64,
    /// psql, one session for each of the processes.
    psql_sessions_seconds: f64,
    /// psql, a process for each home.
    psql_loop_seconds: f64,
}

/// Measures and prints; also writes `target/bench/fleet.json`.
pub(super) async fn run() -> Result<()> {
    let checkout = Checkout::find()?;
    if cfg!(debug_assertions) {
        let mut optimised = optimised::build(&checkout, None).await?;
        optimised.args(["bench", "fleet"]);
        return command(optimised).await;
    }
    on_private_servers(Profile::Bench, async |checkout, stack, _| {
        let figures = measure(stack).await?;
        print(&figures);
        output::write(checkout, "fleet", &figures)
    })
    .await
}

async fn measure(stack: &Stack) -> Result<Figures> {
    let servers = servers::start(stack).await?;
    cluster::ensure_roles(&servers).await?;
    cluster::ensure_database(&servers, DATABASE, Kind::Data, None).await?;
    let owner = Secret::new(servers.login_url(Login::Owner, DATABASE));
    migrate_platform(&owner).await?;
    let urls = BTreeMap::from([(DATA_SERVER.to_owned(), owner)]);
    let master_keys = master_keys(b'A', b"");
    let older = Provisioner::connect(ServiceName::Crm, &urls, OLDER, &master_keys).await?;
    let newer = Provisioner::connect(ServiceName::Crm, &urls, NEWER, &master_keys).await?;

    let tenants = build(&older, BEHIND).await?;
    let (migrate_seconds, migrate_peak_mib) = migrate(&newer, BEHIND).await?;

    let schemas: Vec<String> = tenants
        .iter()
        .map(|tenant| format!("t_{}", tenant.uuid().simple()))
        .collect();
    let psql_sessions_seconds = psql(&servers, &schemas, "colour_2", false).await?;
    let psql_loop_seconds = psql(&servers, &schemas, "colour_3", true).await?;

    build(&newer, HOMES - BEHIND).await?;
    let look_ms = look(&newer).await?;
    let newest = Provisioner::connect(ServiceName::Crm, &urls, NEWEST, &master_keys).await?;
    let (_, migrate_all_peak_mib) = migrate(&newest, HOMES).await?;
    Ok(Figures {
        homes: HOMES,
        look_ms,
        migrated: BEHIND,
        migrate_seconds,
        migrate_peak_mib,
        migrate_all_peak_mib,
        psql_sessions_seconds,
        psql_loop_seconds,
    })
}

fn print(figures: &Figures) {
    let verdict_of = |figure: f64, wanted: f64| format!("{wanted} wanted: {}", verdict(figure <= wanted));
    println!(
        "\n{} homes, is any behind: {:.1} ms in the median ({})",
        figures.homes,
        figures.look_ms,
        verdict_of(figures.look_ms, LOOK_WANTED_MS)
    );
    println!(
        "a column for each of {} homes, by {PROCESSES} at once:",
        figures.migrated
    );
    println!("{:<34} {:>9}", "", "seconds");
    for (name, seconds) in [
        ("the fleet's migration", figures.migrate_seconds),
        ("psql, a process for each home", figures.psql_loop_seconds),
        ("psql, one session each", figures.psql_sessions_seconds),
    ] {
        println!("{name:<34} {seconds:>9.1}");
    }
    let slower = figures.migrate_seconds / figures.psql_loop_seconds;
    println!(
        "{slower:.2} of the loop of psql ({})",
        verdict_of(slower, SLOWER_WANTED)
    );
    println!(
        "the migrator had at most {:.1} MiB resident over {} homes and {:.1} MiB over {}",
        figures.migrate_peak_mib, figures.migrated, figures.migrate_all_peak_mib, figures.homes
    );
}

/// Brings so many homes on: how long it took in seconds, and how many MiB this process had resident at most.
async fn migrate(provisioner: &Provisioner, homes: usize) -> Result<(f64, f64)> {
    let own = i32::try_from(std::process::id())?;
    memory::forget_peak(own)?;
    let begun = Instant::now();
    let migrated = provisioner.migrate_all().await?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(migrated == homes, "{migrated} homes were migrated");
    Ok((seconds, memory::peak_mib(own)?))
}

async fn build(provisioner: &Provisioner, count: usize) -> Result<Vec<TenantId>> {
    let tenants: Vec<TenantId> = (0..count).map(|_| TenantId::generate()).collect();
    homes::provision(provisioner, &tenants).await?;
    Ok(tenants)
}

/// The median time to see that nothing is behind.
async fn look(provisioner: &Provisioner) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..LOOKS {
        let begun = Instant::now();
        let migrated = provisioner.migrate_all().await?;
        times.push(begun.elapsed());
        ensure!(migrated == 0, "{migrated} homes were behind");
    }
    times.sort_unstable();
    let median = times.get(LOOKS / 2).copied().unwrap_or(Duration::ZERO);
    Ok(median.as_secs_f64() * 1_000.0)
}

/// How long psql takes to give each home a column, a transaction each.
///
/// `per_home`: whether each home has a psql of its own, as in a loop of a shell.
async fn psql(servers: &Servers, schemas: &[String], column: &str, per_home: bool) -> Result<f64> {
    let program = servers::pgbench()?.with_file_name("psql");
    let url = servers.login_url(Login::Owner, DATABASE);
    let statement = |schema: &String| {
        format!("BEGIN; ALTER TABLE {schema}.notes ADD COLUMN {column} text NOT NULL DEFAULT 'none'; COMMIT;\n")
    };
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for part in schemas.chunks(schemas.len().div_ceil(PROCESSES).max(1)) {
        let statements: Vec<String> = part.iter().map(statement).collect();
        let scripts = if per_home {
            statements
        } else {
            vec![statements.concat()]
        };
        let (program, url) = (program.clone(), url.clone());
        running.spawn(async move {
            for script in scripts {
                let folder = std::env::temp_dir();
                let file = folder.join(format!("rowhouse-fleet-{}.sql", uuid::Uuid::new_v4().simple()));
                fs::write(&file, script)?;
                let mut psql = tokio::process::Command::new(&program);
                psql.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--file"]);
                psql.env("PGOPTIONS", "-c lock_timeout=2s");
                let status = psql.arg(&file).arg(&url).status().await.context("psql");
                fs::remove_file(&file)?;
                ensure!(status?.success(), "psql failed");
            }
            Ok(())
        });
    }
    while let Some(ran) = running.join_next().await {
        ran??;
    }
    Ok(begun.elapsed().as_secs_f64())
}
