//! Where things stand.

use std::fs;

use super::{assert_none, files, root, sources};

/// Longest source file, in lines.
const FILE_LINES_MAX: usize = 500;

/// Widest line of a comment, in characters: rustfmt wraps code at 120 and leaves comments as they are, and what is a word longer
/// is no harder to read.
const COMMENT_CHARACTERS_MAX: usize = 132;

/// Wider than that, and landed: migrations are not edited any more.
const LANDED: &str = "services/tenant/migrations/control/0010_seals.sql";

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

fn wide_comments(text: &str) -> Vec<&str> {
    let lines = text
        .lines()
        .filter(|line| line.chars().count() > COMMENT_CHARACTERS_MAX);
    lines
        .filter(|line| ["//", "--"].iter().any(|mark| line.trim_start().starts_with(mark)))
        .collect()
}

#[test]
fn no_comment_is_wider_than_132_characters() {
    let mut all = sources();
    for (folder, extension) in [("proto/rowhouse", "proto"), ("libs", "sql"), ("services", "sql")] {
        all.extend(files(folder, extension));
    }
    let mut wide = Vec::new();
    for (path, text) in all.iter().filter(|(path, _)| path != LANDED) {
        wide.extend(wide_comments(text).into_iter().map(|line| format!("{path}: {line}")));
    }
    assert_none(
        "a comment's line has at most 132 characters",
        "whoever reads it sees it whole, also with two files side by side",
        &wide,
    );
    // The control: one is seen where there is one.
    let landed = fs::read_to_string(root().join(LANDED)).unwrap();
    assert_eq!(wide_comments(&landed).len(), 1);
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
