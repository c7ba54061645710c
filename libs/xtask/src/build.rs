//! Building the suite.

use anyhow::Result;
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::settings::Process;

use crate::run;

/// The services' binaries.
pub(crate) async fn services(checkout: &Checkout, release: bool) -> Result<()> {
    let mut cargo = run::cargo(checkout.root());
    run::locked(cargo.args(["build", "--quiet"]));
    for process in Process::MIGRATING {
        cargo.args(["--package", &process.binary()]);
    }
    if release {
        cargo.arg("--release");
    }
    run::command(cargo).await
}

/// Everything, tests included.
pub(crate) async fn everything(checkout: &Checkout) -> Result<()> {
    let mut cargo = run::cargo(checkout.root());
    run::locked(cargo.args(["build", "--workspace", "--all-targets"]));
    run::command(cargo).await
}
