//! Rules about the code itself. Each fails with the reason why the rule exists.

mod dependencies;
mod deploy;
mod layout;
mod pooler;
mod walls;

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
        .to_owned()
}

/// All files below `folder` (relative to the workspace) with this extension, as (path relative to the workspace, text).
fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    collect(&root.join(folder), extension, &mut found);
    found.sort();
    let name = |path: &Path| path.strip_prefix(&root).expect("below the root").display().to_string();
    found
        .iter()
        .map(|path| (name(path), fs::read_to_string(path).expect("readable")))
        .collect()
}

/// All Rust sources of the workspace.
fn sources() -> Vec<(String, String)> {
    ["libs", "services", "tests"]
        .iter()
        .flat_map(|folder| files(folder, "rs"))
        .collect()
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

/// Fails with the rule, its reason and every place that breaks it.
#[track_caller]
fn assert_none(rule: &str, reason: &str, places: &[String]) {
    assert!(
        places.is_empty(),
        "{rule}\nbecause {reason}\nbut:\n  {}",
        places.join("\n  ")
    );
}
