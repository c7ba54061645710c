//! The table, line by line: whoever stops a bench that takes long keeps what was measured until then.

use anyhow::Result;
use rowhouse_devkit::checkout::Checkout;
use serde::Serialize;

use super::division::Division;
use super::run::{Private, Ran};
use crate::bench::output::{self, text};

/// What was run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) what: &'static str,
    pub(super) homes: usize,
    pub(super) division: Division,
}

/// One line of the table.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    what: &'static str,
    pub(super) homes: usize,
    pub(super) lanes: u16,
    /// Of the database where there are no lanes.
    pub(super) server_connections_per_lane: u32,
    slots: u16,
    per_second: f64,
    /// What this is of the same over [`super::FEW`] homes, run just before and just after.
    pub(super) of_few: Option<f64>,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    back_ends: usize,
    private_mib_mean: f64,
    private_mib_max: f64,
    /// Of back ends that serve no tenant's transactions.
    others_mib_max: f64,
    /// Of the largest of all back ends, after a write in each home.
    written_mib_max: Option<f64>,
}

/// Prints lines and writes them to `target/bench/<name>.json`, each as soon as it is there.
pub(super) struct Table<'a> {
    checkout: &'a Checkout,
    name: &'static str,
    figures: Vec<Figure>,
}

// === impl Figure ===

impl Figure {
    fn new(run: Run, ran: &Ran, of_few: Option<f64>) -> Self {
        let Run { what, homes, division } = run;
        let private = &ran.private.application_mib;
        let back_ends = private.len();
        Self {
            what,
            homes,
            lanes: division.pools.count,
            server_connections_per_lane: division.server_connections(),
            slots: division.slots,
            per_second: ran.measured.per_second(),
            of_few,
            p50_ms: ran.measured.percentile_ms(0.50),
            p99_ms: ran.measured.percentile_ms(0.99),
            back_ends,
            private_mib_mean: private.iter().sum::<f64>() / back_ends.max(1) as f64,
            private_mib_max: private.iter().copied().fold(0.0, f64::max),
            others_mib_max: ran.private.others_mib_max,
            written_mib_max: ran.private_written.as_ref().map(Private::largest_mib),
        }
    }

    /// What the largest of all back ends has for itself, in MiB: after the reads or, where any were made, the writes.
    pub(super) fn largest_mib(&self) -> f64 {
        let read = self.private_mib_max.max(self.others_mib_max);
        read.max(self.written_mib_max.unwrap_or_default())
    }

    fn print(&self) {
        println!(
            "{:<26} {:>6} {:>6} {:>9} {:>6} {:>9.0} {:>7} {:>8} {:>8} {:>9} {:>11.1} {:>11.1} {:>10.1} {:>11}",
            self.what,
            self.homes,
            self.lanes,
            self.server_connections_per_lane,
            self.slots,
            self.per_second,
            text(self.of_few, 2),
            text(self.p50_ms, 2),
            text(self.p99_ms, 2),
            self.back_ends,
            self.private_mib_mean,
            self.private_mib_max,
            self.others_mib_max,
            text(self.written_mib_max, 1)
        );
    }
}

// === impl Table ===

impl<'a> Table<'a> {
    /// Prints the head.
    pub(super) fn begin(checkout: &'a Checkout, name: &'static str) -> Self {
        println!(
            "\n{:<26} {:>6} {:>6} {:>9} {:>6} {:>9} {:>7} {:>8} {:>8} {:>9} {:>11} {:>11} {:>10} {:>11}",
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
            "MiB at most",
            "MiB others",
            "MiB written"
        );
        Self {
            checkout,
            name,
            figures: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, run: Run, ran: &Ran, of_few: Option<f64>) -> Result<()> {
        let figure = Figure::new(run, ran, of_few);
        figure.print();
        self.figures.push(figure);
        output::write(self.checkout, self.name, &self.figures)
    }

    pub(super) fn figures(&self) -> &[Figure] {
        &self.figures
    }
}
