//! `cargo xtask bench authn`: what it costs that a caller is known and may: a call that does nothing else, through listener and
//! stack with a token, keys, and rights under a lease of the running suite's auth, beside tonic alone with the same messages in
//! the same run. Then the same calls at half the load that the first can bear, and what the parts cost without a network.

mod parts;

use std::time::Duration;

use anyhow::Result;
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::resident::Resident;
use rowhouse_proto::crm::v1::GetContactRequest;
use rowhouse_types::ContactId;
use serde::Serialize;

use super::echo::{Echo, Kind};
use super::house::House;
use super::load::{self, Measured};
use super::output::{self, text, verdict};
use super::pace::paced;
use super::{CALLERS, optimised};
use crate::run::command;
use parts::Part;

/// What is compared takes turns: both meet the machine's good and bad moments. At half load the median of the rounds counts: a
/// machine that stands still for a moment makes the 99th percentile of that round, on whichever side.
const ROUNDS: usize = 5;
/// Until connections are open and caches hold the token and its rights.
const WARM_UP: Duration = Duration::from_secs(2);
/// Share of the bare server's calls that is wanted at least.
const SHARE_WANTED: f64 = 0.7;
/// By how much the 99th percentile at half load may be above the bare server's, in milliseconds.
const P99_ABOVE_WANTED_MS: f64 = 2.0;

/// One of the two servers.
#[derive(Debug, Serialize)]
struct Side {
    name: &'static str,
    /// As many as so many callers can make.
    per_second: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// At half of what the server with the stack can do, from when a call was meant to begin: the median of the rounds.
    half_load_p50_ms: Option<f64>,
    half_load_p99_ms: Option<f64>,
    /// The 99th percentile of all rounds together.
    half_load_all_p99_ms: Option<f64>,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    sides: [Side; 2],
    /// The stack's calls a second in shares of the bare server's.
    share: f64,
    /// Calls a second at half load, the same for both.
    half_load_per_second: f64,
    half_load_p99_above_ms: Option<f64>,
    /// In process, one call at a time.
    parts: Vec<Part>,
}

/// Measures and prints; also writes `target/bench/authn.json`.
pub(super) async fn run(seconds: u64) -> Result<()> {
    let checkout = Checkout::find()?;
    if cfg!(debug_assertions) {
        let mut optimised = optimised::build(&checkout, None).await?;
        optimised.args(["bench", "--seconds", &seconds.to_string(), "authn"]);
        return command(optimised).await;
    }
    let resident = Resident::open(checkout.clone())?;
    let duration = Duration::from_secs(seconds);
    let house = House::open(&resident).await?;
    let bare = Echo::start(&checkout, Kind::Bare).await?;
    let stack = Echo::start(&checkout, Kind::Stack).await?;
    let both = [&bare, &stack];

    let full = in_turns(both, async |echo| {
        let callers = callers(&house, echo).await?;
        load::repeat(&callers, CALLERS, duration, get).await
    });
    let [bare_full, stack_full] = full.await?.map(Measured::sum);
    let half_load_per_second = stack_full.per_second() / 2.0;
    let half = in_turns(both, async |echo| {
        let callers = callers(&house, echo).await?;
        paced(&callers, half_load_per_second, duration, get).await
    });
    let [bare_half, stack_half] = half.await?;
    drop((bare, stack));

    let token = house.log_in(&house.administrator).await?.access_token;
    let parts = parts::measure(&resident, &token).await?;
    let half_p99 = [&bare_half, &stack_half].map(|half| median_ms(half, 0.99));
    let figures = Figures {
        share: stack_full.per_second() / bare_full.per_second(),
        sides: [
            side("tonic alone", &bare_full, bare_half),
            side("through the stack", &stack_full, stack_half),
        ],
        half_load_per_second,
        half_load_p99_above_ms: half_p99
            .into_iter()
            .reduce(|bare, stack| Some(stack? - bare?))
            .flatten(),
        parts,
    };
    print(&figures);
    output::write(&checkout, "authn", &figures)
}

/// The administrator at one of the servers, freshly logged in, warmed up.
async fn callers(house: &House<'_>, echo: &Echo) -> Result<Vec<Caller>> {
    let tokens = house.log_in(&house.administrator).await?;
    let callers = echo.callers(&tokens.access_token)?;
    load::repeat(&callers, CALLERS, WARM_UP, get).await?;
    Ok(callers)
}

async fn get(caller: Caller, _: usize) -> Result<()> {
    let id = ContactId::generate().to_string();
    caller.contacts().get_contact(GetContactRequest { id }).await?;
    Ok(())
}

/// The same work on both, several times.
async fn in_turns(both: [&Echo; 2], work: impl AsyncFn(&Echo) -> Result<Measured>) -> Result<[Vec<Measured>; 2]> {
    let [one, other] = both;
    let (mut of_one, mut of_other) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        of_one.push(work(one).await?);
        of_other.push(work(other).await?);
    }
    Ok([of_one, of_other])
}

/// The median of the rounds' percentiles.
fn median_ms(rounds: &[Measured], percentile: f64) -> Option<f64> {
    let mut all: Vec<f64> = rounds
        .iter()
        .filter_map(|round| round.percentile_ms(percentile))
        .collect();
    all.sort_unstable_by(f64::total_cmp);
    all.get(all.len() / 2).copied()
}

fn side(name: &'static str, full: &Measured, half: Vec<Measured>) -> Side {
    Side {
        name,
        per_second: full.per_second(),
        p50_ms: full.percentile_ms(0.50),
        p99_ms: full.percentile_ms(0.99),
        half_load_p50_ms: median_ms(&half, 0.50),
        half_load_p99_ms: median_ms(&half, 0.99),
        half_load_all_p99_ms: Measured::sum(half).percentile_ms(0.99),
    }
}

fn print(figures: &Figures) {
    println!(
        "\n{:<34} {:>9} {:>9} {:>9} {:>16} {:>16} {:>16}",
        "GetContact, a constant", "1/s", "p50 ms", "p99 ms", "half load p50", "half load p99", "of all rounds"
    );
    for side in &figures.sides {
        println!(
            "{:<34} {:>9.0} {:>9} {:>9} {:>16} {:>16} {:>16}",
            side.name,
            side.per_second,
            text(side.p50_ms, 2),
            text(side.p99_ms, 2),
            text(side.half_load_p50_ms, 2),
            text(side.half_load_p99_ms, 2),
            text(side.half_load_all_p99_ms, 2),
        );
    }
    println!(
        "the stack's share: {:.2} ({SHARE_WANTED} wanted: {})",
        figures.share,
        verdict(figures.share >= SHARE_WANTED)
    );
    let above = figures.half_load_p99_above_ms;
    println!(
        "p99 above tonic alone, both at {:.0} calls a second: {} ms ({P99_ABOVE_WANTED_MS} at most wanted: {})",
        figures.half_load_per_second,
        text(above, 2),
        verdict(above.is_some_and(|above| above <= P99_ABOVE_WANTED_MS))
    );
    println!("\n{:<58} {:>12}", "in process, one at a time", "microseconds");
    for part in &figures.parts {
        println!("{:<58} {:>12.2}", part.name, part.microseconds);
    }
}
