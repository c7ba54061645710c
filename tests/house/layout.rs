//! Where things stand.

use std::fs;

use super::{assert_none, root, sources};

/// Longest source file, in lines.
const FILE_LINES_MAX: usize = 500;

#[test]
fn no_source_file_is_longer_than_500_lines() {
    let long = sources().into_iter().filter_map(|(path, text)| {
        let lines = text.lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{path} has {lines}"))
    });
    assert_none(
        "a source file has at most 500 lines",
        "a file holds one idea",
        &long.collect::<Vec<_>>(),
    );
}

#[test]
fn there_is_no_mod_rs() {
    let found: Vec<String> = sources()
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.ends_with("/mod.rs"))
        .collect();
    assert_none(
        "modules are foo.rs beside foo/",
        "ten tabs called mod.rs tell nothing apart",
        &found,
    );
}

#[test]
fn every_room_explains_itself() {
    let mut missing = Vec::new();
    for folder in ["libs", "services"] {
        for entry in fs::read_dir(root().join(folder)).unwrap().flatten() {
            if entry.path().is_dir() && !entry.path().join("README.md").is_file() {
                missing.push(entry.path().display().to_string());
            }
        }
    }
    for room in ["tests", "deploy", "proto", "services"] {
        if !root().join(room).join("README.md").is_file() {
            missing.push(room.to_owned());
        }
    }
    assert_none("every room has a README.md", "a newcomer asks there first", &missing);
}

#[test]
fn the_top_level_holds_what_the_floor_plan_says() {
    const PLAN: &[&str] = &[
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "buf.yaml",
        "deploy",
        "libs",
        "proto",
        "services",
        "target",
        "tests",
    ];
    let strangers = fs::read_dir(root())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().display().to_string());
    let strangers: Vec<String> = strangers
        .filter(|name| !name.starts_with('.') && !PLAN.contains(&name.as_str()))
        .collect();
    assert_none(
        "nothing else lies at the top",
        "the floor plan is the first thing anyone reads",
        &strangers,
    );
}

#[test]
fn every_source_file_says_what_it_is() {
    let silent = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| path);
    assert_none(
        "a file begins with `//!`",
        "its first line says what and why",
        &silent.collect::<Vec<_>>(),
    );
}
