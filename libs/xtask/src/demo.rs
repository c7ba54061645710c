//! `cargo xtask demo`: the suite's main job against the running suite, step by step.

use anyhow::{Result, bail};
use clap::Args;
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::resident::Resident;

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub(crate) struct Demo {}

/// Runs the demo.
pub(crate) async fn run(_demo: Demo) -> Result<()> {
    let _resident = Resident::open(Checkout::find()?)?;
    bail!("the demo is not written yet")
}
