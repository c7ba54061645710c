//! Seals: what stands in a log is hashed in batches, each of which holds the hash of the one before.
//!
//! A log has one chain for each tenant and service, and one for the platform. Whoever removes, changes or slips in an
//! entry changes a hash; whoever then makes the hashes anew changes every one that follows, so whoever has noted one
//! sees it ([`crate::Check`]).
//!
//! The hash of a seal is SHA-256 over these lines, each ended by a line feed: `rowhouse audit seal 1`, the chain
//! (`crm/tenant_...`, `auth/platform`), the number, the hash before in hex, the time in UTC with microseconds, and the
//! SHA-256 of each entry's canonical JSON in hex. Numbers begin with 1; what stands before the first is 32 zero bytes.

use std::borrow::Borrow;
use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, SubsecRound as _, Utc};
use data_encoding::HEXLOWER;
use rowhouse_context::ServiceName;
use rowhouse_types::{AuditEntryId, TenantId};

use crate::entry::{Entry, moment};

/// Entries of one seal at most: a page of seals stays below gRPC's 4 MB for a message.
pub const ENTRIES_MAX: usize = 100;

/// The first line of what is hashed: another rule would have another number.
const RULE: &str = "rowhouse audit seal 1";

/// SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

/// The text is not a SHA-256 in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseHashError;

/// Whose entries of which service are chained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The service that writes them.
    pub service: ServiceName,
    /// Whose log; none for the platform's.
    pub tenant: Option<TenantId>,
}

/// The last seal of a chain, or what stands before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number; 0 before the first.
    pub number: i64,
    /// Its hash.
    pub hash: Hash,
}

/// One seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Counted from 1.
    pub number: i64,
    /// The hash of the one before.
    pub previous: Hash,
    /// Which entries it is about.
    pub entries: Vec<AuditEntryId>,
    /// Their hashes, in the same order.
    pub leaves: Vec<Hash>,
    /// When it was made.
    pub sealed_at: DateTime<Utc>,
    /// What all of it hashes to.
    pub hash: Hash,
}

/// A seal with what its entries say now, in its order; nothing where an entry is gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The seal.
    pub seal: Seal,
    /// Canonical JSON of the entries.
    pub entries: Vec<Option<String>>,
}

// === impl Hash ===

impl Hash {
    /// Of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut hash = Self::zero();
        hash.0.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        hash
    }

    /// What stands before the first seal.
    #[must_use]
    pub fn zero() -> Self {
        Self([0; 32])
    }

    /// As it is stored.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// As it was stored. `None` for another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Hash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, ParseHashError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| ParseHashError)?;
        Self::from_bytes(&bytes).ok_or(ParseHashError)
    }
}

impl fmt::Display for ParseHashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be a SHA-256 in 64 lower-case hex digits")
    }
}

// === impl Chain ===

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tenant {
            Some(tenant) => write!(f, "{}/{tenant}", self.service),
            None => write!(f, "{}/platform", self.service),
        }
    }
}

// === impl Head ===

impl Head {
    /// Of a chain without seals.
    #[must_use]
    pub fn start() -> Self {
        Self {
            number: 0,
            hash: Hash::zero(),
        }
    }
}

// === impl Seal ===

impl Seal {
    /// The next seal of a chain, about `entries` as they were read from the database.
    #[must_use]
    pub fn next<E: Borrow<Entry>>(chain: &Chain, head: &Head, entries: &[E]) -> Self {
        let entries: Vec<&Entry> = entries.iter().map(Borrow::borrow).collect();
        let mut seal = Self {
            // A planted seal may have the last number: its successor is refused, as one that is there, and nothing else stops.
            number: head.number.saturating_add(1),
            previous: head.hash,
            entries: entries.iter().map(|entry| entry.id).collect(),
            leaves: entries.iter().map(|entry| Hash::of(&entry.canonical())).collect(),
            sealed_at: Utc::now().trunc_subsecs(6),
            hash: Hash::zero(),
        };
        seal.hash = seal.computed(chain);
        seal
    }

    /// What the seal must hash to.
    #[must_use]
    pub fn computed(&self, chain: &Chain) -> Hash {
        let mut text = format!(
            "{RULE}\n{chain}\n{}\n{}\n{}\n",
            self.number,
            self.previous,
            moment(self.sealed_at)
        );
        for leaf in &self.leaves {
            text.push_str(&format!("{leaf}\n"));
        }
        Hash::of(&text)
    }

    /// The first of some seals, as many as belong on a page: by their entries, since one may have a single one and another
    /// a hundred.
    #[must_use]
    pub fn first_page(seals: Vec<Self>) -> Vec<Self> {
        let mut entries = 0;
        let fits = |seal: &Self| {
            entries += seal.entries.len();
            // The first one always: whoever asks takes an empty page for the end.
            entries <= 2 * ENTRIES_MAX || entries == seal.entries.len()
        };
        seals.into_iter().take_while(fits).collect()
    }

    /// The hashes as they are stored: one after the other.
    #[must_use]
    pub fn leaf_bytes(&self) -> Vec<u8> {
        self.leaves.iter().flat_map(|leaf| leaf.bytes().to_vec()).collect()
    }

    /// Hashes as they were stored; what is left over at the end is dropped, and then the seal does not hold.
    #[must_use]
    pub fn leaves_from(bytes: &[u8]) -> Vec<Hash> {
        bytes.chunks_exact(32).filter_map(Hash::from_bytes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule by other means: `printf '...' | sha256sum`.
    #[test]
    fn a_seal_hashes_as_the_rule_says() {
        let chain = Chain {
            service: ServiceName::Crm,
            tenant: None,
        };
        let seal = Seal {
            number: 2,
            previous: Hash::zero(),
            entries: Vec::new(),
            leaves: vec![Hash::of("{}")],
            sealed_at: DateTime::from_timestamp_micros(1_000_001).unwrap(),
            hash: Hash::zero(),
        };
        assert_eq!(
            seal.computed(&chain).to_string(),
            "e8c51d15157bfb8ddffbbe1e2d1cd061349e960eb2ff932579bb76c254a976b7"
        );
        let text = Hash::of("{}").to_string();
        assert_eq!(text, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
        assert_eq!(text.parse(), Ok(Hash::of("{}")));
        for damaged in [&text[1..], &text.to_uppercase(), &format!("g{}", &text[1..])] {
            assert_eq!(damaged.parse::<Hash>(), Err(ParseHashError));
        }
    }
}
