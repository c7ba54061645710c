//! What all runs have in common: callers who take a tenant at random, a warm-up, and what back ends then hold.

use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context as _, Result};
use rowhouse_devkit::cluster;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::FEW;
use super::division::Division;
use super::figure::{Run, Table};
use crate::bench::CALLERS;
use crate::bench::load::Measured;

/// Calls of the warm-up for each pair of a back end and a home that it may serve: at random, two leave one pair in seven
/// that has not met. Every home is then called several times, so that caches know it too.
const WARM_UP_ROUNDS: usize = 2;
const WARM_UP_MAX: Duration = Duration::from_secs(90);

/// When callers stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    calls: usize,
    time: Duration,
}

/// What came of a run.
pub(super) struct Ran {
    pub(super) measured: Measured,
    pub(super) private: Private,
    /// The same after a write in each home, where any was made.
    pub(super) private_written: Option<Private>,
}

/// Memory that back ends have for themselves, in MiB.
#[derive(Debug, Default)]
pub(super) struct Private {
    /// Of each that serves transactions of tenants.
    pub(super) application_mib: Vec<f64>,
    /// The most that another has: of a relay, a keeper, a provisioner.
    pub(super) others_mib_max: f64,
}

// === impl Private ===

impl Private {
    /// The most that any back end has.
    pub(super) fn largest_mib(&self) -> f64 {
        self.application_mib.iter().copied().fold(self.others_mib_max, f64::max)
    }
}

// === impl Bound ===

impl Bound {
    pub(super) fn time(time: Duration) -> Self {
        Self {
            calls: usize::MAX,
            time,
        }
    }

    /// Until nearly every back end has met nearly every home that it may serve.
    pub(super) fn warm_up(division: Division, homes: usize) -> Self {
        Self {
            calls: division.meetings(homes) * WARM_UP_ROUNDS,
            time: WARM_UP_MAX,
        }
    }
}

/// Runs over each number of homes under each division, with a line for each: beside the same over [`FEW`], just before and
/// just after, because the machine of an hour later is another one.
///
/// `spread`: a run over so many homes.
pub(super) async fn beside_few(
    table: &mut Table<'_>,
    what: &'static str,
    counts: &[usize],
    divisions: &[Division],
    mut spread: impl AsyncFnMut(usize, Division) -> Result<Ran>,
) -> Result<()> {
    for homes in counts.iter().copied() {
        for division in divisions.iter().copied() {
            let before = spread(FEW, division).await?;
            let ran = spread(homes, division).await?;
            let after = spread(FEW, division).await?;
            let few = Measured::sum(vec![before.measured, after.measured]);
            let of_few = Some(ran.measured.per_second() / few.per_second());
            let run = Run { what, homes, division };
            table.add(run, &ran, of_few)?;
        }
    }
    Ok(())
}

/// Callers who each take a home at random, again and again.
///
/// `call`: one call, of the home with this index.
pub(super) async fn at_random<F>(
    homes: usize,
    bound: Bound,
    call: impl Fn(usize) -> F + Clone + Send + 'static,
) -> Result<Measured>
where
    F: Future<Output = Result<()>> + Send,
{
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let call = call.clone();
        callers.spawn(async move {
            let mut calls = Vec::new();
            // Xorshift (Marsaglia 2003).
            let mut dice = u64::from_le_bytes(*Uuid::new_v4().as_bytes().first_chunk().context("bytes")?) | 1;
            while begun.elapsed() < bound.time && calls.len() < bound.calls / CALLERS {
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                let index = usize::try_from(dice % homes.max(1) as u64)?;
                let began = Instant::now();
                call(index).await?;
                calls.push(began.elapsed());
            }
            anyhow::Ok(calls)
        });
    }
    let mut calls = Vec::new();
    while let Some(done) = callers.join_next().await {
        calls.extend(done??);
    }
    Ok(Measured::new(calls, begun.elapsed()))
}

/// Callers who together take each home once.
///
/// `call`: one call, of the home with this index.
pub(super) async fn in_turn<F>(homes: usize, call: impl Fn(usize) -> F + Clone + Send + 'static) -> Result<()>
where
    F: Future<Output = Result<()>> + Send,
{
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let call = call.clone();
        callers.spawn(async move {
            for index in (caller..homes).step_by(CALLERS) {
                call(index).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    Ok(())
}

/// What the server's back ends hold for themselves, those of the control database too, but the one that asks.
pub(super) async fn private_memory(superuser_url: &str) -> Result<Private> {
    let superuser = cluster::connect(superuser_url).await?;
    let rows = superuser
        .query(
            "SELECT pid, usename = 'rowhouse_app' FROM pg_stat_activity \
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
            &[],
        )
        .await?;
    let mut private = Private::default();
    for row in rows {
        let file = format!("/proc/{}/smaps_rollup", row.get::<_, i32>(0));
        let text = match fs::read_to_string(&file) {
            // It has ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read.with_context(|| format!("cannot read {file}"))?,
        };
        let lines = text.lines().filter(|line| line.starts_with("Private_"));
        let kib = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        let mib = kib.sum::<f64>() / 1024.0;
        if row.get(1) {
            private.application_mib.push(mib);
        } else {
            private.others_mib_max = private.others_mib_max.max(mib);
        }
    }
    Ok(private)
}
