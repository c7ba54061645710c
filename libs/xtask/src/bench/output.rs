//! What becomes of figures: a file for programs, text for people.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use rowhouse_devkit::checkout::Checkout;
use serde::Serialize;

/// `target/bench`, made where it is not there.
pub(super) fn folder(checkout: &Checkout) -> Result<PathBuf> {
    let folder = checkout.target().join("bench");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Writes `target/bench/<name>.json`.
pub(super) fn write<T: Serialize>(checkout: &Checkout, name: &str, figures: &T) -> Result<()> {
    let file = folder(checkout)?.join(name).with_extension("json");
    fs::write(file, serde_json::to_vec_pretty(figures)?)?;
    Ok(())
}

/// A number with so many digits behind the point; nothing where there is none.
pub(super) fn text(number: Option<f64>, digits: usize) -> String {
    number.map(|number| format!("{number:.digits$}")).unwrap_or_default()
}

/// What is said behind a figure that something is wanted of.
pub(super) fn verdict(holds: bool) -> &'static str {
    if holds { "as wanted" } else { "NOT as wanted" }
}
