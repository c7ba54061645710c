//! What was measured, for programs and for people.

use serde::Serialize;

use super::guesses::Told;
use crate::bench::load::Measured;
use crate::bench::output::{text, verdict};

/// Share of what Argon2id allows that is wanted at least.
const SHARE_WANTED: f64 = 0.9;
/// How many times longer others' 99th percentile may be during a flood.
const SLOWER_WANTED: f64 = 2.0;

/// Log-ins of one kind.
#[derive(Debug, Serialize)]
pub(super) struct Flood {
    name: &'static str,
    per_second: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// In shares of what Argon2id alone allows.
    share: f64,
}

/// Guesses of strangers, and what they do to others.
#[derive(Debug, Serialize)]
pub(super) struct Guesses {
    pub(super) addresses: usize,
    /// Answers of any kind.
    pub(super) per_second: f64,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    /// Those that were hashed, in shares of what Argon2id alone allows.
    pub(super) share: f64,
    pub(super) told: Told,
    pub(super) memory_peak_mib: f64,
    pub(super) others_p50_ms: Option<f64>,
    pub(super) others_p99_ms: Option<f64>,
}

/// What took its turn once each, a second.
#[derive(Debug, Serialize)]
pub(super) struct Round {
    pub(super) hashes: f64,
    pub(super) log_ins: f64,
    pub(super) log_ins_with_a_device: f64,
}

/// Rows of auth.
#[derive(Debug, Serialize)]
pub(super) struct Rows {
    pub(super) sessions: i64,
    pub(super) refresh_tokens: i64,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) callers: usize,
    pub(super) accounts: usize,
    pub(super) tenants: usize,
    pub(super) floods: [Flood; 2],
    pub(super) guesses: Guesses,
    /// Log-ins that found no room and came again.
    pub(super) refused: usize,
    /// Hashes at once, in auth and in the reference.
    pub(super) hashes_at_once: usize,
    /// Argon2id with auth's parameters, alone: the mean of all rounds.
    pub(super) hashes_per_second: f64,
    pub(super) rounds: Vec<Round>,
    pub(super) rows_before: Rows,
    pub(super) rows_after: Rows,
    pub(super) memory_before_mib: f64,
    pub(super) memory_peak_mib: f64,
    pub(super) memory_bound_mib: f64,
    /// Whether the kernel shares cores out by session first (sched(7)): then auth's hashes, however nice, are one of many sessions'
    /// work with an equal right, and not the work that gives way to all other.
    pub(super) is_shared_by_session: bool,
    pub(super) others_alone_p50_ms: Option<f64>,
    pub(super) others_alone_p99_ms: Option<f64>,
    pub(super) others_during_p50_ms: Option<f64>,
    pub(super) others_during_p99_ms: Option<f64>,
}

// === impl Flood ===

impl Flood {
    pub(super) fn new(name: &'static str, measured: &Measured, hashes: &Measured) -> Self {
        Self {
            name,
            per_second: measured.per_second(),
            p50_ms: measured.percentile_ms(0.50),
            p99_ms: measured.percentile_ms(0.99),
            share: measured.per_second() / hashes.per_second(),
        }
    }
}

// === impl Figures ===

impl Figures {
    pub(super) fn print(&self) {
        self.print_floods();
        self.print_rounds();
        println!(
            "auth's rows: {} sessions and {} refresh tokens before, {} and {} after",
            self.rows_before.sessions,
            self.rows_before.refresh_tokens,
            self.rows_after.sessions,
            self.rows_after.refresh_tokens
        );
        println!("auth's resident memory: {:.1} MiB before", self.memory_before_mib);
        for (name, peak_mib) in [
            ("log-ins", self.memory_peak_mib),
            ("wrong guesses", self.guesses.memory_peak_mib),
        ] {
            println!(
                "during {name}: {peak_mib:.1} MiB at most ({:.1} wanted: {})",
                self.memory_bound_mib,
                verdict(peak_mib <= self.memory_bound_mib)
            );
        }
        self.print_others();
        if self.is_shared_by_session {
            println!(
                "cores are shared out by session here (kernel.sched_autogroup_enabled), which takes hashes' niceness its effect"
            );
        }
    }

    fn print_floods(&self) {
        println!(
            "\n{} callers, {} accounts in {} tenants, {} log-ins refused for want of room",
            self.callers, self.accounts, self.tenants, self.refused
        );
        println!(
            "Argon2id alone, {} at once: {:.1} a second",
            self.hashes_at_once, self.hashes_per_second
        );
        println!(
            "\n{:<34} {:>9} {:>9} {:>9} {:>9}",
            "log-ins", "1/s", "p50 ms", "p99 ms", "share"
        );
        for flood in &self.floods {
            println!(
                "{:<34} {:>9.1} {:>9} {:>9} {:>9.2} ({SHARE_WANTED} wanted: {})",
                flood.name,
                flood.per_second,
                text(flood.p50_ms, 0),
                text(flood.p99_ms, 0),
                flood.share,
                verdict(flood.share >= SHARE_WANTED)
            );
        }
        let guesses = &self.guesses;
        println!(
            "{:<34} {:>9.1} {:>9} {:>9} {:>9.2} (hashed)",
            "wrong guesses",
            guesses.per_second,
            text(guesses.p50_ms, 0),
            text(guesses.p99_ms, 0),
            guesses.share
        );
        println!(
            "guesses from {} addresses: {} wrong, {} refused for too many attempts, {} for want of room",
            guesses.addresses, guesses.told.wrong, guesses.told.too_many, guesses.told.no_room
        );
    }

    /// Where the hashes' own figures differ, the machine was another each time.
    fn print_rounds(&self) {
        println!(
            "\n{:<34} {:>9} {:>16} {:>16}",
            "each round, a second", "hashes", "password alone", "with a device"
        );
        for (number, round) in self.rounds.iter().enumerate() {
            println!(
                "{:<34} {:>9.1} {:>16} {:>16}",
                number + 1,
                round.hashes,
                format!("{:.1} ({:.2})", round.log_ins, round.log_ins / round.hashes),
                format!(
                    "{:.1} ({:.2})",
                    round.log_ins_with_a_device,
                    round.log_ins_with_a_device / round.hashes
                ),
            );
        }
        println!();
    }

    fn print_others(&self) {
        let alone = self.others_alone_p99_ms;
        println!(
            "\n{:<34} {:>9} {:>9} {:>9}",
            "GetContact, 50 a second", "p50 ms", "p99 ms", "times"
        );
        println!(
            "{:<34} {:>9} {:>9}",
            "alone",
            text(self.others_alone_p50_ms, 2),
            text(alone, 2)
        );
        for (name, p50, p99) in [
            ("during log-ins", self.others_during_p50_ms, self.others_during_p99_ms),
            (
                "during wrong guesses",
                self.guesses.others_p50_ms,
                self.guesses.others_p99_ms,
            ),
        ] {
            let slower = alone.zip(p99).map(|(alone, during)| during / alone);
            println!(
                "{name:<34} {:>9} {:>9} {:>9} ({SLOWER_WANTED} wanted: {})",
                text(p50, 2),
                text(p99, 2),
                text(slower, 2),
                verdict(slower.is_some_and(|slower| slower <= SLOWER_WANTED))
            );
        }
    }
}
