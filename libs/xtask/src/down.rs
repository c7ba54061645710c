//! `cargo xtask down`.

use anyhow::Result;
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::servers;
use rowhouse_devkit::stack::{Profile, Stack};

/// Stops everything that `up` has started in this checkout, and nothing else.
pub(crate) fn run() -> Result<()> {
    let stack = Stack::open(&Checkout::find()?, Profile::Dev)?;
    let _lock = stack.lock()?;
    let count = servers::stop(&stack, true);
    println!(
        "stopped {count} processes; the data stays in {}",
        stack.folder().display()
    );
    Ok(())
}
