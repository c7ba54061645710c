//! What the suite is built from: licences, one version of each crate that matters, versions in one place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use cargo_metadata::{Metadata, MetadataCommand};

use super::{assert_none, root};

/// Licences that an Apache-2.0 project may ship.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates of which two copies would be two truths: types that do not match, or two back ends for one purpose.
const ONE_COPY: &[&str] = &[
    "aws-lc-rs",
    "axum",
    "bb8",
    "http",
    "hyper",
    "lapin",
    "opentelemetry",
    "prost",
    "prost-types",
    "redis",
    "rustls",
    "sqlx",
    "tokio",
    "tokio-postgres",
    "tonic",
    "tower",
    "tracing",
    "uuid",
];

/// Crates that would bring a second TLS or crypto back end.
const UNWANTED: &[&str] = &["native-tls", "openssl", "ring"];

/// What is built for the platform the images run on. Offline: the build before has fetched all of it.
fn metadata() -> Metadata {
    let options = ["--offline", "--filter-platform", "x86_64-unknown-linux-gnu"].map(str::to_owned);
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(options)
        .exec()
        .expect("cargo metadata")
}

#[test]
fn every_licence_is_known_and_allowed() {
    let metadata = metadata();
    let refused = metadata.packages.iter().filter_map(|package| {
        let licence = package.license.clone().unwrap_or_else(|| "none given".to_owned());
        (!is_allowed(&licence)).then(|| format!("{} {}: {licence}", package.name, package.version))
    });
    assert_none(
        "every crate has a licence that we may ship",
        "a licence found late costs a rewrite",
        &refused.collect::<Vec<_>>(),
    );
}

/// Reads an SPDX expression far enough: a choice needs one allowed side, a conjunction all.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let flat = expression.replace(['(', ')'], " ");
    let simple = |term: &str| LICENCES.contains(&term.trim());
    if expression.contains('(') {
        // `(A OR B) AND C`: every side of the AND needs an allowed choice.
        return flat.split(" AND ").all(|side| side.split(" OR ").any(simple));
    }
    flat.split(" OR ").any(|choice| choice.split(" AND ").all(simple))
}

#[test]
fn a_licence_that_is_not_allowed_is_noticed() {
    assert!(
        is_allowed("MIT OR Apache-2.0")
            && is_allowed("(MIT OR GPL-3.0) AND Unicode-3.0")
            && is_allowed("Unlicense/MIT")
    );
    assert!(!is_allowed("GPL-3.0") && !is_allowed("MIT AND GPL-3.0") && !is_allowed("none given"));
}

/// Crates that are built into the suite, with their versions. From `cargo tree`: the metadata's graph also holds what
/// no feature asks for.
fn built() -> BTreeMap<String, BTreeSet<String>> {
    let arguments = "tree --workspace --offline --edges normal,build --prefix none --target x86_64-unknown-linux-gnu";
    let tree = Command::new(env!("CARGO"))
        .args(arguments.split(' '))
        .current_dir(root())
        .output()
        .expect("cargo tree");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let mut built: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&tree.stdout).lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            built.entry(name.to_owned()).or_default().insert(version.to_owned());
        }
    }
    assert!(
        built.contains_key("tonic"),
        "cargo tree printed something else: {built:?}"
    );
    built
}

#[test]
fn what_matters_is_there_once() {
    let built = built();
    let twice = ONE_COPY.iter().filter_map(|name| {
        let versions = built.get(*name)?;
        (versions.len() > 1).then(|| format!("{name}: {versions:?}"))
    });
    assert_none(
        "there is one copy of each of these crates",
        "two copies are two types and two truths",
        &twice.collect::<Vec<_>>(),
    );
}

#[test]
fn there_is_one_crypto_back_end() {
    let built = built();
    let found = UNWANTED
        .iter()
        .filter(|name| built.contains_key(**name))
        .map(|name| (*name).to_owned());
    assert_none(
        "aws-lc-rs is the only crypto back end",
        "each one more is one more to patch",
        &found.collect::<Vec<_>>(),
    );
}

#[test]
fn versions_stand_in_the_root_manifest_only() {
    let mut found = Vec::new();
    for folder in ["libs", "services"] {
        for entry in fs::read_dir(root().join(folder))
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().is_dir())
        {
            let path = entry.path().join("Cargo.toml");
            let text = fs::read_to_string(&path).unwrap_or_default();
            let own = text
                .lines()
                .filter(|line| line.contains("version = \"") || line.contains("path = \"../"));
            found.extend(own.map(|line| format!("{}: {line}", path.display())));
        }
    }
    assert_none(
        "members say `x.workspace = true`",
        "one table shows what the suite is built from",
        &found,
    );
}
