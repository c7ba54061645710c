//! `cargo xtask bench check`: what an answer to "may they?" costs: over gRPC from the running suite's auth, beside tonic alone
//! answering the same messages; and the decision itself, beside Casbin and Cedar deciding the same questions by the same policy.

#[cfg(feature = "engines")]
mod engines;
mod over_grpc;
mod policy;

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::resident::Resident;
use serde::Serialize;

use super::echo::{Echo, Kind};
use super::house::House;
use super::optimised;
use super::output::{self, verdict};
use crate::run::command;
use over_grpc::OverGrpc;
use policy::{Policy, Question};

/// The feature of xtask with the engines.
const ENGINES: &str = "engines";
/// Share of the bare server's answers to Check that is wanted at least.
const SHARE_WANTED: f64 = 0.6;

/// What one engine does in process, on one thread.
#[derive(Debug, Serialize)]
struct Decider {
    name: &'static str,
    decisions_per_second: f64,
    nanoseconds: f64,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    over_grpc: Vec<OverGrpc>,
    /// Questions that all have answered alike before they were timed.
    questions: usize,
    in_process: Vec<Decider>,
}

/// Measures and prints; also writes `target/bench/check.json`.
pub(super) async fn run(seconds: u64) -> Result<()> {
    let checkout = Checkout::find()?;
    if cfg!(debug_assertions) {
        let mut optimised = optimised::build(&checkout, Some(ENGINES)).await?;
        optimised.args(["bench", "--seconds", &seconds.to_string(), "check"]);
        return command(optimised).await;
    }
    ensure!(
        cfg!(feature = "engines"),
        "built without the feature `{ENGINES}` of xtask: run `cargo xtask bench check`"
    );
    let resident = Resident::open(checkout.clone())?;
    let duration = Duration::from_secs(seconds);
    let policy = Policy::new();
    let mut in_process = vec![time("our own", &policy, duration, |_, question| Ok(question.decide()))?];
    in_process.extend(others(&policy, duration).await?);

    let house = House::open(&resident).await?;
    let bare = Echo::start(&checkout, Kind::Bare).await?;
    let over_grpc = over_grpc::measure(&house, &bare, duration).await?;
    let figures = Figures {
        over_grpc,
        questions: policy.questions.len(),
        in_process,
    };
    print(&figures);
    output::write(&checkout, "check", &figures)
}

#[cfg(feature = "engines")]
async fn others(policy: &Policy, duration: Duration) -> Result<Vec<Decider>> {
    let casbin = engines::Casbin::new(policy).await?;
    let cedar = engines::Cedar::new(policy)?;
    Ok(vec![
        time("Casbin", policy, duration, |number, question| {
            casbin.decide(number, question)
        })?,
        time("Cedar", policy, duration, |number, _| cedar.decide(number))?,
    ])
}

#[cfg(not(feature = "engines"))]
async fn others(_: &Policy, _: Duration) -> Result<Vec<Decider>> {
    Ok(Vec::new())
}

/// Has all questions answered as they should be, and then again and again for this time.
///
/// `decide`: gets the question's place among them too, for whoever has prepared something for each.
fn time(
    name: &'static str,
    policy: &Policy,
    duration: Duration,
    decide: impl Fn(usize, &Question) -> Result<bool>,
) -> Result<Decider> {
    for (number, question) in policy.questions.iter().enumerate() {
        let allowed = decide(number, question)?;
        ensure!(
            allowed == question.allowed,
            "{name} answers {allowed} whether {} gives {} for {:?}",
            question.holder.role,
            question.permission,
            question.relation
        );
    }
    let (begun, mut decisions) = (Instant::now(), 0);
    while begun.elapsed() < duration {
        for (number, question) in policy.questions.iter().enumerate() {
            black_box(decide(number, black_box(question))?);
        }
        decisions += policy.questions.len();
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Decider {
        name,
        decisions_per_second: decisions as f64 / seconds,
        nanoseconds: seconds * 1e9 / decisions as f64,
    })
}

fn print(figures: &Figures) {
    over_grpc::print(&figures.over_grpc);
    for line in &figures.over_grpc {
        println!(
            "share of {}: {:.2} ({SHARE_WANTED} wanted: {})",
            line.name,
            line.share,
            verdict(line.share >= SHARE_WANTED)
        );
    }
    println!(
        "\n{:<34} {:>12} {:>14} {:>10}",
        format!("in process, {} questions", figures.questions),
        "decisions/s",
        "ns a decision",
        "of ours"
    );
    let ours = figures.in_process.first().map(|ours| ours.decisions_per_second);
    for decider in &figures.in_process {
        println!(
            "{:<34} {:>12.0} {:>14.0} {:>10.3}",
            decider.name,
            decider.decisions_per_second,
            decider.nanoseconds,
            decider.decisions_per_second / ours.unwrap_or(f64::NAN)
        );
    }
    if let Some((ours, others)) = figures.in_process.split_first() {
        let is_fastest = others
            .iter()
            .all(|other| other.decisions_per_second < ours.decisions_per_second);
        println!("faster than both wanted: {}", verdict(is_fastest));
    }
}
