//! Running the services' own commands: `migrate`, and those of auth for operators.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::checkout::Checkout;
use crate::settings::{Process, Settings};
use crate::spawn::Launch;

/// A migration of the template takes a second; many homes take longer.
const MIGRATE_BOUND: Duration = Duration::from_secs(300);
/// One password hash, or what all services confirm.
const COMMAND_BOUND: Duration = Duration::from_secs(60);

/// Runs `migrate` of every service on a suite's databases, one after the other.
///
/// # Errors
/// When a binary is not built or fails; the end of its log is in the message.
pub async fn migrate(checkout: &Checkout, settings: &Settings, logs: &Path, release: bool) -> Result<()> {
    for process in Process::MIGRATING {
        migrate_one(checkout, settings, process, logs, release).await?;
    }
    Ok(())
}

/// Runs `migrate` of one service.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_one(
    checkout: &Checkout,
    settings: &Settings,
    process: Process,
    logs: &Path,
    release: bool,
) -> Result<()> {
    let environment = settings.migrate(process);
    let launch = command(checkout, process, logs, release, vec!["migrate".into()], environment)?;
    launch.to_end(settings.servers.folder(), MIGRATE_BOUND).await
}

/// Runs `rowhouse-auth bootstrap-admin` and returns the one-time secret that it wrote into `file`; `None` when the
/// first operator existed already.
///
/// # Errors
/// When the binary is not built or fails.
pub async fn bootstrap_admin(
    checkout: &Checkout,
    settings: &Settings,
    logs: &Path,
    release: bool,
    email: &str,
    file: &Path,
) -> Result<Option<String>> {
    let before = fs::read_to_string(file).ok();
    let secret_file = file.to_string_lossy();
    let arguments = ["bootstrap-admin", "--email", email, "--secret-file", &secret_file];
    auth_command(checkout, settings, logs, release, &arguments).await?;
    let after = fs::read_to_string(file).ok();
    Ok(after
        .filter(|after| before.as_ref() != Some(after))
        .map(|secret| secret.trim().to_owned()))
}

/// Runs a command of `rowhouse-auth`, to its end.
///
/// # Errors
/// When the binary is not built or fails; the end of its log is in the message.
pub async fn auth_command(
    checkout: &Checkout,
    settings: &Settings,
    logs: &Path,
    release: bool,
    arguments: &[&str],
) -> Result<()> {
    let arguments = arguments.iter().map(Into::into).collect();
    let environment = settings.serve(Process::Auth);
    let launch = command(checkout, Process::Auth, logs, release, arguments, environment)?;
    launch.to_end(settings.servers.folder(), COMMAND_BOUND).await
}

fn command(
    checkout: &Checkout,
    process: Process,
    logs: &Path,
    release: bool,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
) -> Result<Launch> {
    let verb = arguments
        .first()
        .map(|verb| verb.to_string_lossy().into_owned())
        .unwrap_or_default();
    Ok(Launch {
        // A start that is killed leaves it behind, and the next one ends it by this name.
        process: "setup".to_owned(),
        program: checkout.binary(&process.binary(), release)?,
        arguments,
        environment,
        folder: checkout.root().to_owned(),
        log: logs.join(format!("{}-{verb}.log", process.name())),
        account: None,
        files: Vec::new(),
    })
}
