//! `cargo xtask test`.

use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::servers::{self, Servers};
use rowhouse_devkit::stack::{Profile, Stack};
use rowhouse_devkit::{fixture, template};
use tokio::signal::unix::{SignalKind, signal};

use crate::run::{self, Steps};
use crate::tools::{self, Tools};
use crate::{build, lint};

/// Arguments of `test`.
#[derive(Args, Debug)]
pub(crate) struct Test {
    /// Leave out formatting, clippy, protos, Kubernetes and licences
    #[arg(long)]
    no_lint: bool,
    /// Handed to nextest, after `--`: a filter, `--package`, `--no-capture`
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Builds, tests against private servers, lints; the servers are stopped whatever happens.
pub(crate) async fn run(test: Test) -> Result<()> {
    on_private_servers(Profile::Test, async |checkout, stack, steps| {
        let tools = steps.step("tools", Tools::ensure(checkout)).await?;
        let servers = start(checkout, stack, steps).await?;
        let tests = steps
            .step("tests", tests(&test.arguments, &[], checkout, &servers))
            .await;
        // Both verdicts are worth having.
        let lint = if test.no_lint {
            Ok(())
        } else {
            lint::all(checkout, &tools, steps).await
        };
        match (tests, lint) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(error), Ok(())) | (Ok(()), Err(error)) => Err(error),
            (Err(tests), Err(lint)) => bail!("{tests:#}\n{lint:#}"),
        }
    })
    .await
}

/// Builds and runs tests against private servers, with nextest's arguments and variables for the tests.
pub(crate) async fn tests_with(arguments: Vec<String>, variables: &[(&str, String)]) -> Result<()> {
    on_private_servers(Profile::Test, async |checkout, stack, steps| {
        let servers = start(checkout, stack, steps).await?;
        steps
            .step("tests", tests(&arguments, variables, checkout, &servers))
            .await
    })
    .await
}

/// Does the work and stops the servers that it has started, whatever happens. Tests and benches take turns: one would slow down the
/// other.
pub(crate) async fn on_private_servers(
    profile: Profile,
    work: impl AsyncFnOnce(&Checkout, &Stack, &mut Steps) -> Result<()>,
) -> Result<()> {
    let checkout = Checkout::find()?;
    let _turn = Stack::open(&checkout, Profile::Test)?.lock()?;
    let stack = Stack::open(&checkout, profile)?;
    // Of a run that was killed.
    servers::stop(&stack, false);
    stack.forget()?;
    let mut steps = Steps::default();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let result = tokio::select! {
        result = work(&checkout, &stack, &mut steps) => result,
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
    };
    servers::stop(&stack, false);
    stack.forget_data()?;
    steps.print();
    result
}

async fn start(checkout: &Checkout, stack: &Stack, steps: &mut Steps) -> Result<Servers> {
    tools::ensure_faketime()?;
    steps.step("build", build::everything(checkout)).await?;
    let servers = steps.step("servers", servers::start(stack)).await?;
    steps.step("templates", template::make(checkout, &servers)).await?;
    Ok(servers)
}

async fn tests(
    arguments: &[String],
    variables: &[(&str, String)],
    checkout: &Checkout,
    servers: &Servers,
) -> Result<()> {
    let mut cargo = run::cargo(checkout.root());
    if has_nextest(checkout) {
        cargo.args(["nextest", "run"]);
    } else {
        eprintln!("   cargo-nextest is not installed: using `cargo test`");
        cargo.arg("test");
    }
    // Packages that are named are the only ones meant.
    let named = arguments
        .iter()
        .any(|argument| argument == "-p" || argument.starts_with("--package"));
    if !named {
        cargo.arg("--workspace");
    }
    cargo
        .arg("--locked")
        .args(arguments)
        .env(fixture::TEST_STACK, servers.file())
        .envs(variables.iter().map(|(name, value)| (name, value)));
    run::command(cargo).await
}

fn has_nextest(checkout: &Checkout) -> bool {
    let mut cargo: Command = run::cargo(checkout.root());
    cargo.args(["nextest", "--version"]);
    run::output(cargo).is_ok()
}
