//! The contract: its style, and that it does not break those who use it.

use std::process::Command;

use anyhow::Result;
use rowhouse_devkit::checkout::Checkout;

use crate::run;
use crate::tools::Tools;

/// `buf lint` with the rules of `buf.yaml`.
pub(crate) async fn lint(checkout: &Checkout, tools: &Tools) -> Result<()> {
    let mut buf = tools.command("buf");
    buf.arg("lint").current_dir(checkout.root());
    run::command(buf).await
}

/// `buf breaking` against the last commit on main that holds protos.
pub(crate) async fn breaking(checkout: &Checkout, tools: &Tools) -> Result<()> {
    let Some(commit) = last_on_main(checkout) else {
        eprintln!("   no commit with protos on main to compare with");
        return Ok(());
    };
    let mut buf = tools.command("buf");
    buf.args(["breaking", "--against", &format!(".git#ref={commit}")])
        .current_dir(checkout.root());
    run::command(buf).await
}

fn last_on_main(checkout: &Checkout) -> Option<String> {
    // A clone of a branch knows main only as its origin's.
    let commit = ["refs/heads/main", "refs/remotes/origin/main", "HEAD"]
        .iter()
        .find_map(|name| {
            git(
                checkout,
                &["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")],
            )
        })?;
    let files = git(checkout, &["ls-tree", "-r", "--name-only", &commit, "proto"])?;
    files.lines().any(|file| file.ends_with(".proto")).then_some(commit)
}

fn git(checkout: &Checkout, arguments: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    git.args(arguments).current_dir(checkout.root());
    run::output(git).ok().map(|text| text.trim().to_owned())
}
