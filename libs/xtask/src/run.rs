//! Running commands and timing steps.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// The steps done so far, with their durations.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration, bool)>,
}

impl Steps {
    /// Runs a step and notes how long it took and how it ended.
    pub(crate) async fn step<T>(&mut self, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        eprintln!("== {name}");
        let begun = Instant::now();
        let result = work.await.with_context(|| name.to_owned());
        self.done.push((name.to_owned(), begun.elapsed(), result.is_ok()));
        result
    }

    /// Prints what was done.
    pub(crate) fn print(&self) {
        eprintln!();
        for (name, took, good) in &self.done {
            let verdict = if *good { "ok" } else { "FAILED" };
            eprintln!("{name:<44} {:>8.1} s  {verdict}", took.as_secs_f64());
        }
    }
}

/// Runs a command to its end with our output; it gets no input.
pub(crate) async fn command(mut command: Command) -> Result<()> {
    command.stdin(Stdio::null());
    let line = line(&command);
    eprintln!("   {line}");
    // Ends with us when we are told to end in the middle.
    let status = tokio::process::Command::from(command).kill_on_drop(true).status().await;
    let status = status.with_context(|| format!("cannot run `{line}`"))?;
    ensure!(status.success(), "`{line}` failed ({status})");
    Ok(())
}

/// Runs a command and returns what it printed.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let line = line(&command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{line}`"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`{line}` failed ({}): {}",
        output.status,
        error.trim()
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Cargo, in a folder, without the variables that `cargo run` set for us: they would make build scripts run again.
pub(crate) fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "CARGO_BIN_NAME" {
            command.env_remove(&name);
        }
    }
    command
}

/// Adds `--locked` in CI: there a lock file that does not fit is a fault, on a laptop it is about to be written.
pub(crate) fn locked(cargo: &mut Command) -> &mut Command {
    if env::var_os("CI").is_some() {
        cargo.arg("--locked")
    } else {
        cargo
    }
}

fn line(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let arguments = command
        .get_args()
        .map(|argument| argument.to_string_lossy().into_owned());
    std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" ")
}
