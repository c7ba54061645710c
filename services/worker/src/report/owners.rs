//! Whose records stand in a report's file: what the requester reached when it was made, as far as it matters.

use std::collections::BTreeSet;

use rowhouse_context::Reach;
use rowhouse_types::UserId;
use uuid::Uuid;

/// Owners that are noted. The teams of a tenant have as many members together, so whoever reaches more than these reaches
/// everybody's.
const OWNERS_MAX: usize = 10_000;

/// The owners of a file's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileOwners {
    /// `None` where they are not known, or too many: then the file may hold anybody's.
    known: Option<BTreeSet<UserId>>,
}

// === impl FileOwners ===

impl Default for FileOwners {
    /// Of a file without records.
    fn default() -> Self {
        Self {
            known: Some(BTreeSet::new()),
        }
    }
}

impl FileOwners {
    /// As they are stored.
    pub(super) fn stored(ids: Option<Vec<Uuid>>) -> Self {
        let known = ids.map(|ids| ids.into_iter().map(UserId::from_uuid).collect());
        Self { known }
    }

    pub(super) fn to_stored(&self) -> Option<Vec<Uuid>> {
        let known = self.known.as_ref()?;
        Some(known.iter().map(UserId::uuid).collect())
    }

    /// Adds the owner of a record, as crm wrote them.
    pub(crate) fn add(&mut self, owner: &str) {
        let Some(known) = &mut self.known else { return };
        match owner.parse() {
            Ok(owner) if known.contains(&owner) => {}
            Ok(owner) if known.len() < OWNERS_MAX => drop(known.insert(owner)),
            _ => self.known = None,
        }
    }

    /// Whether who reaches so far may see all of the file.
    pub(super) fn are_within(&self, reach: &Reach) -> bool {
        match &self.known {
            Some(known) => known.iter().all(|owner| reach.includes(*owner)),
            None => *reach == Reach::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(owners: &[UserId]) -> FileOwners {
        let mut file = FileOwners::default();
        owners.iter().for_each(|owner| file.add(&owner.to_string()));
        file
    }

    #[test]
    fn a_file_is_within_a_reach_that_includes_every_owner() {
        let [ada, bob, eve] = [(); 3].map(|()| UserId::generate());
        let file = of(&[ada, bob, ada]);
        for (reach, within) in [
            (Reach::All, true),
            (Reach::owners([ada, bob, eve]), true),
            (Reach::owners([ada, bob]), true),
            (Reach::owners([ada, eve]), false),
            (Reach::nobody(), false),
        ] {
            assert_eq!(file.are_within(&reach), within, "{reach:?}");
        }
        assert!(of(&[]).are_within(&Reach::nobody()), "a header is nobody's");
        assert_eq!(FileOwners::stored(file.to_stored()), file);
    }

    #[test]
    fn a_file_of_owners_who_are_unknown_or_too_many_is_everybodys() {
        let many: Vec<UserId> = (0..=OWNERS_MAX).map(|_| UserId::generate()).collect();
        let mut nameless = of(&[many[0]]);
        nameless.add("");
        nameless.add(&many[0].to_string());
        for file in [of(&many), nameless, FileOwners::stored(None)] {
            assert!(!file.are_within(&Reach::owners(many.iter().copied())));
            assert!(file.are_within(&Reach::All));
            assert_eq!(file.to_stored(), None);
        }
        let most = &many[..OWNERS_MAX];
        assert!(of(most).are_within(&Reach::owners(most.iter().copied())));
    }
}
