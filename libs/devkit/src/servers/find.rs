//! Finding the servers' programs, and installing those that are missing.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::external::Given;
use super::install;

/// The oldest PostgreSQL that the suite's SQL runs on.
const POSTGRES_MAJOR_MIN: u32 = 15;

/// The first PgBouncer that keeps prepared statements for each client; an older one mixes them up, and does not start with a
/// setting that it does not know.
const KEEPING_PGBOUNCER: (u32, u32) = (1, 21);

/// Folders beside `PATH` in which systems keep servers' programs.
const FOLDERS: [&str; 5] = ["/usr/local/bin", "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"];

/// Where the programs are; `None` for servers that are given by the environment.
#[derive(Default)]
pub(super) struct Programs {
    /// The folder with `postgres` and `initdb`.
    pub(super) postgres: Option<PathBuf>,
    pub(super) pgbouncer: Option<PathBuf>,
    pub(super) redis: Option<PathBuf>,
    pub(super) rabbitmq: Option<RabbitPrograms>,
}

/// RabbitMQ comes as a script; Erlang's port mapper runs beside it.
pub(super) struct RabbitPrograms {
    pub(super) server: PathBuf,
    pub(super) epmd: PathBuf,
}

/// Finds every program that is needed, installing what is missing where that is possible.
pub(super) fn programs(given: &Given) -> Result<Programs> {
    let (found, missing) = look(given);
    if missing.is_empty() {
        return Ok(found);
    }
    install::servers(&missing)?;
    let (found, missing) = look(given);
    if missing.is_empty() {
        return Ok(found);
    }
    bail!("still missing after the installation: {}", missing.join(", "))
}

fn look(given: &Given) -> (Programs, Vec<&'static str>) {
    let mut missing = Vec::new();
    let mut need = |wanted: bool, found: Option<PathBuf>, what: &'static str| {
        if wanted && found.is_none() {
            missing.push(what);
        }
        found.filter(|_| wanted)
    };
    let postgres = need(given.postgres.is_none(), postgres_folder(), install::POSTGRESQL);
    let pgbouncer = need(given.pgbouncer.is_none(), program("pgbouncer"), install::PGBOUNCER);
    let redis = program("redis-server").or_else(|| program("valkey-server"));
    let redis = need(given.redis.is_none(), redis, install::REDIS);
    let rabbitmq = rabbitmq_script().zip(program("epmd").or_else(bundled_epmd));
    let server = need(
        given.amqp.is_none(),
        rabbitmq.as_ref().map(|found| found.0.clone()),
        install::RABBITMQ,
    );
    let rabbitmq = server
        .zip(rabbitmq)
        .map(|(server, (_, epmd))| RabbitPrograms { server, epmd });
    (
        Programs {
            postgres,
            pgbouncer,
            redis,
            rabbitmq,
        },
        missing,
    )
}

/// A program on `PATH` or in the usual folders.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from));
    folders
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// The folder of the newest PostgreSQL that is new enough.
pub(super) fn postgres_folder() -> Option<PathBuf> {
    let on_path = program("postgres").and_then(|found| Some(found.parent()?.to_owned()));
    // Debian and Ubuntu keep versions side by side and none on PATH; so does PostgreSQL's own repository for RPMs.
    let debian = children("/usr/lib/postgresql")
        .into_iter()
        .map(|version| version.join("bin"));
    let rpm = children("/usr")
        .into_iter()
        .filter(|folder| folder.to_string_lossy().starts_with("/usr/pgsql-"));
    let candidates = on_path
        .into_iter()
        .chain(debian)
        .chain(rpm.map(|folder| folder.join("bin")));
    let fits = candidates.filter(|folder| folder.join("initdb").is_file());
    let versions = fits.filter_map(|folder| Some((major_version(&folder.join("postgres"))?, folder)));
    let newest = versions.max_by_key(|(major, _)| *major)?;
    (newest.0 >= POSTGRES_MAJOR_MIN).then_some(newest.1)
}

fn children(folder: &str) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default()
}

fn major_version(postgres: &Path) -> Option<u32> {
    let output = Command::new(postgres).arg("--version").output().ok()?;
    parse_major(&String::from_utf8_lossy(&output.stdout))
}

/// Whether a PgBouncer keeps prepared statements for each client. One that does not say its version does not.
pub(crate) fn pgbouncer_keeps_statements(pgbouncer: &Path) -> bool {
    let output = Command::new(pgbouncer).arg("--version").output();
    let version = output
        .ok()
        .and_then(|output| parse_minor(&String::from_utf8_lossy(&output.stdout)));
    version.is_some_and(|version| version >= KEEPING_PGBOUNCER)
}

/// `PgBouncer 1.24.1`, and more lines about its libraries.
fn parse_minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.strip_prefix("PgBouncer ")?.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next()?.parse().ok();
    Some((number()?, number()?))
}

/// `postgres (PostgreSQL) 15.20 (Debian ...)` or `17beta1`.
fn parse_major(version: &str) -> Option<u32> {
    let (_, number) = version.split_once(") ")?;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The script itself: the one in `/usr/sbin` of Debian and RPMs changes to the account `rabbitmq` and its folders.
fn rabbitmq_script() -> Option<PathBuf> {
    let packaged = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server");
    if packaged.is_file() {
        Some(packaged)
    } else {
        program("rabbitmq-server")
    }
}

fn bundled_epmd() -> Option<PathBuf> {
    let runtimes = children("/usr/lib/erlang")
        .into_iter()
        .chain(children("/usr/lib64/erlang"));
    runtimes
        .map(|runtime| runtime.join("bin/epmd"))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_postgres_are_read() {
        assert_eq!(
            parse_major("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_major("nonsense"), None);
    }

    #[test]
    fn versions_of_pgbouncer_are_read() {
        let read = [
            "PgBouncer 1.18.0\nlibevent 2.1.12-stable\n",
            "PgBouncer 1.24.1\n",
            "pgbouncer version 1.9.0",
            "",
        ]
        .map(parse_minor);
        assert_eq!(read, [Some((1, 18)), Some((1, 24)), None, None]);
        assert!(read[0].unwrap() < KEEPING_PGBOUNCER && read[1].unwrap() >= KEEPING_PGBOUNCER);
        assert!(!pgbouncer_keeps_statements(Path::new("/nowhere/pgbouncer")));
    }
}
