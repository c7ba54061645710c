//! A run of migrations over the homes of one participant, in waves.
//!
//! The houses are in the participant's hands, and so is the ledger of their versions. A run only says which come next and
//! when to stop; whatever process dies, what is left to do is what the ledger says. [`runner`] carries runs on. [`versions`] keeps
//! the directory up with the ledgers, whoever migrates.

pub(crate) mod actions;
mod answer;
mod houses;
mod peer;
pub(crate) mod rpc;
pub(crate) mod runner;
pub(crate) mod store;
#[cfg(test)]
mod tests;
pub(crate) mod versions;
mod watch;
mod wire;

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use rowhouse_context::{RequestId, ServiceName};
use rowhouse_types::{MigrationRunId, Placement, TenantId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) id: MigrationRunId,
    pub(crate) plan: Plan,
    pub(crate) state: State,
    /// Index of the wave that is under way.
    pub(crate) wave: usize,
    /// Names the round of tries: what failed in another one is tried again.
    pub(crate) round: Uuid,
    /// Houses that were behind when it started, or when their server answered for the first time.
    pub(crate) planned: i64,
    /// By data server.
    pub(crate) progress: BTreeMap<String, Progress>,
    pub(crate) faults: Vec<Fault>,
    /// Grows with every change.
    pub(crate) revision: i64,
    /// The request that started it.
    pub(crate) request: RequestId,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
}

/// What an operator orders.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Plan {
    #[serde(serialize_with = "as_str")]
    pub(crate) participant: ServiceName,
    /// 0 where the newest is wanted, until a run is made of it.
    pub(crate) target: i32,
    /// Never empty.
    pub(crate) waves: Vec<Wave>,
    /// Houses that are migrated at once on each data server.
    pub(crate) parallelism: u8,
    /// Houses that may fail before the run is halted.
    pub(crate) failure_budget: i32,
}

/// Which houses come next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Wave {
    /// Those of these tenants.
    Tenants(Vec<TenantId>),
    /// So many of a hundred.
    Percent(u8),
}

/// What becomes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Paused,
    Halted,
    Cancelled,
    Done,
}

/// How far a run is on one data server: what it said last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Houses of the wave that are behind.
    pub(crate) behind: i64,
    /// Of them, those that failed and are not tried again in this round.
    pub(crate) failed: i64,
    /// Houses that are behind, whatever their wave.
    pub(crate) behind_in_all: i64,
    /// Of them, those that failed and are not tried again in this round, whatever their wave. 0 in what an older version of this
    /// code has recorded: [`Progress::failed_in_any_wave`].
    #[serde(default)]
    pub(crate) failed_in_all: i64,
    /// Whether it has not answered yet, so that the numbers say nothing.
    #[serde(default)]
    pub(crate) is_unknown: bool,
    /// `None` while it answers.
    #[serde(default)]
    pub(crate) away: Option<Away>,
}

/// What is known of a data server that does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Away {
    pub(crate) since: DateTime<Utc>,
    /// What came instead of an answer, last.
    pub(crate) error: String,
    /// How often in a row.
    pub(crate) failures: u32,
    /// When it is asked again.
    pub(crate) again_at: DateTime<Utc>,
}

/// What could not be done for a house.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// The data server that has it. Empty in what an older version of this code has recorded.
    #[serde(default)]
    pub(crate) server: String,
    pub(crate) house: String,
    pub(crate) tenant: String,
    pub(crate) version: i32,
    pub(crate) sqlstate: String,
    pub(crate) message: String,
    pub(crate) attempts: i32,
    pub(crate) given_up: bool,
}

/// A participant's houses on one data server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fleet {
    /// The newest version that the participant's code has.
    pub(crate) newest: i32,
    /// The versions of its code that have deferred steps. Empty where an older participant does not say.
    pub(crate) deferred: Vec<i32>,
    pub(crate) versions: Vec<Version>,
    /// Whose homes are older than the newest of `versions`; `None` where they are too many, or an older participant does not say.
    pub(crate) older: Option<Vec<TenantId>>,
    pub(crate) faults: Vec<Fault>,
}

/// Houses of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) version: i32,
    pub(crate) deferred_version: i32,
    pub(crate) houses: i64,
    pub(crate) homes: i64,
}

/// A house, as the ledger of its data server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct House {
    pub(crate) server: String,
    pub(crate) house: String,
    /// `None` where this code does not know it.
    pub(crate) placement: Option<Placement>,
    /// Empty where many share it.
    pub(crate) tenant: String,
    /// Whether it was built ahead.
    pub(crate) is_spare: bool,
    pub(crate) homes: i64,
    pub(crate) version: i32,
    pub(crate) deferred_version: i32,
    /// Whether a migration to the newest version has something to do there.
    pub(crate) is_behind: bool,
}

/// How a house differs from the template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Drift {
    pub(crate) house: String,
    pub(crate) tenant: String,
    pub(crate) version: i32,
    pub(crate) missing: Vec<String>,
    pub(crate) surplus: Vec<String>,
}

fn as_str<S: serde::Serializer>(name: &ServiceName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}

// === impl Run ===

impl Run {
    /// Houses that failed in this round, in whatever wave, on all data servers.
    pub(crate) fn failed(&self) -> i64 {
        self.progress.values().map(Progress::failed_in_any_wave).sum()
    }

    /// Houses that were behind when it started and are not any more.
    pub(crate) fn migrated(&self) -> i64 {
        if self.progress.is_empty() {
            return 0;
        }
        let behind: i64 = self.progress.values().map(|progress| progress.behind_in_all).sum();
        self.planned.saturating_sub(behind).max(0)
    }

    /// Whether more houses failed than may.
    pub(crate) fn is_over_budget(&self) -> bool {
        self.failed() > i64::from(self.plan.failure_budget)
    }

    /// The first data server that does not answer, and what came instead.
    pub(crate) fn away(&self) -> Option<(&str, &Away)> {
        let mut all = self.progress.iter();
        all.find_map(|(server, progress)| Some((server.as_str(), progress.away.as_ref()?)))
    }

    /// Leads it to another state. One that goes on begins a new round: what has failed counts no more and is tried again, and
    /// servers that are away are asked at once.
    fn turn(&mut self, state: State) {
        self.state = state;
        if state != State::Running {
            return;
        }
        self.round = Uuid::new_v4();
        self.faults.clear();
        for progress in self.progress.values_mut() {
            (progress.failed, progress.failed_in_all) = (0, 0);
            if let Some(away) = &mut progress.away {
                (away.failures, away.again_at) = (0, away.since);
            }
        }
    }

    /// Begins the next wave, or ends the run after the last. Which of the houses that failed are the next wave's too is not known
    /// yet; they count against the budget all the same, since the round does not try them again.
    fn end_wave(&mut self) {
        self.wave += 1;
        if self.wave >= self.plan.waves.len() {
            self.state = State::Done;
            return;
        }
        for progress in self.progress.values_mut() {
            progress.failed = 0;
        }
    }
}

// === impl Progress ===

impl Progress {
    /// Houses that failed in this round, in whatever wave. An older version of this code has recorded those of the wave alone.
    pub(crate) fn failed_in_any_wave(&self) -> i64 {
        self.failed_in_all.max(self.failed)
    }

    /// Whether every house of the wave is at the version, or has failed.
    fn is_through(&self) -> bool {
        self.behind <= self.failed
    }
}

// === impl Fleet ===

impl Fleet {
    /// Houses that are older than a version, or have deferred steps left that it wants: as the participant counts those of a run.
    fn behind(&self, target: i32) -> i64 {
        let deferred = self.deferred.iter().filter(|version| **version <= target).max();
        let deferred = deferred.copied().unwrap_or(0);
        let behind = self.versions.iter();
        let behind = behind.filter(|houses| houses.version < target || houses.deferred_version < deferred);
        behind.map(|houses| houses.houses).sum()
    }

    /// Versions that homes have at least, each with those whose may be older: the newest, and the oldest, which all have.
    fn at_least(&self) -> Vec<(i32, &[TenantId])> {
        let nobody: &[TenantId] = &[];
        let versions = self.versions.iter().map(|houses| houses.version);
        let newest = versions.clone().max().zip(self.older.as_deref());
        let oldest = versions.min().map(|oldest| (oldest, nobody));
        newest.into_iter().chain(oldest).collect()
    }
}

// === impl State ===

impl State {
    /// The word for it in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::Cancelled => "cancelled",
            Self::Done => "done",
        }
    }

    /// Whether nothing comes after it.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Cancelled | Self::Done)
    }

    /// Whether an operator may lead a run from here to there. A trigger of the database knows the same ways.
    pub(crate) fn may_become(self, next: Self) -> bool {
        match next {
            Self::Paused => self == Self::Running,
            Self::Running => matches!(self, Self::Paused | Self::Halted),
            Self::Cancelled => !self.is_final(),
            Self::Halted | Self::Done => false,
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let all = [Self::Running, Self::Paused, Self::Halted, Self::Cancelled, Self::Done];
        let found = all.into_iter().find(|state| state.as_str() == text);
        found.ok_or("unknown state of a run")
    }
}
