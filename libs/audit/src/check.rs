//! What shows that a chain holds, or where it does not.

use chrono::{DateTime, TimeDelta, Utc};
use rowhouse_types::AuditEntryId;
use serde::{Deserialize, Serialize};

use crate::entry::Entry;
use crate::seal::{Batch, Chain, Hash, Head};

/// How long after it was made an entry may be sealed when those that came after it were sealed before: the longest
/// transaction, twice over, and what the clocks of two processes may differ by.
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
    /// The entry says it is older than what was sealed long before it: it was slipped in.
    EntryBackdated,
    /// The entry is in no seal: it was slipped in, or nobody seals.
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
            match batch.entries.get(at).and_then(Option::as_ref) {
                None => self.fault(FaultKind::EntryMissing, seal.number, Some(*id)),
                Some(text) if seal.leaves.get(at) != Some(&Hash::of(text)) => {
                    self.fault(FaultKind::EntryChanged, seal.number, Some(*id));
                }
                Some(text) if self.is_backdated(text) => {
                    self.fault(FaultKind::EntryBackdated, seal.number, Some(*id));
                }
                Some(_) => {}
            }
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
            entries: self.place.entries + i64::try_from(seal.entries.len()).unwrap_or(0),
        };
    }

    /// The chain has ended. `unsealed`: entries in no seal that should be in one.
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

    fn is_backdated(&self, text: &str) -> bool {
        let at = serde_json::from_str::<serde_json::Value>(text)
            .ok()
            .and_then(|entry| entry.get("at")?.as_str()?.parse::<DateTime<Utc>>().ok());
        match (at, self.place.sealed_at) {
            (Some(at), Some(sealed_at)) => at < sealed_at - LATE_MAX,
            _ => false,
        }
    }

    fn fault(&mut self, kind: FaultKind, number: i64, entry: Option<AuditEntryId>) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault { kind, number, entry });
        }
    }
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
