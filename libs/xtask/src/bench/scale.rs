//! `cargo xtask bench scale`: what many homes cost, without lanes and with them: point reads of `TenantTx` over 10 to
//! 10,000 homes through PgBouncer, and the private memory of PostgreSQL's back ends. And what a tenant's slots cost it:
//! one home that everybody reads, alone and beside a caller whose reads are slow.
//!
//! On servers of its own, which are stopped and deleted afterwards; no service takes part.

mod home;
mod run;

use std::time::Duration;

use anyhow::Result;
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::cluster::{self, Kind};
use rowhouse_devkit::servers::{self, LanePools};
use rowhouse_devkit::stack::{Profile, Stack};
use serde::Serialize;

use super::{optimised, output};
use crate::run::command;
use home::Homes;
use run::Division;

/// Homes in each of the runs; the largest number is what is built.
const HOMES: [usize; 5] = [10, 100, 1_000, 5_000, 10_000];
/// With how many the others are compared.
const FEW: usize = 100;
/// The database that all runs share.
const DATABASE: &str = "rowhouse_scale";

/// How connections are divided in the runs over many homes. Without lanes as many back ends as sixteen lanes of one.
const DIVISIONS: [Division; 4] = [
    Division::off(16),
    Division::on(16, 1, 1),
    Division::on(8, 3, 2),
    Division::on(16, 3, 2),
];

/// The same for one home: how many slots it has.
const SLOTS: [Division; 4] = [
    Division::off(16),
    Division::on(8, 2, 1),
    Division::on(8, 3, 2),
    Division::on(8, 4, 3),
];

/// One line of the table.
#[derive(Debug, Serialize)]
struct Figure {
    what: &'static str,
    homes: usize,
    lanes: u16,
    server_connections_per_lane: u32,
    slots: u16,
    per_second: f64,
    /// What this is of the same over [`FEW`] homes, run just before.
    of_few: Option<f64>,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    back_ends: usize,
    private_mib_mean: f64,
    private_mib_max: f64,
}

/// Measures and prints; also writes `target/bench/scale.json`.
pub(super) async fn run(seconds: u64) -> Result<()> {
    let checkout = Checkout::find()?;
    if cfg!(debug_assertions) {
        let mut optimised = optimised::build(&checkout, None).await?;
        optimised.args(["bench", "--seconds", &seconds.to_string(), "scale"]);
        return command(optimised).await;
    }
    let stack = Stack::open(&checkout, Profile::Test)?;
    let _lock = stack.lock()?;
    // Of a run that was killed.
    servers::stop(&stack, false);
    stack.forget()?;
    let measured = measure(&stack, Duration::from_secs(seconds)).await;
    servers::stop(&stack, false);
    stack.forget_data()?;
    let figures = measured?;
    output::write(&checkout, "scale", &figures)
}

async fn measure(stack: &Stack, duration: Duration) -> Result<Vec<Figure>> {
    let servers = servers::start(stack).await?;
    cluster::ensure_roles(&servers).await?;
    cluster::ensure_database(&servers, DATABASE, Kind::Data, None).await?;
    let most = HOMES.into_iter().max().unwrap_or_default();
    let homes = Homes::build(&servers, DATABASE, most).await?;
    println!(
        "\n{:<26} {:>6} {:>6} {:>9} {:>6} {:>9} {:>7} {:>8} {:>8} {:>9} {:>11} {:>10}",
        "",
        "homes",
        "lanes",
        "per lane",
        "slots",
        "1/s",
        "of 100",
        "p50 ms",
        "p99 ms",
        "back ends",
        "MiB in mean",
        "MiB at most"
    );
    let mut figures = Vec::new();
    for count in HOMES {
        for division in DIVISIONS {
            // Beside it, because the machine of an hour later is another one.
            let few = run::spread(&servers, &homes, FEW, division, duration).await?;
            let spread = run::spread(&servers, &homes, count, division, duration).await?;
            let of_few = spread.measured.per_second() / few.measured.per_second();
            figures.push(print("reads", count, division, spread, Some(of_few)));
        }
    }
    for division in SLOTS {
        let alone = run::spread(&servers, &homes, 1, division, duration).await?;
        figures.push(print("one tenant", 1, division, alone, None));
        let beside = run::beside_a_slow_one(&servers, &homes, division, duration).await?;
        figures.push(print("one tenant, a slow caller", 1, division, beside, None));
    }
    Ok(figures)
}

fn print(what: &'static str, homes: usize, division: Division, ran: run::Ran, of_few: Option<f64>) -> Figure {
    let LanePools { count, pool_size } = division.pools;
    let figure = Figure {
        what,
        homes,
        lanes: count,
        server_connections_per_lane: pool_size,
        slots: division.slots,
        per_second: ran.measured.per_second(),
        of_few,
        p50_ms: ran.measured.percentile_ms(0.50),
        p99_ms: ran.measured.percentile_ms(0.99),
        back_ends: ran.private_mib.len(),
        private_mib_mean: ran.private_mib.iter().sum::<f64>() / ran.private_mib.len().max(1) as f64,
        private_mib_max: ran.private_mib.iter().copied().fold(0.0, f64::max),
    };
    println!(
        "{:<26} {:>6} {:>6} {:>9} {:>6} {:>9.0} {:>7} {:>8.2} {:>8.2} {:>9} {:>11.1} {:>10.1}",
        what,
        homes,
        count,
        if count == 0 { division.pool_size } else { pool_size },
        division.slots,
        figure.per_second,
        of_few.map(|share| format!("{share:.2}")).unwrap_or_default(),
        figure.p50_ms.unwrap_or_default(),
        figure.p99_ms.unwrap_or_default(),
        figure.back_ends,
        figure.private_mib_mean,
        figure.private_mib_max
    );
    figure
}
