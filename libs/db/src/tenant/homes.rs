//! Which homes somebody has served, up to a bound.

use std::collections::HashSet;

use rowhouse_types::TenantId;

/// Distinct homes, counted up to a bound, so that the set stays small.
#[derive(Debug)]
pub(crate) struct Homes {
    seen: HashSet<TenantId>,
    counted_max: usize,
}

// === impl Homes ===

impl Homes {
    pub(crate) fn new(counted_max: usize) -> Self {
        Self {
            seen: HashSet::new(),
            counted_max,
        }
    }

    /// Whether the tenant's home is one more.
    pub(crate) fn note(&mut self, tenant: TenantId) -> bool {
        self.seen.len() < self.counted_max && self.seen.insert(tenant)
    }

    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.seen.len()).unwrap_or(u32::MAX)
    }

    /// Whether there are as many as are counted.
    pub(crate) fn are_full(&self) -> bool {
        self.seen.len() >= self.counted_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_counted_once_and_up_to_the_bound() {
        let mut homes = Homes::new(2);
        let (one, other) = (TenantId::generate(), TenantId::generate());
        assert_eq!([homes.note(one), homes.note(one)], [true, false]);
        assert!(!homes.are_full());
        assert_eq!([homes.note(other), homes.note(TenantId::generate())], [true, false]);
        assert!(homes.are_full() && homes.count() == 2);
    }
}
