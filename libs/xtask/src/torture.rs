//! `cargo xtask torture`: the torture tests in their long form, as many rounds as fit into the minutes.

use std::fs;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::torture::{MINUTES, SEED};

use crate::test;

/// What each id of the catalogue runs: parts of the tests' names. The tests beside it in the same file are its controls.
const TESTS: &[(&str, &[&str])] = &[
    (
        "T01",
        &[
            "torture::tenants_never_meet",
            "torture::naive::",
            "isolation::interleaved::",
        ],
    ),
    (
        "T02",
        &[
            "drops::",
            "lanes::a_dropped_transaction",
            "statements::a_use_that_was_dropped",
        ],
    ),
    ("T04", &["isolation::tenant_metadata::"]),
    ("T05", &["walls::"]),
    ("T06", &["isolation::hostile_names::"]),
    (
        "T07",
        &[
            "answers_never_cross",
            "cache::tests::naive::",
            "a_value_planted_under_another_key",
        ],
    ),
    ("T08", &["catalogue::", "own_database_keeps_every_rule"]),
    ("T09", &["isolation::secrets::"]),
    (
        "T10",
        &[
            "token::tests::changed::",
            "a_verifier_with_the_librarys_defaults",
            "isolation::hostile_tokens::",
        ],
    ),
    ("T11", &["isolation::keys::"]),
    ("T12", &["session::tests::families::", "isolation::refresh_families::"]),
    ("T13", &["isolation::revocation::"]),
    ("T14", &["rights::client::tests::races::", "rights::ledger::model::"]),
    ("T15", &["session::tests::timing::", "account::tests::alike::"]),
    ("T16", &["attempt::tests::guesses::", "attempt::tests::memory::"]),
    ("T17", &["isolation::impersonation::"]),
    (
        "T24",
        &["operation::tests::crashes::", "purge::tests::killed::", "kill::homes::"],
    ),
    ("T25", &["wave::", "migrations::killed::"]),
    ("T26", &["isolation::end_of_tenant::", "fence::"]),
    ("T30", &["neighbours::"]),
];

/// Arguments of `torture`.
#[derive(Args, Debug)]
pub(crate) struct Torture {
    /// T01, T02, ...: one after the other. All that there are where none is named
    ids: Vec<String>,
    /// How long to begin new rounds, for each
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_440))]
    minutes: u64,
    /// That an earlier run has printed: the same choices again
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs them on servers of their own, and prints each one's line of result.
pub(crate) async fn run(torture: Torture) -> Result<()> {
    let mut chosen = Vec::new();
    for id in &torture.ids {
        let known = TESTS.iter().find(|(known, _)| known.eq_ignore_ascii_case(id));
        chosen.push(known.with_context(|| format!("{id} is none of {}", known_ids()))?);
    }
    if chosen.is_empty() {
        chosen.extend(TESTS);
    }
    let mut variables = vec![(MINUTES, torture.minutes.to_string())];
    variables.extend(torture.seed.map(|seed| (SEED, seed.to_string())));
    let folder = Checkout::find()?.target().join("torture");
    let mut failed = Vec::new();
    for (id, names) in chosen {
        let file = folder.join(format!("{id}.json"));
        let before = fs::read_to_string(&file).unwrap_or_default();
        let mut arguments = vec!["--profile".to_owned(), "torture".to_owned(), "--".to_owned()];
        arguments.extend(names.iter().map(|name| (*name).to_owned()));
        let ran = test::tests_with(arguments, &variables).await;
        let after = fs::read_to_string(&file).unwrap_or_default();
        let lines = after.strip_prefix(&before).unwrap_or(&after);
        print!("{lines}");
        if let Err(error) = ran {
            eprintln!("{id}: {error:#}");
            failed.push(*id);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}

fn known_ids() -> String {
    let ids: Vec<&str> = TESTS.iter().map(|(id, _)| *id).collect();
    ids.join(", ")
}

#[cfg(test)]
mod tests {
    use super::TESTS;

    #[test]
    fn ids_are_in_order_and_each_names_tests() {
        assert!(TESTS.is_sorted_by(|one, next| one.0 < next.0));
        assert!(TESTS.iter().all(|(_, names)| !names.is_empty()));
    }
}
