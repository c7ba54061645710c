//! Building the suite.

use anyhow::Result;
use rowhouse_devkit::checkout::Checkout;

use crate::run;

/// The services' binaries, with the features that the whole workspace needs, as `cargo xtask` itself was built.
pub(crate) async fn services(checkout: &Checkout, release: bool) -> Result<()> {
    let mut cargo = run::cargo(checkout.root());
    run::locked(cargo.args(["build", "--workspace", "--bins"]));
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
