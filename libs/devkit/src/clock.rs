//! Clocks that differ: one process's calendar is moved by libfaketime, which answers for the C library's clocks.

use std::env::consts::ARCH;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::settings::Process;

/// The package with the library, as Debian, Fedora and Arch name it.
pub const PACKAGE: &str = "libfaketime";

/// The variables, as [`Options::environment`](crate::suite::Options) takes them, with which a process of a suite sees another
/// time than we do.
///
/// `by_s`: how many seconds later than ours, or earlier where it is negative. The monotonic clock stays as it is, and with it
/// timers and leases: it is the calendars of two machines that differ, not how fast they run.
///
/// # Errors
/// When the library is not on this machine: `cargo xtask test` installs it.
pub fn moved(process: Process, by_s: i64) -> Result<Vec<(Option<Process>, String, String)>> {
    let variables = [
        ("LD_PRELOAD", library()?.display().to_string()),
        ("FAKETIME", format!("{by_s:+}")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    Ok(variables
        .map(|(name, value)| (Some(process), name.to_owned(), value))
        .into())
}

/// The library, in the variant for programs with threads.
///
/// # Errors
/// When it is in none of the places where systems keep it.
pub fn library() -> Result<PathBuf> {
    // Debian keeps architectures side by side, Fedora's of 64 bits have a folder of their own.
    let folders = [
        format!("/usr/lib/{ARCH}-linux-gnu"),
        "/usr/lib64".to_owned(),
        "/usr/lib".to_owned(),
    ];
    folders
        .into_iter()
        .map(|folder| PathBuf::from(folder).join("faketime/libfaketimeMT.so.1"))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("{PACKAGE} is not on this machine"))
}
