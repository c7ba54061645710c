//! `cargo xtask lint`: format, clippy, protos, Kubernetes, the house's own rules, advisories.

use anyhow::{Result, bail};
use rowhouse_devkit::checkout::Checkout;

use crate::build;
use crate::run::{self, Steps};
use crate::tools::Tools;

mod kubernetes;
mod protos;

/// Runs all checks and says at the end which failed.
pub(crate) async fn run() -> Result<()> {
    let checkout = Checkout::find()?;
    let mut steps = Steps::default();
    let tools = steps.step("tools", Tools::ensure(&checkout)).await?;
    let checks = all(&checkout, &tools, &mut steps).await;
    let house = steps.step("house", house(&checkout)).await;
    steps.print();
    checks.and(house)
}

/// The house's own rules. `cargo xtask test` runs them among the other tests.
async fn house(checkout: &Checkout) -> Result<()> {
    // The manifests are compared with what the binaries say that they read.
    build::services(checkout, false).await?;
    // By workspace and not by package, so that features resolve as everywhere else and nothing is built twice.
    cargo(
        checkout,
        &["test", "--workspace", "--locked", "--test", "suite", "--", "house::"],
    )
    .await
}

/// All checks; one that fails does not keep the others from running.
pub(crate) async fn all(checkout: &Checkout, tools: &Tools, steps: &mut Steps) -> Result<()> {
    let mut faults = Vec::new();
    let mut note = |result: Result<()>| faults.extend(result.err().map(|error| format!("{error:#}")));
    note(
        steps
            .step("rustfmt", cargo(checkout, &["fmt", "--all", "--check"]))
            .await,
    );
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
        "--",
        "--deny",
        "warnings",
    ];
    note(steps.step("clippy", cargo(checkout, &clippy)).await);
    note(steps.step("buf lint", protos::lint(checkout, tools)).await);
    note(steps.step("buf breaking", protos::breaking(checkout, tools)).await);
    note(steps.step("kubernetes", kubernetes::check(checkout, tools)).await);
    note(steps.step("cargo-deny", deny(checkout)).await);
    if faults.is_empty() {
        return Ok(());
    }
    bail!("{}", faults.join("\n"))
}

async fn cargo(checkout: &Checkout, arguments: &[&str]) -> Result<()> {
    let mut cargo = run::cargo(checkout.root());
    cargo.args(arguments);
    run::command(cargo).await
}

/// Building cargo-deny costs minutes, so it is used where it is and not installed.
async fn deny(checkout: &Checkout) -> Result<()> {
    let mut version = run::cargo(checkout.root());
    version.args(["deny", "--version"]);
    if run::output(version).is_err() {
        eprintln!(
            "   cargo-deny is not installed: advisories are not checked (licences and duplicates are, by the house tests)"
        );
        return Ok(());
    }
    let configuration = checkout.root().join(".deny.toml");
    let mut arguments = vec!["deny", "check"];
    let path = configuration.to_string_lossy();
    if configuration.exists() {
        arguments.extend(["--config", &path]);
    }
    cargo(checkout, &arguments).await
}
