//! What shows that a chain holds, or where it does not.

use chrono::{DateTime, TimeDelta, Utc};
use rowhouse_types::AuditEntryId;
use serde::{Deserialize, Serialize};

use crate::entry::Entry;
use crate::seal::{Batch, Chain, Hash, Head};

/// How much older than one that was sealed before it an entry may be: the longest transaction, twice over, and what the clocks
/// of two processes may differ by. An entry's time and the one in its id are no further apart either.
pub const LATE_MAX: TimeDelta = TimeDelta::minutes(10);

/// Faults that are told of one chain at most; the first ones show where to look.
const FAULTS_MAX: usize = 100;

/// The check of one chain, batch by batch in the order of their numbers.
#[derive(Clone, Debug)]
pub struct Check {
    chain: Chain,
    place: Place,
    known: Option<Head>,
    faults: Vec<Fault>,
}

/// How far a check is: what the next batch is held against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The number of the last seal that was looked at; 0 before the first.
    pub number: i64,
    /// Its hash, in hex; empty before the first.
    pub hash: String,
    /// When it was made.
    pub sealed_at: Option<DateTime<Utc>>,
    /// The latest time of an entry so far.
    pub newest: Option<DateTime<Utc>>,
    /// Entries that were looked at.
    pub entries: i64,
}

/// One thing that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// At which seal; 0 where at none.
    pub number: i64,
    /// Which entry.
    pub entry: Option<AuditEntryId>,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A number is missing: a seal was removed.
    SealMissing,
    /// The seal is not what it hashes to.
    SealChanged,
    /// The seal does not continue the one before.
    ChainBroken,
    /// A sealed entry was removed.
    EntryMissing,
    /// A sealed entry was changed.
    EntryChanged,
    /// The entry's time does not fit to those that were sealed before it, to its seal, or to its id: it was slipped in.
    EntryMisdated,
    /// The entry is in no seal and waits for none: it was slipped in.
    EntryUnsealed,
    /// The seal that the caller had noted is gone, or another.
    KnownDiffers,
}

// === impl Check ===

impl Check {
    /// A check that goes on at `place`. `known`: a seal that was noted earlier.
    #[must_use]
    pub fn new(chain: Chain, place: Place, known: Option<Head>) -> Self {
        Self {
            chain,
            place,
            known,
            faults: Vec::new(),
        }
    }

    /// Holds the next batch against what came before it.
    pub fn take(&mut self, batch: &Batch) {
        let seal = &batch.seal;
        let before = self.place.hash.parse().unwrap_or(Hash::zero());
        if seal.number != self.place.number + 1 {
            self.fault(FaultKind::SealMissing, self.place.number + 1, None);
        } else if seal.previous != before {
            self.fault(FaultKind::ChainBroken, seal.number, None);
        }
        if seal.computed(&self.chain) != seal.hash || seal.leaves.len() != seal.entries.len() {
            self.fault(FaultKind::SealChanged, seal.number, None);
        }
        for (at, id) in seal.entries.iter().enumerate() {
            let Some(text) = batch.entries.get(at).and_then(Option::as_ref) else {
                self.fault(FaultKind::EntryMissing, seal.number, Some(*id));
                continue;
            };
            if seal.leaves.get(at) != Some(&Hash::of(text)) {
                self.fault(FaultKind::EntryChanged, seal.number, Some(*id));
            }
            let time = time_of(text);
            if time.is_none_or(|time| self.is_misdated(time, *id, seal.sealed_at)) {
                self.fault(FaultKind::EntryMisdated, seal.number, Some(*id));
            }
            self.place.newest = self.place.newest.max(time.filter(|time| *time <= seal.sealed_at));
        }
        if self
            .known
            .is_some_and(|known| known.number == seal.number && known.hash != seal.hash)
        {
            self.fault(FaultKind::KnownDiffers, seal.number, None);
        }
        self.place = Place {
            number: seal.number,
            hash: seal.hash.to_string(),
            sealed_at: Some(seal.sealed_at),
            newest: self.place.newest,
            entries: self.place.entries + i64::try_from(seal.entries.len()).unwrap_or(0),
        };
    }

    /// The chain has ended. `unsealed`: entries that are in no seal and wait for none.
    pub fn end(&mut self, unsealed: &[AuditEntryId]) {
        if let Some(known) = self.known
            && known.number > self.place.number
        {
            self.fault(FaultKind::KnownDiffers, known.number, None);
        }
        for id in unsealed {
            self.fault(FaultKind::EntryUnsealed, 0, Some(*id));
        }
    }

    /// How far it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What it found.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    fn is_misdated(&self, time: DateTime<Utc>, id: AuditEntryId, sealed_at: DateTime<Utc>) -> bool {
        let is_apart = |from: DateTime<Utc>| time.signed_duration_since(from).abs() > LATE_MAX;
        let made = id.uuid().get_timestamp().and_then(|stamp| {
            let (seconds, nanos) = stamp.to_unix();
            DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
        });
        made.is_none_or(is_apart)
            || time.signed_duration_since(sealed_at) > LATE_MAX
            || (self.place.newest).is_some_and(|newest| newest.signed_duration_since(time) > LATE_MAX)
    }

    fn fault(&mut self, kind: FaultKind, number: i64, entry: Option<AuditEntryId>) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault { kind, number, entry });
        }
    }
}

/// When the entry was made, as its text says.
fn time_of(text: &str) -> Option<DateTime<Utc>> {
    let entry: serde_json::Value = serde_json::from_str(text).ok()?;
    entry.get("at")?.as_str()?.parse().ok()
}

// === impl Batch ===

impl Batch {
    /// A seal and what was found of its entries.
    #[must_use]
    pub fn of(seal: crate::Seal, found: &[Entry]) -> Self {
        let entries = seal.entries.iter().map(|id| {
            let entry = found.iter().find(|entry| entry.id == *id);
            entry.map(Entry::canonical)
        });
        Self {
            entries: entries.collect(),
            seal,
        }
    }
}

#[cfg(test)]
mod tests;
