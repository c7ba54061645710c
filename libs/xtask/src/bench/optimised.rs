//! The optimised copy of this program. Whoever measures must not be slower than what is measured, so every bench that was
//! started unoptimised, as `cargo xtask` is, hands its work over.

use std::process::Command;

use anyhow::Result;
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::stack::Profile;
use rowhouse_devkit::{fixture, servers, template};

use crate::build::services;
use crate::run::{cargo, command, locked};
use crate::test::on_private_servers;

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

/// Lets the copy measure suites of its own, of optimised binaries, on servers of its own, which are stopped and deleted
/// afterwards.
///
/// `arguments`: of the copy, which finds the servers in [`fixture::TEST_STACK`].
pub(super) async fn with_suites(arguments: &[String]) -> Result<()> {
    on_private_servers(Profile::Bench, async |checkout, stack, _| {
        // The templates are migrated by the usual binaries; what is measured is optimised, and so is who measures.
        services(checkout, false).await?;
        services(checkout, true).await?;
        let servers = servers::start(stack).await?;
        template::make(checkout, &servers).await?;
        let mut optimised = build(checkout, None).await?;
        optimised.args(arguments).env(fixture::TEST_STACK, servers.file());
        command(optimised).await
    })
    .await
}
