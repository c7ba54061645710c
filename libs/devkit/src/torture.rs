//! The frame of a torture test: one round in `cargo xtask test`, as many as fit into the minutes in `cargo xtask torture`.
//!
//! A run prints its seed, and leaves one line of JSON in `target/torture/<id>.json`, however it ends.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use uuid::Uuid;

use crate::checkout::Checkout;

/// The variable with the minutes of a long run; without it a run is one round.
pub const MINUTES: &str = "ROWHOUSE_TORTURE_MINUTES";

/// The variable with the seed of an earlier run, to repeat its choices.
pub const SEED: &str = "ROWHOUSE_TORTURE_SEED";

/// One run of a torture test.
#[derive(Debug)]
pub struct Torture {
    result: Outcome,
    begun: Instant,
    /// When the last round of a long run may begin.
    until: Option<Instant>,
}

/// What a run leaves.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Of the catalogue: `T01`.
    pub id: String,
    /// The test.
    pub test: String,
    /// Whether it was run by `cargo xtask torture`.
    pub long: bool,
    /// Repeats the run's choices.
    pub seed: u64,
    /// Rounds that were begun.
    pub rounds: u64,
    /// How long it took.
    pub seconds: f64,
    /// How often the promise was put to the test.
    pub trials: u64,
    /// Where none failed, the rate of failures is at most this at 95 % confidence: 3 / trials (Hanley and Lippman-Hand 1983).
    pub rate_max: Option<f64>,
    /// What happened, by name.
    pub counts: BTreeMap<&'static str, u64>,
    /// Whether it came to its end.
    pub passed: bool,
}

/// Choices that a seed repeats. Xorshift (Marsaglia 2003).
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

// === impl Torture ===

impl Torture {
    /// Begins a run and prints its seed.
    ///
    /// `id`: of the catalogue, `T01`. `test`: tells the tests of one id apart.
    #[must_use]
    pub fn begin(id: &str, test: &str) -> Self {
        let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let (begun, minutes) = (Instant::now(), number(MINUTES));
        let seed = number(SEED).unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0);
        println!("{id} {test}: seed {seed}");
        Self {
            result: Outcome {
                id: id.to_owned(),
                test: test.to_owned(),
                long: minutes.is_some(),
                seed,
                rounds: 0,
                seconds: 0.0,
                trials: 0,
                rate_max: None,
                counts: BTreeMap::new(),
                passed: false,
            },
            begun,
            until: minutes.map(|minutes| begun + Duration::from_secs(60 * minutes)),
        }
    }

    /// Whether it is the long form, in which times and memory are judged too.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.result.long
    }

    /// The size of a thing in either form.
    #[must_use]
    pub fn size(&self, short: usize, long: usize) -> usize {
        if self.result.long { long } else { short }
    }

    /// The choices of the next round; `None` when the run is over, which has passed then.
    pub fn round(&mut self) -> Option<Dice> {
        let first = self.result.rounds == 0;
        if !first && self.until.is_none_or(|until| Instant::now() >= until) {
            self.result.passed = true;
            return None;
        }
        self.result.rounds += 1;
        Some(Dice::new(
            self.result.seed.wrapping_add(self.result.rounds.wrapping_mul(STEP)),
        ))
    }

    /// The promise was put to the test so many times more.
    pub fn trials(&mut self, more: usize) {
        self.result.trials += u64::try_from(more).unwrap_or(u64::MAX);
    }

    /// Something happened so many times more.
    pub fn count(&mut self, what: &'static str, more: usize) {
        *self.result.counts.entry(what).or_default() += u64::try_from(more).unwrap_or(u64::MAX);
    }

    fn write(&mut self) -> Result<()> {
        let result = &mut self.result;
        result.seconds = self.begun.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
        let rate = 3.0 / result.trials as f64;
        result.rate_max = (result.passed && result.trials > 0).then_some(rate);
        let line = serde_json::to_string(result)?;
        println!("{line}");
        let folder = Checkout::find()?.target().join("torture");
        fs::create_dir_all(&folder)?;
        let file = folder.join(format!("{}.json", result.id));
        let mut file = OpenOptions::new().create(true).append(true).open(file)?;
        // In one piece: tests of the same id run at once.
        file.write_all(format!("{line}\n").as_bytes())?;
        Ok(())
    }
}

impl Drop for Torture {
    fn drop(&mut self) {
        if let Err(error) = self.write() {
            println!("the result was not written: {error:#}");
        }
    }
}

/// An odd number without a pattern (2^64 / golden ratio; Knuth, volume 3, 6.4).
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

// === impl Dice ===

impl Dice {
    /// The choices of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Xorshift never leaves zero.
        Self {
            state: seed.wrapping_mul(STEP) | 1,
        }
    }

    /// Dice of their own for one of several tasks.
    #[must_use]
    pub fn of_task(&self, task: usize) -> Self {
        let task = u64::try_from(task).unwrap_or_default();
        Self::new(self.state.wrapping_add(task.wrapping_mul(STEP)))
    }

    /// A number from 0 to `bound` - 1; 0 where `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.state % bound).unwrap_or_default()
    }

    /// True in `of` cases of a hundred.
    pub fn percent(&mut self, of: usize) -> bool {
        self.below(100) < of
    }
}

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn a_seed_repeats_its_choices_and_tasks_differ() {
        let choices = |mut dice: Dice| (0..50).map(|_| dice.below(1_000)).collect::<Vec<_>>();
        assert_eq!(choices(Dice::new(7)), choices(Dice::new(7)));
        let dice = Dice::new(7);
        assert_ne!(choices(dice.of_task(1)), choices(dice.of_task(2)));
        assert!(choices(Dice::new(0)).iter().any(|choice| *choice > 500));
    }
}
