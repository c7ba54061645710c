//! The optimised copy of this program. Whoever measures must not be slower than what is measured, so every bench that was
//! started unoptimised, as `cargo xtask` is, hands its work over.

use std::process::Command;

use anyhow::Result;
use rowhouse_devkit::checkout::Checkout;

use crate::run::{cargo, command, locked};

/// Builds the copy and returns the command that runs it, still without arguments.
///
/// `feature`: one of xtask's own, where the bench needs it.
pub(super) async fn build(checkout: &Checkout, feature: Option<&str>) -> Result<Command> {
    let mut build = cargo(checkout.root());
    // Without --package, as `cargo xtask` itself: crates keep the features that the services were built with.
    locked(build.args(["build", "--release", "--bin", "xtask"]));
    if let Some(feature) = feature {
        build.arg("--features").arg(format!("xtask/{feature}"));
    }
    command(build).await?;
    Ok(Command::new(checkout.binary("xtask", true)?))
}
